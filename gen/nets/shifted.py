"""Shifted convolutions: causal without masks, at several resolutions, in two streams (PixelCNN++).

A convolution whose kernel ends at the pixel itself needs no mask, only an image padded on the right sides. Two streams
see everything before a pixel between them:

    above    kernels of 2 x 3: its own row and the one before. The image enters one row late: row i knows rows before i
    left     kernels of 2 x 2: up and to the left. The image enters one row or one column late, and every layer hears
             what the stream above has found

Both run through the same scales, each half as high and wide as the one before. The feature (I, J) of a coarser scale
is that of pixel (2 I, 2 J) and those around it that the kernel covers, and the four pixels from (2 I, 2 J) to
(2 I + 1, 2 J + 1) hear of it on the way back: still nothing of themselves. Every layer on the way back also hears what
its mirror image found on the way there (Salimans et al. 2017, "PixelCNN++", figure 2 and sections 2.3 and 2.4).

Weights are normalised, w = g v / |v|, and g and biases set by the first images such that every layer's features have
mean 0 and a given variance (Salimans and Kingma 2016, "Weight Normalization").

When an image grows pixel by pixel the same code runs on pieces, the stream above on rows and the stream to the left on
pixels, a coarser scale on every other one of them: :mod:`gen.nets.shifted_steps`.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Found = list[list[Tensor]]
"""Features after every block, scale by scale, the finest first: (B, F, H, W), (B, F, H / 2, W / 2), ..."""

ABOVE, LEFT = (2, 3), (2, 2)  # kernels


class NormedConv2d(nn.Conv2d):
    """A convolution with normalised weights: (B, I, H, W) -> (B, O, ...).

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: height and width.
        stride: of the outputs.
        pad: zeros to the left, to the right, above and below.
        start: standard deviation of the features after initialisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int] = (1, 1),
        *,
        stride: int = 1,
        pad: tuple[int, int, int, int] = (0, 0, 0, 0),
        start: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.pad, self.start = pad, start
        self.gain = nn.Parameter(self._length().detach())

    def _length(self) -> Tensor:
        """|v| of every output, (O, 1, 1, 1)."""
        return self.weight.square().sum((1, 2, 3), keepdim=True).sqrt()

    def kernel(self) -> Tensor:
        """w = g v / |v|, (O, I, height, width)."""
        return self.weight * (self.gain / self._length())

    def forward(self, x: Tensor) -> Tensor:
        """See base."""
        return F.conv2d(F.pad(x, self.pad), self.kernel(), self.bias, self.stride)


def shifted(
    inputs: int, outputs: int, kernel_size: tuple[int, int], *, stride: int = 1, start: float = 1.0
) -> NormedConv2d:
    """A convolution over two rows, its own the last, and a column to the left, its own and, if ``ABOVE``, one to the
    right: (B, I, H, W) -> (B, O, H / stride, W / stride), rounded up."""
    return NormedConv2d(inputs, outputs, kernel_size, stride=stride, pad=(1, kernel_size[1] - 2, 1, 0), start=start)


def concat_elu(x: Tensor) -> Tensor:
    """F features and their negatives through ELU: (B, F, ...) -> (B, 2 F, ...)."""
    return F.elu(torch.cat([x, -x], 1))


class Walk(Protocol):
    """How a network is run: on whole images, or on a piece that follows those before it."""

    def conv(self, layer: NormedConv2d, x: Tensor) -> Tensor:
        """The layer's features of the piece whose inputs are x."""
        ...

    def here(self, told: Tensor) -> Tensor:
        """Of what the other stream found, what belongs to this piece."""
        ...

    def coarser(self, level: Level, x: Tensor, told: Found) -> tuple[Tensor, Found]:
        """Down to the next scale and up again: features of this piece, and what was found at the coarser scales."""
        ...


class Whole:
    """On whole images."""

    def conv(self, layer: NormedConv2d, x: Tensor) -> Tensor:
        """See base."""
        features: Tensor = layer(x)
        return features

    def here(self, told: Tensor) -> Tensor:
        """See base."""
        return told

    def coarser(self, level: Level, x: Tensor, told: Found) -> tuple[Tensor, Found]:
        """See base."""
        found = level.inner(level.shrink(x), told, self)
        grown = F.pixel_shuffle(level.grow(found[0][-1]), 2)
        return grown[:, :, : x.shape[2], : x.shape[3]], found


class GatedResnet(nn.Module):
    """x + a * sigmoid(b), with a and b from two convolutions of x and what else is heard: (B, F, H, W) -> same.

    Args:
        features: F.
        kernel_size: of the convolutions.
        hears: features of the other things heard.
        dropout: of the features between the convolutions.
    """

    def __init__(self, features: int, kernel_size: tuple[int, int], hears: int, dropout: float) -> None:
        super().__init__()
        self.first = shifted(2 * features, features, kernel_size)
        self.heard = NormedConv2d(2 * hears, features) if hears else None
        self.drop = nn.Dropout(dropout)
        self.second = shifted(2 * features, 2 * features, kernel_size, start=0.1)

    def forward(self, x: Tensor, others: list[Tensor], walk: Walk) -> Tensor:
        """See class."""
        h = walk.conv(self.first, concat_elu(x))
        if self.heard is not None:
            h = h + walk.conv(self.heard, concat_elu(torch.cat(others, 1)))
        a, b = walk.conv(self.second, self.drop(concat_elu(h))).chunk(2, 1)
        return x + a * b.sigmoid()


