"""Log-probabilities and divergences in closed form, in nats: summed over the pixels, one number per image.

Logits that autocast left in half precision are widened to float32 first: a sum over 784 pixels in bfloat16 has an
error of several tenths of a nat.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_LOG_SCALE = -7.0
"""Of a discretised logistic, on the scale from -1 to 1 (the official code of Salimans et al. 2017)."""


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """log prod_i Bernoulli(x_i; sigmoid(logits_i)), for x in {0, 1}.

    Args:
        logits: (B, ...).
        x: same shape.

    Returns:
        (B,).
    """
    return -F.binary_cross_entropy_with_logits(_wide(logits), x, reduction="none").flatten(1).sum(1)


def categorical_log_prob(logits: Tensor, levels: Tensor) -> Tensor:
    """log prod_i softmax(logits_i)[levels_i].

    Args:
        logits: (B, K, ...).
        levels: int64 in [0, K), (B, ...).

    Returns:
        (B,).
    """
    return -F.cross_entropy(_wide(logits), levels, reduction="none").flatten(1).sum(1)


def logistic_scale(raw_log_scale: Tensor) -> Tensor:
    """Scale of a logistic density from a network's output: exp(-7 + softplus(raw + 7)), never below exp(-7).

    That is the output's exponential, but for a floor which, unlike a clamp, lets a gradient through. Below it nothing
    is gained even with 256 levels: the density lies within one bin.
    """
    return torch.exp(F.softplus(_wide(raw_log_scale) - MIN_LOG_SCALE) + MIN_LOG_SCALE)


def logistic_log_mass(location: Tensor, raw_log_scale: Tensor, levels: Tensor, count: int) -> Tensor:
    """log P(k), P(k) a logistic density's mass in the k-th of ``count`` bins (Salimans et al. 2017, eq. 2).

    The levels lie evenly from -1 to 1, each in the middle of its bin, of width 2 / (count - 1); the first bin begins at
    minus infinity and the last one ends at infinity. With a and b a bin's ends in units of the scale,

        sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(-(b - a))),

    whose logarithm is a sum of three terms without cancellation, wherever the bin lies; an end bin has one of them.

    Args:
        location: any shape.
        raw_log_scale: same shape; see :func:`logistic_scale`.
        levels: k in [0, count), as floating-point numbers, broadcastable to it.
        count: number of levels.

    Returns:
        Same shape as ``location``.
    """
    inverse = 1 / logistic_scale(raw_log_scale)
    edge = (2 * levels + 1) / (count - 1) - 1 - _wide(location)  # where the bin ends
    width = 2 / (count - 1)
    below = F.logsigmoid(edge * inverse)
    above = F.logsigmoid((width - edge) * inverse)
    inside = torch.log(-torch.expm1(-width * inverse))
    first, last = levels == 0, levels == count - 1
    return below.masked_fill(last, 0) + above.masked_fill(first, 0) + inside.masked_fill(first | last, 0)


def logistic_log_prob(location: Tensor, raw_log_scale: Tensor, levels: Tensor, count: int) -> Tensor:
    """log prod_i P(k_i) of :func:`logistic_log_mass`: (B, ...) -> (B,)."""
    return logistic_log_mass(location, raw_log_scale, levels, count).flatten(1).sum(1)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(x; mean, diag(exp(log_var))).

    Args:
        x: (B, ...).
        mean: broadcastable to x.
        log_var: broadcastable to x.

    Returns:
        (B,).
    """
    squared = (x - mean).square() * torch.exp(-log_var)
    return -0.5 * (squared + log_var + math.log(2 * math.pi)).flatten(1).sum(1)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, diag(exp(log_var))) || N(0, I)), each dimension by itself (Kingma & Welling 2013, appendix B).

    Args:
        mean: any shape.
        log_var: same shape.

    Returns:
        Same shape; sum over the latent dimensions for the divergence of the whole code.
    """
    return 0.5 * (mean.square() + torch.expm1(log_var) - log_var)


def log_mean_exp(x: Tensor, dim: int) -> Tensor:
    """log of the mean of exp(x) over ``dim``, without overflow."""
    return torch.logsumexp(x, dim) - math.log(x.shape[dim])


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
