"""The Diagonal LSTM: a state that reaches every pixel from its left and its upper neighbour; see
:mod:`gen.nets.recurrent`.

The pixels of an anti-diagonal do not wait for each other, so that each diagonal is one step. Everything above and to
the left informs a pixel. The bidirectional layer lets a second LSTM come from the upper right. What that one knows of
a pixel includes the pixels to the right of it, which are yet to come: its map is moved down by one row before the two
are added. Then a pixel is informed of the features of all rows above it, and of its own row up to itself. (A feature
leaves out the value of its own pixel, by mask A; so the last value of the row above is known only where the first
convolution reaches it.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.nets.fronts import Pixel
from gen.nets.masked import Step
from gen.nets.recurrent import RecurrentBlock, lstm


class DiagonalLSTM(RecurrentBlock):
    """See module; 2 x 1 from state to state along the diagonals, 1 x 1 from input to state."""

    taps = ((0, -1), (-1, 0))

    @staticmethod
    def front(pixel: Pixel) -> int:
        """See base: the anti-diagonal."""
        return pixel[0] + pixel[1]

    def merged(self, hidden: Tensor, width: int) -> Tensor:
        """See base: the second map one row further down, its first row being 0."""
        if len(hidden) == 1:
            return hidden[0]
        return hidden[0] + F.pad(hidden[1], (0, 0, 0, 0, width, -width))

    def steps(self, batch: int, width: int) -> Step:
        """See :class:`gen.nets.masked.Steppable`."""
        return _Steps(self, batch, width)


class _Steps:
    """A :class:`DiagonalLSTM` pixel by pixel; a :data:`gen.nets.masked.Step`.

    The first LSTM goes along with the pixels. The second needs the whole of a row, and nobody needs it before the next
    row: it is run when that begins.
    """

    def __init__(self, layer: DiagonalLSTM, batch: int, width: int) -> None:
        self.up = layer.up.steps(batch, width)
        self.weight, self.bias, state, initial = layer.matrices()
        self.left, self.above = state.unbind(1)  # (D, 4h, h)
        self.outside = initial.expand(-1, -1, -1, batch)  # (D, 2, h, B)
        self.hidden = self.outside[:, :1].repeat(1, width, 1, 1)  # h, of the row so far and then the one above it
        self.second = torch.zeros_like(self.hidden[0])  # the second map, moved down, (W, h, B)
        self.x = self.weight.new_zeros(width, self.weight.shape[2], batch)  # features of the row: (W, I, B)
        self.states = [(self.outside[0, 0], self.outside[0, 1])] * (width + 1)  # h and c to the left of each column
        self.row = -1

    def __call__(self, x: Tensor, i: int, j: int) -> Tensor:
        """See :data:`gen.nets.masked.Step`."""
        if i != self.row:
            self.row = i
            if i and len(self.weight) == 2:
                self.second = self.turned()
            self.pre = (self.bias[0] + self.above[0] @ self.hidden[0]).unbind()
        self.x[j] = x
        hidden, cell = self.states[j]
        gates = torch.addmm(self.pre[j], self.weight[0], x).addmm_(self.left[0], hidden)
        hidden, _ = self.states[j + 1] = lstm(gates, cell)
        self.hidden[0, j] = hidden
        return x + self.up(hidden + self.second[j], i, j)

    def turned(self) -> Tensor:
        """The second LSTM along a complete row, from right to left: its h, (W, h, B)."""
        pre = self.bias[1] + self.weight[1] @ self.x + self.above[1] @ self.hidden[1]
        hidden, cell = self.outside[1]
        for j in reversed(range(len(pre))):
            hidden, cell = lstm(pre[j].addmm_(self.left[1], hidden), cell)
            self.hidden[1, j] = hidden
        return self.hidden[1]
