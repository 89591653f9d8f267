"""A head of real numbers: every value drawn from one of K Gaussian distributions.

    p(x | .) = sum_k pi_k N(x; m_k, exp(-l_k))                              a density, nats
    P(level) = sum_k pi_k (Phi((b - m_k) e^(l_k / 2)) - Phi((a - m_k) e^(l_k / 2)))     mass of the bin [a, b)

Of levels, each has the bin of all numbers that are nearer to it than to the others, so that the bins at the ends reach
to infinity. Both are numbers of the same network; the second is a likelihood of the same data as a softmax's. It knows
that near levels are alike, and with one component it has one mode and thin tails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import log_ndtr, ndtr, ndtri

from gen.data.spaces import DataSpec


@dataclass(frozen=True, slots=True)
class GaussianMixture:
    """K Gaussians in units of the image's values; a :class:`gen.losses.heads.Head`.

    The outputs of a channel are K logits, K means and K log-precisions l, in this order. Channels come one after the
    other.

    Attributes:
        channels: C.
        components: K.
        levels: of the space; ``None`` for a density.
    """

    channels: int
    components: int
    levels: int | None

    @classmethod
    def of(cls, spec: DataSpec, components: int) -> GaussianMixture:
        """The head of a data set."""
        return cls(spec.shape[0], components, spec.space.levels)

    @property
    def outputs(self) -> int:
        """See base."""
        return 3 * self.channels * self.components

    @property
    def noise(self) -> int:
        """See base."""
        return 2

    @property
    def ordered_by_net(self) -> bool:
        """See base."""
        return True

    def parameters(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, P, ...) -> log-probabilities, means and log-precisions of the components, (B, C, K, ...) each."""
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        logits, means, log_precisions = outputs.unflatten(1, (self.channels, 3, self.components)).unbind(2)
        return logits.log_softmax(2), means, log_precisions

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base; of a density, its logarithm."""
        log_weights, means, log_precisions = self.parameters(outputs)
        x = x.to(means.dtype).unsqueeze(2)
        if self.levels is None:
            squared = (x - means).square() * log_precisions.exp()
            each = (log_precisions - squared - math.log(2 * math.pi)) / 2
        else:
            each = self._log_mass((x * (self.levels - 1)).round(), means, (log_precisions / 2).exp())
        return (log_weights + each).logsumexp(2)

    def _log_mass(self, level: Tensor, means: Tensor, inverse: Tensor) -> Tensor:
        """log of each Gaussian's mass in the bins of levels k, (B, C, 1, ...) and (B, C, K, ...) -> (B, C, K, ...)."""
        assert self.levels is not None
        lower, upper = (((level + side) / (self.levels - 1) - means) * inverse for side in (-0.5, 0.5))
        first, last = level == 0, level == self.levels - 1
        # Phi(b) - Phi(a) = Phi(-a) - Phi(-b): the side is taken where both are small, and their difference exact. On
        # the side of an end, the smaller one of its bin is 0.
        right = last | ((lower + upper > 0) & ~first)
        less, more = log_ndtr(torch.where(right, -upper, lower)), log_ndtr(torch.where(right, -lower, upper))
        share = torch.log(-torch.expm1((less - more).clamp(max=-torch.finfo(means.dtype).eps)))
        return more + share.masked_fill(first | last, 0)

    def draw(self, outputs: Tensor, x: Tensor, channel: int, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """See base: a component by one number, a value of it by the other, rounded to a level where there are levels.

        What falls outside the range becomes its nearest value. A temperature divides logits and multiplies deviations.
        """
        log_weights, means, log_precisions = (each[:, channel] for each in self.parameters(outputs))  # (N, K)
        below = (log_weights / temperature).softmax(1).cumsum(1)[:, :-1] <= noise[:, :1]
        chosen = below.sum(1, keepdim=True)
        limits = torch.finfo(noise.dtype)
        normal = ndtri(noise[:, 1:].clamp(limits.tiny, 1 - limits.eps))
        deviation = temperature * (-log_precisions.gather(1, chosen) / 2).exp()
        drawn = (means.gather(1, chosen) + deviation * normal)[:, 0].clamp(0, 1)
        return drawn if self.levels is None else (drawn * (self.levels - 1)).round() / (self.levels - 1)

    def mean(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base. Of levels: E[k] is the sum over the K - 1 edges between bins of the probability to lie above."""
        log_weights, means, log_precisions = self.parameters(outputs)
        weights = log_weights.exp()
        if self.levels is None:
            return (weights * means).sum(2)
        total = torch.zeros_like(means)
        for k in range(self.levels - 1):
            total += ndtr((means - (k + 0.5) / (self.levels - 1)) * (log_precisions / 2).exp())
        return (weights * total).sum(2) / (self.levels - 1)
