"""Importance sampling of log p(x) by the approximate posterior: the two bounds every variational model reports.

With z_k ~ q(z|x) and log-weights log w_k = log p(x, z_k) - log q(z_k|x),

    L(x)   = E log w_1                                              the evidence lower bound
    L_K(x) = E log 1/K sum_k w_k,   L = L_1 <= L_K <= L_{K+1} <= log p(x)        [1], theorem 1

because E w = p(x) and the logarithm is concave. L_K reaches log p(x) with K as far as w has a finite variance: where q
is much narrower than the posterior it may not, and no K one can afford says so.

The weights are computed in chunks, so memory is bounded whatever K.

[1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

LogWeights = Callable[[Tensor, int], Tensor]
"""(x, samples) -> log p(x, z_k) - log q(z_k|x) for fresh z_k ~ q(z|x): images (B, C, H, W) -> nats, (samples, B)."""

VALUES = 2**22
"""Most numbers that a decoder may put out at once."""


@torch.no_grad()
def elbo(log_weights: LogWeights, x: Tensor, samples: int, *, outputs: int = 1) -> Tensor:
    """L(x), averaged over ``samples`` codes: images (B, C, H, W) -> nats, (B,).

    Args:
        log_weights: see :data:`LogWeights`.
        x: images.
        samples: codes per image.
        outputs: numbers the decoder gives for every value of x; decides how many codes are decoded at once.
    """
    return torch.cat(list(_chunks(log_weights, x, samples, outputs))).mean(0)


@torch.no_grad()
def iwae(log_weights: LogWeights, x: Tensor, samples: int, *, outputs: int = 1) -> Tensor:
    """L_K(x) with K = ``samples``: images (B, C, H, W) -> nats, (B,). Arguments: see :func:`elbo`."""
    log_w = torch.cat(list(_chunks(log_weights, x, samples, outputs)))
    return log_w.logsumexp(0) - math.log(samples)


def gaussian_codes(mean: Tensor, log_var: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Codes from a Gaussian posterior, and what they contribute to their log-weights where the prior is N(0, I).

    Both are functions of mean and log-variance, given the noise that drew the codes: their gradient is the whole one.

    Args:
        mean: of q(z|x), (B, latents).
        log_var: same shape.
        samples: codes per image.

    Returns:
        z_k ~ q(z|x), (samples, B, latents); log p(z_k) - log q(z_k|x), nats, (samples, B).
    """
    noise = torch.randn(samples, *mean.shape, dtype=mean.dtype, device=mean.device)
    z = mean + torch.exp(0.5 * log_var) * noise
    return z, 0.5 * (noise.square() + log_var - z.square()).sum(2)


def _chunks(log_weights: LogWeights, x: Tensor, samples: int, outputs: int) -> Iterator[Tensor]:
    """The log-weights of ``samples`` codes, some at a time."""
    at_once = max(1, VALUES // (x.numel() * outputs))
    for start in range(0, samples, at_once):
        yield log_weights(x, min(at_once, samples - start))
