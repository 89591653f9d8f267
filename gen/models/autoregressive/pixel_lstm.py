"""Pixel LSTM: an image as one long sequence, read by a plain LSTM.

The chain rule needs an order, and a recurrent network reads sequences: nothing else has to be decided. The LSTM is
given the values one by one in raster order, the channels of a pixel in turn, and each time says what it expects next.
Nothing tells it that an image has two dimensions: the pixel above is as many steps away as the image is wide, and has
to be remembered over all of them. Nor can anything be computed side by side, so that an image takes as many steps as it
has values, in training as in sampling. Both are what the recurrences along rows and diagonals were made for.

    h_t, c_t = LSTM(x_{t-1}, h_{t-1}, c_{t-1})
    log p(x) = sum_t log p(x_t | h_t),     p(x_t | .) = softmax over K levels, R before G before B

Net: LSTMs on top of each other; what each value's step gets is the value before it and, of colour images, the channel
that is due. The initial state is learned.
Algorithm: gradient descent on -log p(x); ancestral sampling, one step for every value.

Metrics: bits_per_dim.

[1] S. Hochreiter, J. Schmidhuber. Long Short-Term Memory. 1997.
[2] L. Theis, M. Bethge. Generative Image Modeling Using Spatial LSTMs. 2015. The comparison this chapter is made for.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.losses.heads import Softmax
from gen.model import Adam, Optim
from gen.pixel_model import PixelModel
from gen.registry import register

State = tuple[Tensor, Tensor]
"""h and c of all layers, (layers, B, hidden) each."""


@register("pixel_lstm")
class PixelLSTM(PixelModel):
    """See module.

    Args:
        hidden: units of each LSTM.
        layers: LSTMs on top of each other.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(self, spec: DataSpec, *, hidden: int = 64, layers: int = 1) -> None:
        super().__init__(spec)
        at_least(1, hidden=hidden, layers=layers)
        self.head = Softmax.of(spec)
        self.channels = spec.shape[0]
        self.net = nn.LSTM(1 + (self.channels if self.channels > 1 else 0), hidden, layers)
        self.initial = nn.Parameter(torch.zeros(2, layers, 1, hidden))
        self.out = nn.Linear(hidden, self.head.levels - 1)

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=5e-3, clip=1.0, warmup=500, decay="cosine")}

    def start(self, count: int) -> State:
        """The state before the first value of ``count`` images."""
        h, c = self.initial.expand(-1, -1, count, -1)
        return h.contiguous(), c.contiguous()

    def read(self, before: Tensor, state: State) -> tuple[Tensor, State]:
        """Whole pixels of a sequence. T of them, the value before each of theirs (T C, B) -> outputs (T, B, P), and the
        state after them."""
        x = before.unsqueeze(2) * 2 - 1
        if self.channels > 1:
            due = torch.eye(self.channels, dtype=x.dtype, device=x.device).repeat(len(x) // self.channels, 1)
            x = torch.cat([x, due.unsqueeze(1).expand(-1, x.shape[1], -1)], 2)
        hidden, state = self.net(x, state)
        return self.out(hidden).unflatten(0, (-1, self.channels)).transpose(1, 2).flatten(2), state

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base."""
        values = x.permute(2, 3, 1, 0).flatten(0, 2)  # (H W C, B)
        outputs, _ = self.read(F.pad(values, (0, 0, 1, -1)), self.start(len(x)))
        return outputs.unflatten(0, x.shape[2:]).permute(2, 3, 0, 1)

    def incremental(self, count: int, condition: Tensor | None = None) -> _ValueByValue:
        """See base."""
        return _ValueByValue(self, count)


class _ValueByValue:
    """:class:`gen.inference.pixels.Incremental`: the states before the pixel are kept, and its values read again."""

    def __init__(self, model: PixelLSTM, count: int) -> None:
        self.model, self.after = model, model.start(count)
        self.before, self.pixel = self.after, (-1, -1)
        # The value before each of the pixel's, and behind them its last one, (C + 1, B).
        self.values = model.initial.new_zeros(model.channels + 1, count)

    def read(self, i: int, j: int) -> Tensor:
        """See base."""
        if (i, j) != self.pixel:
            self.pixel, self.before = (i, j), self.after
            self.values = torch.cat([self.values[-1:], torch.zeros_like(self.values[1:])])
        (outputs,), self.after = self.model.read(self.values[:-1], self.before)
        return outputs

    def write(self, i: int, j: int, values: Tensor) -> None:
        """See base."""
        self.values = torch.cat([self.values[:1], values.T])
