"""Sparse coding: a patch is a combination of few atoms from an overcomplete dictionary.

Where the factor model gives every image a little of every pattern, sparse coding gives every patch a few out of more
atoms than it has dimensions: x = D h + noise with a Laplace prior on h, whose posterior mode is the code. The prior
makes most entries exactly zero, and what D learns under it are strokes on digits and edges on photographs [1]. Without
a bound on the atoms the penalty is meaningless, since D could grow and h shrink.

Objective, over random patches x with their mean removed:

    min_D  E_x  min_h  1/2 |x - D h|^2 + lambda |h|_1     subject to |d_k| <= 1

The mean is coded separately, as one more number per patch that costs nothing; else the largest atoms learn brightness.
There is no further whitening: it evens out the 1/f spectrum of photographs, but digits have pixels that never vary,
and dividing by their deviations would leave their noise.

Algorithm: alternate, on every batch of patches,

    codes        h* by FISTA with D fixed (`gen.inference.sparse`)
    dictionary   one step of SGD on E 1/2 |x - D [h*]|^2, the gradient of the whole objective in D since h* minimises it
    projection   d_k <- d_k / max(1, |d_k|), which SGD then needs (projected gradient)

Plain SGD with a large rate, as in [1], not Adam: the curvature E[h h^T] is much the same for all entries, and Adam's
rescaling stops at an objective 10 % higher on digits. Atoms start as patches, so that none is far from the data and
none dies (`unused` watches this). Nothing is shared between patches but D: ranks may differ in everything else.

Logged, per patch: `objective`; `error`, the mean squared error of a pixel; `zeros`, the share of zeros among the codes;
`violation`, the largest violation of the optimality conditions in units of lambda; `unused`, the share of atoms that no
patch of the batch uses.

[1] B. Olshausen, D. Field (1996). Emergence of simple-cell receptive field properties by learning a sparse code for
    natural images.
[2] J. Mairal, F. Bach, J. Ponce, G. Sapiro (2010). Online learning for matrix factorization and sparse coding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference import sparse
from gen.model import SGD, Batch, GenerativeModel, Metrics, Optim, Progress, Update
from gen.registry import register


@register("sparse_coding")
class SparseCoding(GenerativeModel):
    """Dictionary learning on patches of images.

    Args:
        atoms: K, columns of the dictionary.
        patch: height and width of a patch in pixels.
        penalty: lambda, in units of the space; larger means fewer atoms per patch.
        patches_per_image: random patches drawn from every image of a batch.
        iterations: FISTA steps per batch in training, at most. More make a batch's gradient exact; fewer, more batches.
    """

    spaces = ("signed",)

    offsets: Tensor  # (d,) pixels of a patch, counted in the flat image from the patch's corner
    tiles: Tensor  # (P,) corners of the fewest evenly spaced patches that cover an image

    def __init__(
        self,
        spec: DataSpec,
        *,
        atoms: int = 200,
        patch: int = 10,
        penalty: float = 0.5,
        patches_per_image: int = 4,
        iterations: int = 50,
    ) -> None:
        super().__init__(spec)
        _, height, width = spec.shape
        if not 2 <= patch <= min(height, width):
            raise RecipeError(
                f"hyper.patch: found {patch}, allowed 2 to {min(height, width)}; a patch must fit into the "
                f"{height}x{width} images."
            )
        if not penalty > 0:
            raise RecipeError(f"hyper.penalty: found {penalty}, allowed above 0; start at the default and halve it.")
        for name, value in {"atoms": atoms, "patches_per_image": patches_per_image, "iterations": iterations}.items():
            if value < 1:
                raise RecipeError(f"hyper.{name}: found {value}, allowed 1 or more; leave it out for the default.")
        self.patch, self.penalty, self.patches_per_image, self.iterations = (
            patch,
            penalty,
            patches_per_image,
            iterations,
        )

        pixel = torch.arange(spec.dims).view(spec.shape)
        self.register_buffer("offsets", pixel[:, :patch, :patch].flatten(), persistent=False)
        rows, columns = (
            torch.linspace(0, side - patch, math.ceil(side / patch)).round().long() for side in (height, width)
        )
        self.register_buffer("tiles", pixel[0][rows][:, columns].flatten(), persistent=False)
        self.dictionary = nn.Parameter(nn.functional.normalize(torch.randn(len(self.offsets), atoms), dim=0))  # (d, K)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """See base."""
        return {"dictionary": [self.dictionary]}

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"dictionary": SGD(lr=5.0, decay="linear")}

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """See base. Atoms become patches, evenly spaced among those of more than median contrast."""
        candidates = self.centred(self.extract(x, self.tiles))[0]
        contrast = candidates.norm(dim=1)
        candidates = candidates[contrast > contrast.median()]
        count = min(len(candidates), self.dictionary.shape[1])
        if count:
            chosen = torch.linspace(0, len(candidates) - 1, count).round().long()
            self.dictionary[:, :count] = nn.functional.normalize(candidates[chosen], dim=1).T

    def extract(self, x: Tensor, corners: Tensor) -> Tensor:
        """Patches (B * P, d) of images (B, C, H, W) at the corners, (P,) for all images or (B, P) for each."""
        pixels = (corners.unsqueeze(-1) + self.offsets).expand(len(x), -1, -1)  # (B, P, d)
        return x.flatten(1).gather(1, pixels.flatten(1)).view(-1, len(self.offsets))

    def centred(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (N, d) without their means, and the means, (N, 1)."""
        mean = x.mean(1, keepdim=True)
        return x - mean, mean

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """1/2 |x - D [h*]|^2, mean over random patches."""
        _, height, width = self.spec.shape
        size = (len(batch.x), self.patches_per_image)
        row = torch.randint(height - self.patch + 1, size, device=batch.x.device)
        column = torch.randint(width - self.patch + 1, size, device=batch.x.device)
        x = self.centred(self.extract(batch.x, row * width + column))[0]
        with torch.no_grad():
            h = sparse.fista(x, self.dictionary, self.penalty, iterations=self.iterations)
        return self.reconstruct(x, h)

    def reconstruct(self, x: Tensor, h: Tensor) -> tuple[Tensor, Metrics]:
        """1/2 |x - D h|^2, mean over centred patches (N, d) with codes (N, K); and the metrics."""
        D = self.dictionary.detach()
        loss = (x - h @ self.dictionary.T).square().sum(1).mean() / 2
        return loss, {
            "objective": sparse.objective(x, D, h, self.penalty).mean(),
            "error": 2 * loss.detach() / x.shape[1],
            "zeros": (h == 0).to(x).mean(),
            "violation": sparse.kkt_violation(x, D, h, self.penalty).amax(),
            "unused": (h == 0).all(0).to(x).mean(),
        }

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """One step of projected SGD."""
        yield Update("dictionary", *self.loss(next(batches)))
        with torch.no_grad():
            norm = self.dictionary.norm(dim=0)
            # The margin is above rounding: a projected atom is left exactly as it is.
            self.dictionary.div_(torch.where(norm > 1 + 1e-6, norm, 1))

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. On the patches that cover the images and converged codes, so that nothing is left to chance."""
        x = self.centred(self.extract(batch.x, self.tiles))[0]
        _, metrics = self.reconstruct(x, sparse.fista(x, self.dictionary, self.penalty))
        return {"loss": metrics["objective"], **metrics}

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`. For each of the P covering patches its mean and code, (B, P * (1 + K))."""
        patches, mean = self.centred(self.extract(x, self.tiles))
        return torch.cat([mean, sparse.fista(patches, self.dictionary, self.penalty)], 1).view(len(x), -1)

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`. Pixels in several patches are averaged."""
        mean, h = code.view(-1, 1 + self.dictionary.shape[1]).split([1, self.dictionary.shape[1]], 1)
        pixels = (self.tiles.unsqueeze(1) + self.offsets).flatten()
        total = code.new_zeros(len(code), self.spec.dims)
        total.index_add_(1, pixels, (mean + h @ self.dictionary.T).view(len(code), -1))
        return (total / pixels.bincount(minlength=self.spec.dims)).unflatten(1, self.spec.shape)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`. Atoms from coarse to fine (by their squared differences); grey is 0."""
        atoms = self.dictionary.T.unflatten(1, (-1, self.patch, self.patch))
        fineness = atoms.diff(dim=2).square().sum((1, 2, 3)) + atoms.diff(dim=3).square().sum((1, 2, 3))
        scaled = atoms / atoms.abs().amax((1, 2, 3), keepdim=True) / 2 + 1 / 2
        return {"atoms": scaled[fineness.argsort()]}
