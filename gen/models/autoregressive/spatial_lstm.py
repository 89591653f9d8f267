"""Spatial LSTM (RIDE): an image as a recurrence in two directions, with a mixture of Gaussians for each pixel.

The recurrent image density estimator was written for patches of natural images, whose grey values are real numbers [1].
A spatial LSTM reads the image from its upper left corner; its state at a pixel summarises all that lies above and to
the left, however far away, and what reached it from there. Given the state, the pixel follows a mixture of conditional
Gaussian scale mixtures: experts that each predict linearly, with an error of several sizes, for the next pixel is
nearly a linear function of its neighbours and the error has heavy tails [2]. Without the recurrence that is the older
model; with one component it is linear regression with a Gaussian error.

    log p(x) = sum_ij log p(x_ij | h_ij),    h_ij = sLSTM(x_<ij, h_i,j-1, h_i-1,j),    x_<ij: the causal neighbourhood
    p(x | h) = sum_cs p(c, s | h) N(x; a_c . h, exp(-alpha_cs))

The mixture here is given the neighbourhood beside the state, so that it begins as the older model and not below it:
a few thousand images are enough, where [1] trains for days.

Preconditioning: before training, the neighbourhood is whitened, and the best linear prediction of a pixel from it is
measured; the network models what that leaves, in units of its deviation. Outputs are translated back, into means and
precisions of the pixel itself, so densities are those of the image and no determinant is left to be added.
Algorithm: gradient descent on -log p(x), all pixels of an anti-diagonal at once; sampling keeps the states of a row.

Metrics: bits_per_dim; of a density, the bound on that of the 256 levels which dequantisation gives.

Not for colours: their pixels would need an order of channels, which this network has no groups for.

[1] L. Theis, M. Bethge. Generative Image Modeling Using Spatial LSTMs. 2015.
[2] L. Theis, R. Hosseini, M. Bethge. Mixtures of Conditional Gaussian Scale Mixtures Applied to Multiscale Image
    Representations. 2012.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least, odd
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference.whitening import zca
from gen.losses.gaussian_mixtures import GaussianMixture
from gen.losses.heads import Softmax
from gen.model import Adam, Optim
from gen.nets.mcgsm import MCGSM
from gen.nets.spatial_lstm import SpatialLSTM, Walk
from gen.pixel_model import PixelModel
from gen.registry import register

MEASURED = 500  # images that the preconditioner is measured on
MIDDLE = 64  # units between the state and a softmax, which no experts choose for
FLOOR = 1e-3  # of the whitening, in units of the mean eigenvalue: a constant border has none


@register("spatial_lstm")
class RIDE(PixelModel):
    """See module. The defaults are small; [1] takes 64 hidden units, 32 components of 4 scales, and 32 features.

    Args:
        hidden: h, units of each layer.
        layers: spatial LSTMs on top of each other; 0 leaves the mixture on the neighbourhood.
        neighbourhood: width of what a pixel sees directly, odd: so many columns of half as many rows above, and what
            lies to the left.
        components: of the mixture, C.
        scales: of each component, S.
        features: directions whose squares choose among the components, N.
        likelihood: ``softmax`` in the place of the mixture, where the space has levels.
    """

    spaces: ClassVar[tuple[str, ...]] = ("dequantized", "levels", "binary_dynamic", "binary_fixed")
    mean: Tensor
    whitening: Tensor
    prediction: Tensor
    deviation: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: int = 32,
        layers: int = 1,
        neighbourhood: int = 5,
        components: int = 8,
        scales: int = 4,
        features: int = 16,
        likelihood: Literal["mcgsm", "softmax"] = "mcgsm",
    ) -> None:
        super().__init__(spec)
        at_least(1, hidden=hidden, components=components, scales=scales, features=features)
        at_least(0, layers=layers)
        odd(neighbourhood=neighbourhood)
        if spec.shape[0] != 1:
            raise RecipeError(
                f"spatial_lstm is for images of one channel, found {spec.shape[0]}. Use a data set of grey images, or "
                "pixelcnn."
            )
        if likelihood not in ("mcgsm", "softmax"):
            raise RecipeError(f"hyper.likelihood: found '{likelihood}'. Allowed: mcgsm, softmax.")
        self.reach, seen = neighbourhood // 2, (neighbourhood // 2) * (neighbourhood + 1)
        sizes, given = [seen] + [hidden] * layers, seen + (hidden if layers else 0) + 1
        self.net = nn.ModuleList(SpatialLSTM(*pair) for pair in pairwise(sizes))
        self.head: GaussianMixture | Softmax
        self.last: nn.Module
        if likelihood == "mcgsm":
            self.head = GaussianMixture.of(spec, components * scales)
            self.last = MCGSM(given, components=components, scales=scales, features=features)
        elif spec.space.levels is not None:
            self.head = Softmax.of(spec)
            self.last = nn.Sequential(nn.Linear(given, MIDDLE), nn.ReLU(), nn.Linear(MIDDLE, self.head.outputs))
        else:
            raise RecipeError(
                f"hyper.likelihood: found 'softmax', but '{spec.space}' is continuous. Use mcgsm, or a space "
                "of levels such as levels(16)."
            )
        # The preconditioner: x_<ij less ``mean``, times ``whitening``; what it predicts; deviation of what is left.
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("whitening", torch.eye(seen))
        self.register_buffer("prediction", torch.zeros(seen))
        self.register_buffer("deviation", torch.ones(()))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """See base: measure the preconditioner."""
        x = x[:MEASURED]
        self.mean.copy_(x.mean())
        seen, value = self.neighbours(x).flatten(0, 2), (x - self.mean).permute(2, 3, 0, 1).flatten()
        scale = seen.square().mean().sqrt().clamp(min=1e-6)
        self.whitening.copy_(zca(seen / scale, FLOOR)[0] / scale)
        white = seen @ self.whitening
        ridge = FLOOR * torch.eye(white.shape[1]).to(white)
        self.prediction.copy_(torch.linalg.solve(white.T @ white / len(white) + ridge, white.T @ value / len(white)))
        self.deviation.copy_((value - white @ self.prediction).square().mean().sqrt().clamp(min=1e-3))

    def optimizers(self) -> dict[str, Optim]:
        """See base. [1] descends by momentum and ends with L-BFGS on the mixture; Adam needs neither."""
        return {"model": Adam(lr=2e-2, clip=10.0, warmup=500, decay="cosine")}

    def neighbours(self, x: Tensor) -> Tensor:
        """What each pixel sees directly, less the mean of all pixels: (B, 1, H, W) -> (H, W, B, n)."""
        padded = F.pad(x - self.mean, (self.reach, self.reach, self.reach, 0))[:, 0]
        windows = padded.unfold(1, self.reach + 1, 1).unfold(2, 2 * self.reach + 1, 1)  # (B, H, W, rows, columns)
        return windows.flatten(3)[..., : len(self.whitening)].permute(1, 2, 0, 3)  # up to the pixel itself

    def emit(self, white: Tensor, h: Tensor) -> Tensor:
        """Whitened neighbourhoods (..., n) and states (..., h) -> outputs (..., P)."""
        known = white if h is white else torch.cat([white, h], -1)
        outputs: Tensor = self.last(F.pad(known, (0, 1), value=1.0))  # a constant moves the means
        if isinstance(self.head, Softmax):
            return outputs
        logits, means, log_precisions = outputs.unbind(-2)
        means = self.mean + (white @ self.prediction).unsqueeze(-1) + self.deviation * means
        return torch.cat([logits, means, log_precisions - 2 * self.deviation.log()], -1)

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base."""
        h = white = self.neighbours(x) @ self.whitening
        for layer in self.layers():
            h = layer(h)
        return self.emit(white, h).permute(2, 3, 0, 1)

    def layers(self) -> list[SpatialLSTM]:
        """The recurrences, the lowest first."""
        return [layer for layer in self.net if isinstance(layer, SpatialLSTM)]

    def incremental(self, count: int, condition: Tensor | None = None) -> Walker:
        """See base."""
        return Walker(self, count)


class Walker:
    """The model pixel by pixel; see :class:`gen.inference.pixels.Incremental`. Each layer remembers a row of states."""

    def __init__(self, model: RIDE, count: int) -> None:
        _, height, width = model.spec.shape
        self.model, self.reach = model, model.reach
        self.x = model.mean.new_zeros(count, height + self.reach, width + 2 * self.reach)  # less the mean
        self.layers = [Walk(layer, count, width) for layer in model.layers()]

    def read(self, i: int, j: int) -> Tensor:
        """See base."""
        window = self.x[:, i : i + self.reach + 1, j : j + 2 * self.reach + 1].flatten(1)
        h = white = window[:, : len(self.model.whitening)] @ self.model.whitening
        for layer in self.layers:
            h = layer(h, i, j)
        return self.model.emit(white, h)

    def write(self, i: int, j: int, values: Tensor) -> None:
        """See base."""
        self.x[:, i + self.reach, j + self.reach] = values[:, 0] - self.model.mean
