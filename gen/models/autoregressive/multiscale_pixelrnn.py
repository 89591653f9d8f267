"""Multi-scale PixelRNN: a small image first, then the pixels between its pixels.

In raster order the first rows are drawn blind to what the whole is to become, and what is far away is known through a
long chain of pixels only. Here every k-th pixel of every k-th row comes first: a small image, modelled as any image is,
in which all that is far apart is k times nearer. A second network draws the rest in raster order. It is told the whole
small image, those of its pixels that lie below and to the right included: a convolutional network enlarges it to a map
as large as the image, and each layer is biased by a 1x1 convolution of that map [1].

    log p(x) = log p(x_s) + log p(x | x_s),      x_s = every k-th pixel
    log p(x | x_s) = sum over the other pixels of log p(x_i | x_1, ..., x_{i-1}, x_s)

Pixels of the small image are known to the second network and not scored again, so the two terms add up to an exact
likelihood; only the order of the chain rule is another one. Completions follow it: unknown pixels of the small image
are drawn from its known ones before them, the others from all of it.

Net: two networks of gated convolutions (:mod:`gen.nets.gated`) where [1] has layers of Row LSTM or Diagonal BiLSTM;
their gates take the bias as the states of these do. The small image is enlarged by two 3x3 convolutions, a transposed
one that makes k x k pixels of each, and a 3x3 one.
Algorithm: gradient descent on -log p(x), both networks at once. Sampling: pixel by pixel, the small image first.

Metrics: bits_per_dim.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Section 3.6.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference.pixels import Canvas, ancestral
from gen.losses.heads import Softmax
from gen.model import Adam, Optim
from gen.nets.gated import GatedNet
from gen.nets.gated_steps import GatedByPixel
from gen.pixel_model import PixelModel
from gen.registry import register


@register("multiscale_pixelrnn")
class MultiScalePixelRNN(PixelModel):
    """See module.

    ``outputs`` are those of the small image's network at its pixels, and of the other one's everywhere else.

    Args:
        step: k, from 2; every k-th pixel of every k-th row is in the small image, the first ones included.
        features: of either stack of both networks; a multiple of the image's channels.
        layers: of the second network; each after the first widens the field by one pixel.
        small_layers: of the small image's network, which must see far and has few pixels to look at.
        kernel: width of the first layer, odd, at least 3.
        head: features before the softmax's layer; a multiple of the image's channels.
        maps: F, features of the enlarged small image.
    """

    head: Softmax
    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        step: int = 2,
        features: int = 16,
        layers: int = 3,
        small_layers: int = 6,
        kernel: int = 5,
        head: int = 32,
        maps: int = 16,
    ) -> None:
        super().__init__(spec)
        at_least(1, maps=maps, layers=layers, small_layers=small_layers)
        colours, *sides = spec.shape
        if not 2 <= step <= min(sides):
            raise RecipeError(
                f"hyper.step: found {step}, allowed from 2 to {min(sides)} for images of {sides[0]}x{sides[1]}. Use 2."
            )
        self.step, self.head = step, Softmax.of(spec)
        small, large = (
            GatedNet(
                *(colours, self.head.outputs),
                features=features,
                layers=count,
                kernel=kernel,
                head=head,
                condition=condition,
            )
            for count, condition in ((small_layers, 0), (layers, maps))
        )
        self.small, self.large = small, large
        self.enlarge = nn.Sequential(
            nn.Conv2d(colours, maps, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(maps, maps, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(maps, maps, step, step),
            nn.ReLU(),
            nn.Conv2d(maps, maps, 3, padding=1),
        )

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=5e-3, clip=1.0, warmup=500, decay="cosine")}

    def subsampled(self, x: Tensor) -> Tensor:
        """Every k-th pixel, a view: (..., H, W) -> (..., H / k, W / k), rounded up."""
        return x[..., :: self.step, :: self.step]

    def condition(self, small: Tensor) -> Tensor:
        """The map that biases the second network: small images (B, C, H / k, W / k) -> (B, F, H, W)."""
        _, height, width = self.spec.shape
        enlarged: Tensor = self.enlarge(small)
        return enlarged[:, :, :height, :width]

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base and class; "before" is what comes first in this model's order."""
        small = self.subsampled(x).contiguous()
        outputs: Tensor = self.large(x, self.condition(small))
        outputs = outputs.clone()
        self.subsampled(outputs).copy_(self.small(small))
        return outputs

    @torch.no_grad()
    def draw(self, x: Tensor, known: Tensor, condition: Tensor | None, temperature: float) -> Tensor:
        """See base: the small image, and then what completes it."""
        canvas = Canvas.noisy(self.head, x, known, temperature)
        pixels, kept, noise = (self.subsampled(t) for t in (canvas.x, canvas.known, canvas.noise))
        small = Canvas(self.head, pixels, kept, noise, temperature)
        drawn = ancestral(GatedByPixel(self.small, len(x), small.x.shape[3]), small)
        given, known = canvas.x.clone(), known.clone()
        self.subsampled(given).copy_(drawn)
        self.subsampled(known).fill_(True)
        net = GatedByPixel(self.large, len(x), x.shape[3], self.condition(drawn))
        return ancestral(net, replace(canvas, x=given, known=known))
