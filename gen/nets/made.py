"""MADE: a fully connected network whose k-th outputs depend on the first k - 1 inputs and on nothing else.

Every hidden unit is given a degree: the number of inputs, from the first one on, that it may see. A unit is wired to
the units of the layer below whose degree is not above its own, and the outputs for input k to the units of degree below
k. All other weights are held at zero, so that one pass computes what each input is told by those before it [1].

A context, which may depend on anything else, reaches every hidden unit. Degrees start at 0, so that even the outputs
for the first input hear of it.

[1] M. Germain, K. Gregor, I. Murray, H. Larochelle. MADE: Masked Autoencoder for Distribution Estimation. 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedLinear(nn.Linear):
    """A linear layer with some weights held at zero: (..., I) -> (..., O). The weights themselves are never written to.

    Args:
        mask: which weights there are, bool, (O, I).
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """See base."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """See module: inputs (B, D) and a context (B, C) -> (B, outputs, D).

    Args:
        dims: D.
        outputs: numbers for each input, all of which depend on the inputs before it.
        hidden: widths of the hidden layers; D units and more in each let every input be heard by itself.
        context: C; may be 0.
        reverse: the order of the inputs is the last one first.
        activation: builds one activation; called once per hidden layer.
    """

    def __init__(
        self,
        dims: int,
        outputs: int,
        *,
        hidden: Sequence[int],
        context: int,
        reverse: bool = False,
        activation: Callable[[], nn.Module] = nn.ELU,
    ) -> None:
        super().__init__()
        order = torch.arange(1, dims + 1)  # of the inputs, from 1
        order = order.flip(0) if reverse else order
        degrees = [order, *(torch.arange(width) % dims for width in hidden)]
        self.layers = nn.ModuleList(MaskedLinear(above[:, None] >= below) for below, above in pairwise(degrees))
        self.contexts = nn.ModuleList(nn.Linear(context, width, bias=False) for width in hidden)
        self.activations = nn.ModuleList(activation() for _ in hidden)
        self.head = MaskedLinear((order[:, None] > degrees[-1]).repeat(outputs, 1))
        self.outputs = outputs

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """See class."""
        for layer, told, activation in zip(self.layers, self.contexts, self.activations, strict=True):
            x = activation(layer(x) + told(context))
        return self.head(x).unflatten(1, (self.outputs, -1))