class Level(nn.Module):
    """One stream at one scale and those below it.

    Args:
        features: F, at all scales.
        kernel_size: ``ABOVE`` or ``LEFT``.
        resnets: blocks on the way down, at each scale; one more on the way up, but at the coarsest.
        scales: at least 1.
        hears: whether it is told what the other stream found.
        dropout: see :class:`GatedResnet`.
    """

    inner: Level
    shrink: NormedConv2d
    grow: NormedConv2d

    def __init__(
        self, features: int, kernel_size: tuple[int, int], *, resnets: int, scales: int, hears: bool, dropout: float
    ) -> None:
        super().__init__()
        self.deeper = scales > 1
        told = features if hears else 0
        self.down = nn.ModuleList(GatedResnet(features, kernel_size, told, dropout) for _ in range(resnets))
        if self.deeper:
            self.shrink = shifted(features, features, kernel_size, stride=2)
            self.inner = Level(features, kernel_size, resnets=resnets, scales=scales - 1, hears=hears, dropout=dropout)
            self.grow = NormedConv2d(features, 4 * features)
        back = resnets + self.deeper
        self.up = nn.ModuleList(GatedResnet(features, kernel_size, told + features, dropout) for _ in range(back))

    def forward(self, x: Tensor, told: Found, walk: Walk) -> Found:
        """Features (B, F, H, W) and what the other stream found (empty without one) -> what was found; the stream's
        features are the last ones of the finest scale."""
        others = iter([[walk.here(t)] for t in told[0]] if told else [[] for _ in (*self.down, *self.up)])
        found, passed, coarser = [], [x], Found()
        for block in self.down:
            x = block(x, next(others), walk)
            found.append(x)
            passed.append(x)
        if self.deeper:
            x, coarser = walk.coarser(self, x, told[1:])
        else:
            passed.pop()
        for block in self.up:
            x = block(x, [*next(others), passed.pop()], walk)
            found.append(x)
        return [found or [x], *coarser]


class TwoStreams(nn.Module):
    """Both streams: images (B, C, H, W) of any size -> (B, P, H, W).

    Args:
        channels: C.
        outputs: P.
        features: F.
        resnets: see :class:`Level`; at least 1.
        scales: at least 1.
        dropout: see :class:`GatedResnet`.
    """

    def __init__(
        self, channels: int, outputs: int, *, features: int, resnets: int, scales: int, dropout: float
    ) -> None:
        super().__init__()
        self.enter_above = NormedConv2d(channels + 1, features, ABOVE)
        self.enter_row = NormedConv2d(channels + 1, features, (1, 3))
        self.enter_left = NormedConv2d(channels + 1, features, (2, 1))
        self.above = Level(features, ABOVE, resnets=resnets, scales=scales, hears=False, dropout=dropout)
        self.left = Level(features, LEFT, resnets=resnets, scales=scales, hears=True, dropout=dropout)
        self.leave = NormedConv2d(features, outputs)

    @staticmethod
    def framed(x: Tensor) -> Tensor:
        """With a channel of ones, which tells the image from what surrounds it: two rows of zeros above, a column to
        the left and one to the right, (B, C + 1, H + 2, W + 2)."""
        return F.pad(torch.cat([x, torch.ones_like(x[:, :1])], 1), (1, 1, 2, 0))

    def forward(self, x: Tensor) -> Tensor:
        """See class."""
        walk, x = Whole(), self.framed(x)
        told = self.above(self.enter_above(x[:, :, :-1]), [], walk)
        start = self.enter_row(x[:, :, 1:-1]) + self.enter_left(x[:, :, 1:, :-2])
        outputs: Tensor = self.leave(F.elu(self.left(start, told, walk)[0][-1]))
        return outputs

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Sets g and the biases by some images."""
        hooks = [m.register_forward_hook(_standardise) for m in self.modules() if isinstance(m, NormedConv2d)]
        self(x)
        for hook in hooks:
            hook.remove()


def _standardise(layer: NormedConv2d, inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
    """Changes a layer so that its features have mean 0 and the deviation it is to start with; returns these."""
    assert layer.bias is not None
    deviation, mean = torch.std_mean(features, (0, 2, 3), correction=0)
    gain = layer.start / deviation.clamp(min=1e-2)  # what hardly varies is not blown up
    layer.gain.mul_(gain.view_as(layer.gain))
    layer.bias.sub_(mean).mul_(gain)
    return (features - mean[:, None, None]) * gain[:, None, None]
