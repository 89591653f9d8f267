"""Observation models p(x | .): what a decoder's outputs say about every pixel.

A decoder gives P numbers for every value of the image. What they mean is a choice of its own, bound to the space the
images live in, and independent of the rest of the model:

    Bernoulli            P = 1: the log-odds that the bit is 1
    Categorical          P = K: a logit for each level, which may say anything and knows nothing of their order
    DiscretizedLogistic  P = 2: location and log-scale of a logistic density, integrated over the levels' bins [1, 2]

Given these numbers the pixels are independent of each other. Shapes: parameters (B, P, C, H, W), images (B, C, H, W).

[1] D. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever, M. Welling. Improving Variational Inference with
    Inverse Autoregressive Flow. 2016. Section 4.2.
[2] T. Salimans, A. Karpathy, X. Chen, D. Kingma. PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
    Likelihood and Other Modifications. 2017. Section 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from gen.data.spaces import Space
from gen.errors import RecipeError
from gen.losses.likelihoods import (
    MIN_LOG_SCALE,
    bernoulli_log_prob,
    categorical_log_prob,
    logistic_log_prob,
    logistic_scale,
)

LikelihoodName = Literal["categorical", "logistic"]


class Observation(Protocol):
    """What the three have in common."""

    @property
    def outputs(self) -> int:
        """P, the numbers a decoder gives for every value of the image."""
        ...

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p(x | parameters) in nats, (B,)."""
        ...

    def sample(self, parameters: Tensor, temperature: float = 1.0) -> Tensor:
        """Images from p(x | parameters); a temperature below 1 draws each pixel closer to its most probable value."""
        ...

    def mean(self, parameters: Tensor) -> Tensor:
        """E[x | parameters], (B, C, H, W): between the levels, not on them."""
        ...

    def start(self, x: Tensor) -> Tensor:
        """Parameters that model every pixel of the images x by itself, (P, C, H, W): the bias to start a decoder at."""
        ...


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """Bits with log-odds; a temperature divides them."""

    outputs: int = 1

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See base."""
        return bernoulli_log_prob(parameters, x.unsqueeze(1))

    def sample(self, parameters: Tensor, temperature: float = 1.0) -> Tensor:
        """See base."""
        return torch.bernoulli((parameters.squeeze(1) / temperature).sigmoid())

    def mean(self, parameters: Tensor) -> Tensor:
        """See base."""
        return parameters.squeeze(1).sigmoid()

    def start(self, x: Tensor) -> Tensor:
        """See base. A bit that never moves gets the odds of 1 to N, not 0."""
        return x.mean(0, keepdim=True).clamp(1 / (len(x) + 1), len(x) / (len(x) + 1)).logit()


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of K levels by a softmax over logits; a temperature divides them."""

    outputs: int

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See base."""
        return categorical_log_prob(parameters, _level(x, self.outputs).long())

    def sample(self, parameters: Tensor, temperature: float = 1.0) -> Tensor:
        """See base: the level whose logit is the largest after Gumbel noise is a draw from the softmax."""
        gumbel = -torch.empty_like(parameters).exponential_().log()
        return (parameters / temperature + gumbel).argmax(1).to(parameters.dtype) / (self.outputs - 1)

    def mean(self, parameters: Tensor) -> Tensor:
        """See base."""
        levels = torch.linspace(0, 1, self.outputs, dtype=parameters.dtype, device=parameters.device)
        return torch.einsum("bkchw,k->bchw", parameters.softmax(1), levels)

    def start(self, x: Tensor) -> Tensor:
        """See base: log frequencies; one more image, spread evenly over the levels, keeps them finite."""
        K, dims = self.outputs, x[0].numel()
        place = torch.arange(dims, device=x.device).view(x.shape[1:])
        counts = torch.bincount((_level(x, K).long() * dims + place).flatten(), minlength=K * dims)
        return ((counts.to(x.dtype) + 1 / K) / (len(x) + 1)).log().view(K, *x.shape[1:])


@dataclass(frozen=True, slots=True)
class DiscretizedLogistic:
    """One of K levels: a logistic density, integrated over the bin of each; the end bins reach to infinity.

    Location and scale are measured where the levels run from -1 to 1, as in [2]. Two numbers a pixel, whatever K, and
    near levels are alike from the start; but one mode only. A temperature multiplies the scale.

    Attributes:
        levels: K.
    """

    levels: int
    outputs: int = 2

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See base."""
        location, raw_log_scale = parameters.unbind(1)
        return logistic_log_prob(location, raw_log_scale, _level(x, self.levels), self.levels)

    def sample(self, parameters: Tensor, temperature: float = 1.0) -> Tensor:
        """See base: a real number from the density, rounded to the nearest level."""
        location, raw_log_scale = parameters.unbind(1)
        noise = torch.rand_like(location).logit()  # the inverse of the logistic's distribution function
        real = location + temperature * logistic_scale(raw_log_scale) * noise
        return ((real + 1) / 2 * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def mean(self, parameters: Tensor) -> Tensor:
        """See base: E[k] = sum over the K - 1 edges between bins of the probability to lie above them."""
        location, raw_log_scale = parameters.unbind(1)
        inverse = 1 / logistic_scale(raw_log_scale)
        total = torch.zeros_like(location)
        for k in range(self.levels - 1):
            total += torch.sigmoid((location - ((2 * k + 1) / (self.levels - 1) - 1)) * inverse)
        return total / (self.levels - 1)

    def start(self, x: Tensor) -> Tensor:
        """See base, by mean and variance, each level spread evenly over its bin."""
        real, half = 2 * x - 1, 1 / (self.levels - 1)
        variance = real.var(0, unbiased=False) + half**2 / 3
        scale = variance.sqrt() * (math.sqrt(3) / math.pi)  # the variance of a logistic density is (pi s)^2 / 3
        raw_log_scale = torch.log(torch.expm1(scale.log() - MIN_LOG_SCALE)) + MIN_LOG_SCALE  # logistic_scale, inverted
        return torch.stack([real.mean(0), raw_log_scale])


def observation(space: Space, likelihood: LikelihoodName) -> Observation:
    """The observation model of a space.

    Args:
        space: two levels are bits, whatever the likelihood: a categorical over two levels is a Bernoulli.
        likelihood: of more than two levels.

    Raises:
        RecipeError: no such likelihood, or none for this space.
    """
    if likelihood not in ("categorical", "logistic"):
        raise RecipeError(f"hyper.likelihood: found '{likelihood}'. Allowed: categorical, logistic.")
    if space.levels is None:
        raise RecipeError(
            f"space: '{space}' is continuous, and these observation models are of levels. Use levels(256)."
        )
    if space.kind != "levels":
        if likelihood != "categorical":
            raise RecipeError(
                f"hyper.likelihood: found '{likelihood}', but '{space}' holds bits, whose likelihood is a Bernoulli. "
                "Leave it out, or use levels(K)."
            )
        return Bernoulli()
    return Categorical(space.levels) if likelihood == "categorical" else DiscretizedLogistic(space.levels)


def _level(x: Tensor, K: int) -> Tensor:
    """k / (K - 1) -> k, still a floating-point number."""
    return (x * (K - 1)).round()
