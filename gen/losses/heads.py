"""Heads: what the outputs of an autoregressive network say about a pixel's values, given the pixels before it.

A network gives P numbers for every pixel of an image. A head turns them into the conditional distribution of the
pixel's channels, red before green before blue, in two tasks: the log-probability of a whole image at once, and a draw
of one value from noise that was fixed beforehand. The same outputs and the same noise give the same value, however the
outputs were computed (:mod:`gen.inference.pixels`).

    Softmax            P = C (K - 1): free logits of K levels. It may have several modes, puts nothing outside the
                       range, and knows nothing of the levels' order [1]. With two levels it is Bernoulli's distribution
    LogisticMixture    rounded logistic variables: few numbers whatever the levels, and neighbours alike [2]
                       (:mod:`gen.losses.mixtures`)

Between the channels of a pixel the order is kept by the network, whose features come in groups
(:mod:`gen.nets.masked`), or by the head, whose outputs then know nothing of the pixel itself.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Section 3.4.
[2] T. Salimans, A. Karpathy, X. Chen, D. P. Kingma. PixelCNN++: Improving the PixelCNN with Discretized Logistic
    Mixture Likelihood and Other Modifications. 2017. Section 2.1 and 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.losses.levels import log_softmax_at
from gen.losses.mixtures import LogisticMixture

Likelihoods = Literal["softmax", "logistic_mixture"]
"""Heads by the names that recipes give them."""


class Head(Protocol):
    """What all heads have in common. C channels, P outputs per pixel; N stands for any number of pixels."""

    @property
    def outputs(self) -> int:
        """P, the numbers the network gives for a pixel."""
        ...

    @property
    def noise(self) -> int:
        """Uniform random numbers that a draw of one value takes."""
        ...

    @property
    def ordered_by_net(self) -> bool:
        """Whether the network keeps the order of a pixel's channels: the outputs come in C groups, and those of group c
        may depend on the channels before c. If not, no output depends on the pixel, and the head keeps the order."""
        ...

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Of every value given those before it, in nats: (B, P, H, W), (B, C, H, W) -> (B, C, H, W)."""
        ...

    def draw(self, outputs: Tensor, x: Tensor, channel: int, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A value of one channel.

        Args:
            outputs: (N, P).
            x: the pixels, (N, C), of which the channels before this one are looked at.
            channel: c.
            noise: uniform in [0, 1), (N, :attr:`noise`).
            temperature: below 1 draws closer to the most probable values.

        Returns:
            (N,), in the model's space.
        """
        ...

    def mean(self, outputs: Tensor, x: Tensor) -> Tensor:
        """E[value | values before it], of every value: (B, P, H, W), (B, C, H, W) -> (B, C, H, W)."""
        ...


@dataclass(frozen=True, slots=True)
class Softmax:
    """K levels by their logits.

    A softmax over K levels has K - 1 degrees of freedom: level 0 has the logit 0.

    Attributes:
        channels: C.
        levels: K.
    """

    channels: int
    levels: int

    @classmethod
    def of(cls, spec: DataSpec) -> Softmax:
        """The head of a data set whose space has levels."""
        assert spec.space.levels is not None, f"{spec.space} has no levels"
        return cls(spec.shape[0], spec.space.levels)

    @property
    def noise(self) -> int:
        """See base."""
        return 1

    @property
    def ordered_by_net(self) -> bool:
        """See base."""
        return True

    @property
    def outputs(self) -> int:
        """See base."""
        return self.channels * (self.levels - 1)

    def logits(self, outputs: Tensor) -> Tensor:
        """(B, P, ...) -> logits of the K levels, (B, K, C, ...)."""
        logits = outputs.unflatten(1, (self.channels, self.levels - 1)).transpose(1, 2)
        return F.pad(logits, (0, 0) * (logits.ndim - 2) + (1, 0))

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base."""
        if outputs.dtype in (torch.float16, torch.bfloat16):  # sums over an image in half precision err by nats
            outputs = outputs.float()
        if self.levels == 2:
            return -F.binary_cross_entropy_with_logits(outputs, x.to(outputs.dtype), reduction="none")
        logits = outputs.unflatten(1, (self.channels, self.levels - 1))
        return log_softmax_at(logits, (x * (self.levels - 1)).round().long())

    def draw(self, outputs: Tensor, x: Tensor, channel: int, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """See base: the first level whose cumulative probability exceeds the noise. A temperature divides logits."""
        free = self.levels - 1
        logits = outputs[:, channel * free : (channel + 1) * free] / temperature
        if self.levels == 2:
            return ((-logits).sigmoid() <= noise)[:, 0].to(outputs.dtype)
        p = F.pad(logits, (1, 0)).softmax(1)
        below = p.cumsum(1)[:, :-1] <= noise  # the last sum is 1, above any noise
        return below.sum(1, dtype=outputs.dtype) / free

    def mean(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base."""
        levels = torch.linspace(0, 1, self.levels, dtype=outputs.dtype, device=outputs.device)
        return torch.einsum("bkc...,k->bc...", self.logits(outputs).softmax(1), levels)


def head_for(spec: DataSpec, likelihood: Likelihoods, components: int) -> Softmax | LogisticMixture:
    """The head that a recipe asks for; :class:`RecipeError` where it makes no sense.

    Args:
        spec: of data whose space has levels.
        likelihood: its name.
        components: of a mixture; a softmax does without.
    """
    if likelihood == "softmax":
        return Softmax.of(spec)
    at_least(1, components=components)
    channels, levels = spec.shape[0], spec.space.levels
    assert levels is not None, f"{spec.space} has no levels"
    if channels == 1 and levels == 2:
        raise RecipeError(
            f"hyper.likelihood: found {likelihood} for grey images in {spec.space}; two levels have one probability, "
            f"however it is mixed. Use softmax, which is Bernoulli's distribution here."
        )
    return LogisticMixture(channels, levels, components)
