"""The bounds L_K of a model for many K, from one set of log-weights."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

CODES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # K
AT_ONCE = 4096  # codes decoded


class Weighs(Protocol):
    """A latent-variable model that weighs codes by importance; see :mod:`gen.inference.importance`."""

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """log p(x, z_k) - log q(z_k|x) with z_k ~ q(z|x): images (B, C, H, W) -> nats, (samples, B)."""
        ...


def weights(model: Weighs, x: Tensor, draws: int) -> Tensor:
    """Log-weights of so many codes of every image, (draws, B), some at a time."""
    size = max(1, AT_ONCE // len(x))
    return torch.cat([model.log_weights(x, min(size, draws - start)) for start in range(0, draws, size)])


def iwae_curve(log_w: Tensor) -> dict[int, tuple[float, float]]:
    """L_K, mean over images, and its standard error over the draws, by K, from log-weights, (draws, B).

    The draws are cut into groups of K, each an estimate of every image's L_K. Where a group is made of whole groups of
    a smaller K, its estimate is no smaller, as the bounds are in order. The images are given: what other images would
    have is not in the error, which is left at 0 where there is one group only.
    """
    draws, images = log_w.shape
    found = {}
    for count in CODES:
        if count <= draws:
            groups = log_w[: draws // count * count].unflatten(0, (-1, count)).logsumexp(1) - math.log(count)
            variance = groups.var(0) / len(groups) if len(groups) > 1 else torch.zeros(images)
            found[count] = (float(groups.mean()), float(variance.sum().sqrt() / images))
    return found
