"""Two streams of shifted convolutions, pixel by pixel: :mod:`gen.nets.shifted` on images that grow in raster order.

The stream above runs once for every row, the stream to the left once for every pixel, and a coarser scale when one of
its own pixels begins: a quarter as often. Every layer remembers its inputs in two rows, and what a coarser pixel grows
into is kept for the four it is meant for (Ramachandran et al. 2017, "Fast Generation for Convolutional Autoregressive
Models", section 2.3). No gradient flows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.nets.shifted import Found, Level, NormedConv2d, TwoStreams


class Piece:
    """A stream at one scale on one row of an image, or one pixel, after those before it; a :class:`Walk`.

    Args:
        batch: images, B.
        width: columns at this scale.
        by_pixel: a piece is a pixel, not a row.
    """

    def __init__(self, batch: int, width: int, *, by_pixel: bool) -> None:
        self.batch, self.width, self.by_pixel = batch, width, by_pixel
        self.i, self.columns = 0, slice(0, width)
        self.kernels: dict[nn.Module, Tensor] = {}  # of each layer
        self.rows: dict[nn.Module, Tensor] = {}  # inputs of each layer that looks around, row i and the one before it
        self.below: Piece | None = None
        self.grown = torch.empty(0)  # of the coarser scale, for rows i and i + 1, i even, (B, F, 2, W)
        self.found: Found = []  # likewise

    def move(self, i: int, j: int) -> None:
        """To row i, and to column j if pieces are pixels."""
        if i != self.i:
            self.i = i
            for rows in self.rows.values():
                rows[:, :, 0] = rows[:, :, 1]
        if self.by_pixel:
            self.columns = slice(j, j + 1)

    def conv(self, layer: NormedConv2d, x: Tensor) -> Tensor:
        """See base."""
        if layer not in self.kernels:
            self.kernels[layer] = layer.kernel().detach()
        if layer.kernel_size != (1, 1):
            self._remember(layer, x)
            j, x = self.columns.start, self.rows[layer]
            x = x[..., j : j + layer.kernel_size[1]] if self.by_pixel else x
        return F.conv2d(x, self.kernels[layer], layer.bias, layer.stride)

    def _remember(self, layer: NormedConv2d, x: Tensor) -> None:
        if layer not in self.rows:
            self.rows[layer] = x.new_zeros(self.batch, x.shape[1], 2, self.width + sum(layer.pad[:2]))
        self.rows[layer][:, :, 1, 1 + self.columns.start : 1 + self.columns.stop] = x[:, :, 0]

    def here(self, told: Tensor) -> Tensor:
        """See base."""
        return told[..., self.columns]

    def coarser(self, level: Level, x: Tensor, told: Found) -> tuple[Tensor, Found]:
        """See base: it runs where a coarser pixel begins, and is remembered for the other three."""
        j = self.columns.start
        if self.below is None:
            self.below = Piece(self.batch, (self.width + 1) // 2, by_pixel=self.by_pixel)
            self.grown = x.new_zeros(self.batch, x.shape[1], 2, 2 * self.below.width)
        if self.i % 2 or j % 2:
            self._remember(level.shrink, x)
        else:
            self.below.move(self.i // 2, j // 2)
            self.found = level.inner(self.conv(level.shrink, x), told, self.below)
            grown = F.pixel_shuffle(self.conv(level.grow, self.found[0][-1]), 2)
            self.grown[..., j : j + grown.shape[3]] = grown
        return self.grown[:, :, self.i % 2 : self.i % 2 + 1, self.columns], self.found


class StreamsByPixel:
    """A :class:`TwoStreams` pixel by pixel; see :class:`gen.inference.pixels.Incremental`. No gradient flows.

    Args:
        net: the network, its weights as they are now.
        blank: zeros, (B, C, H, W).
        enter: what is done to the values of an image before they enter the network.
    """

    def __init__(self, net: TwoStreams, blank: Tensor, enter: Callable[[Tensor], Tensor]) -> None:
        self.net, self.enter = net, enter
        self.x = net.framed(enter(blank))
        self.above, self.left = (Piece(len(blank), blank.shape[3], by_pixel=p) for p in (False, True))
        self.row, self.told = -1, Found()

    def read(self, i: int, j: int) -> Tensor:
        """What the network computes at pixel (i, j) of the images written so far, (B, P)."""
        net = self.net
        if i != self.row:  # the stream above reads the rows before this one
            self.row = i
            self.above.move(i, 0)
            self.told = net.above(net.enter_above(self.x[:, :, i : i + 2]), [], self.above)
        self.left.move(i, j)
        start = net.enter_row(self.x[:, :, i + 1 : i + 2, j : j + 3])
        start = start + net.enter_left(self.x[:, :, i + 1 : i + 3, j : j + 1])
        return net.leave(F.elu(net.left(start, self.told, self.left)[0][-1]))[:, :, 0, 0]

    def write(self, i: int, j: int, values: Tensor) -> None:
        """Set the values of pixel (i, j), (B, C)."""
        self.x[:, :-1, i + 2, j + 1] = self.enter(values)
