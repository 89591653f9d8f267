"""The Row LSTM: a state per column, carried from row to row; see :mod:`gen.nets.recurrent`.

A row's states depend on those of the row above only, through a convolution along the row, so that a row is one step.
The field of a pixel widens by one column with every row above it: a triangle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.nets.fronts import Pixel
from gen.nets.masked import Step
from gen.nets.recurrent import RecurrentBlock, lstm


class RowLSTM(RecurrentBlock):
    """See module; 3 x 1 from state to state, and from input to state with its right third masked."""

    taps = ((-1, 0), (-1, -1), (-1, 1))
    sources = 2

    @staticmethod
    def front(pixel: Pixel) -> int:
        """See base: the row."""
        return pixel[0]

    def seen(self, x: Tensor) -> Tensor:
        """See base: the neighbour on the left, and the pixel."""
        return torch.cat([F.pad(x, (0, 0, 0, 0, 1, -1)), x], 3)

    def steps(self, batch: int, width: int) -> Step:
        """See :class:`gen.nets.masked.Steppable`."""
        return _Steps(self, batch, width)


class _Steps:
    """A :class:`RowLSTM` pixel by pixel; a :data:`gen.nets.masked.Step`. What the states above contribute is worked out
    for a whole row, when the row begins."""

    def __init__(self, layer: RowLSTM, batch: int, width: int) -> None:
        (weight,), (bias,), (state,), (initial,) = layer.matrices()
        self.up, self.weight, self.bias = layer.up.steps(batch, width), weight, bias
        self.state = state[[1, 0, 2]].movedim(0, 1).flatten(1)  # (4h, 3h): above left, above, above right
        self.x = weight.new_zeros(
            width + 1, weight.shape[1] // 2, batch
        )  # the row's features behind a 0: (W + 1, I, B)
        self.pairs = [self.x[j : j + 2].view(-1, batch) for j in range(width)]  # views: a pixel behind its neighbour
        # h of the row, between two outside the image, and c: (W + 2, h, B), (W, h, B).
        self.hidden, self.cell = (s.expand(width + n, -1, batch).clone() for s, n in zip(initial, (2, 0), strict=True))
        self.row = -1

    def __call__(self, x: Tensor, i: int, j: int) -> Tensor:
        """See :data:`gen.nets.masked.Step`."""
        if i != self.row:
            self.row = i
            windows = self.hidden.unfold(0, 3, 1).permute(0, 3, 1, 2).flatten(1, 2)  # (W, 3h, B)
            self.above, self.cells = (self.bias + self.state @ windows).unbind(), self.cell.clone().unbind()
        self.x[j + 1] = x
        hidden, self.cell[j] = lstm(torch.addmm(self.above[j], self.weight, self.pairs[j]), self.cells[j])
        self.hidden[j + 1] = hidden
        return x + self.up(hidden, i, j)
