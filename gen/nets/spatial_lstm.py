"""The spatial LSTM: a memory that walks over an image from its upper left corner, in two directions at once.

    (g, o, i, f_row, f_col) = A (x, h_left, h_above) + b       g through tanh, the gates through a sigmoid
    c = g * i + c_left * f_col + c_above * f_row
    h = tanh(c * o)

(Theis & Bethge 2015, section 2.2; after Graves & Schmidhuber 2009.) A pixel waits for its left and its upper neighbour
and for no other, so all pixels of an anti-diagonal are computed at once: H + W - 1 steps where an image has H W pixels.
To find them, the image is skewed: each row is moved by one column more than the row above it, and anti-diagonals become
columns. What the input contributes is known for the whole image before the first step.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def skew(x: Tensor) -> Tensor:
    """(H, W, ...) -> (H, H + W - 1, ...): row i begins in column i, with zeros on both sides."""
    height, width = x.shape[:2]
    padded = F.pad(x, (0, 0) * (x.ndim - 2) + (0, height))  # rows of W + H, to be read as rows of W + H - 1
    return padded.flatten(0, 1)[: height * (width + height - 1)].unflatten(0, (height, -1))


def unskew(x: Tensor) -> Tensor:
    """(H, H + W - 1, ...) -> (H, W, ...): the inverse of :func:`skew`."""
    height, columns = x.shape[:2]
    padded = F.pad(x.flatten(0, 1), (0, 0) * (x.ndim - 2) + (0, height))
    return padded.unflatten(0, (height, columns + 1))[:, : columns + 1 - height]


class SpatialLSTM(nn.Module):
    """See module. (H, W, B, D) -> (H, W, B, h); outside the image, h and c are 0.

    With biases of 0, the two gates forget one half of either side's memory, and what both agree on stays.

    Args:
        inputs: D.
        hidden: h.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(inputs, 5 * hidden)
        nn.init.zeros_(self.input.bias)
        self.state = nn.Parameter(torch.empty(2 * hidden, 5 * hidden).uniform_(-1, 1) / math.sqrt(2 * hidden))

    def forward(self, x: Tensor) -> Tensor:
        """See class."""
        height, width, batch, _ = x.shape
        h = c = x.new_zeros(0, batch, self.hidden)  # of the rows that the front before has, from ``top`` on
        top, fronts = 0, []
        for t, pre in enumerate(skew(self.input(x)).unbind(1)):
            first, last = max(0, t - width + 1), min(height, t + 1)
            h, c = (F.pad(s, (0, 0, 0, 0, 1, 1)) for s in (h, c))  # one row outside the image on either side
            above, left = slice(first - top, last - top), slice(first - top + 1, last - top + 1)
            h, c = self.cell(pre[first:last], h[left], h[above], c[left], c[above])
            fronts.append(F.pad(h, (0, 0, 0, 0, first, height - last)))
            top = first
        return unskew(torch.stack(fronts, 1))

    def cell(
        self, pre: Tensor, h_left: Tensor, h_above: Tensor, c_left: Tensor, c_above: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the input contributes, (..., 5 h), and the neighbours' states, (..., h) -> h and c of the pixels."""
        pre = pre + torch.cat([h_left, h_above], -1) @ self.state
        o, i, f_row, f_col = pre[..., self.hidden :].sigmoid().chunk(4, -1)
        c = pre[..., : self.hidden].tanh() * i + c_left * f_col + c_above * f_row
        return (c * o).tanh(), c


class Walk:
    """A :class:`SpatialLSTM` pixel by pixel, in raster order; a pixel may be repeated.

    Args:
        layer: with the weights as they are.
        batch: images, B.
        width: columns of an image.
    """

    def __init__(self, layer: SpatialLSTM, batch: int, width: int) -> None:
        self.layer, outside = layer, layer.state.new_zeros(batch, layer.hidden)
        self.outside = [(outside, outside)] * (width + 1)
        # h and c of the row above and of this one; first what lies to the left of the image.
        self.above, self.here = list(self.outside), list(self.outside)
        self.row = 0

    def __call__(self, x: Tensor, i: int, j: int) -> Tensor:
        """Input of pixel (i, j), (B, D) -> its h, (B, h)."""
        if i != self.row:
            self.above, self.here, self.row = self.here, list(self.outside), i
        (h_left, c_left), (h_above, c_above) = self.here[j], self.above[j + 1]
        self.here[j + 1] = self.layer.cell(self.layer.input(x), h_left, h_above, c_left, c_above)
        return self.here[j + 1][0]
