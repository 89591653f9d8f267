"""Log-probabilities and divergences in closed form, in nats: summed over the pixels, one number per image.

Logits that autocast left in half precision are widened to float32 first: a sum over 784 pixels in bfloat16 has an
error of several tenths of a nat.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


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
    return 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var)


def log_mean_exp(x: Tensor, dim: int) -> Tensor:
    """log of the mean of exp(x) over ``dim``, without overflow."""
    return torch.logsumexp(x, dim) - math.log(x.shape[dim])


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
