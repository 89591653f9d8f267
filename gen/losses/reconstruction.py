"""Reconstruction errors: how far an image is from what a decoder made of a code.

A decoder gives one number for every value of the image (P = 1 in :mod:`gen.nets.coders`). What it means, and how it is
compared with the image, follows from the space:

    bits                   logits;       sum_i  -x_i log s_i - (1 - x_i) log(1 - s_i),   s = sigmoid(outputs)
    levels and real values the image;    |x - outputs|^2

Both are summed over the image, and of both the minimiser is a conditional mean: if the decoder sees c and not x, the
best it can do is E[x | c] (they are Bregman divergences [1]; absolute errors would give a median). What is
left at the minimum is the variance, or the entropy, that c leaves open.

[1] A. Banerjee, S. Merugu, I. Dhillon, J. Ghosh. Clustering with Bregman divergences. 2005.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gen.data.spaces import Space
from gen.losses.observation import Bernoulli

KINDS = ("dequantized", "signed", "levels", "binary_dynamic", "binary_fixed")
"""Spaces with an error: all of them."""


class Reconstruction(Protocol):
    """What both have in common. Outputs are (B, 1, C, H, W), images (B, C, H, W)."""

    def error(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Summed over the image, (B,)."""
        ...

    def image(self, outputs: Tensor) -> Tensor:
        """What the outputs stand for, (B, C, H, W); a probability where pixels are bits."""
        ...

    def draw(self, outputs: Tensor) -> Tensor:
        """An image from what the outputs leave open, (B, C, H, W) in the space: bits; nothing else is left open."""
        ...

    def start(self, x: Tensor) -> Tensor:
        """The best outputs for images x that are the same for all of them, (1, C, H, W)."""
        ...


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Of bits with the log-odds put out, in nats."""

    def error(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base."""
        return -Bernoulli().log_prob(outputs, x)

    def image(self, outputs: Tensor) -> Tensor:
        """See base."""
        return Bernoulli().mean(outputs)

    def draw(self, outputs: Tensor) -> Tensor:
        """See base."""
        return Bernoulli().sample(outputs)

    def start(self, x: Tensor) -> Tensor:
        """See base."""
        return Bernoulli().start(x)


@dataclass(frozen=True, slots=True)
class SquaredError:
    """Of real values, in units of x^2.

    Attributes:
        levels: where pixels take so many values only, what is drawn takes the nearest.
    """

    levels: int | None = None

    def error(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base. In single precision at least: a sum over 784 pixels in bfloat16 keeps two digits."""
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return (outputs.squeeze(1) - x).square().flatten(1).sum(1)

    def image(self, outputs: Tensor) -> Tensor:
        """See base."""
        return outputs.squeeze(1)

    def draw(self, outputs: Tensor) -> Tensor:
        """See base."""
        x = self.image(outputs)
        return x if self.levels is None else (x.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)

    def start(self, x: Tensor) -> Tensor:
        """See base."""
        return x.mean(0, keepdim=True)


def reconstruction(space: Space) -> Reconstruction:
    """The reconstruction error of a space."""
    return CrossEntropy() if space.kind.startswith("binary") else SquaredError(space.levels)
