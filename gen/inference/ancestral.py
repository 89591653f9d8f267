"""Ancestral sampling: draw every value of an image given the values before it, in raster order.

    for every row i, column j, channel c:   x_ijc ~ p( . | all values before it)

Works with any causal model: it only asks for logits. Each draw runs the network again, so an image of C x H x W values
costs C H W evaluations; a network with a bounded field says so (``reach``) and then evaluates only what can matter.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""Images in [0, 1], (B, C, H, W) -> logits of their K levels, (B, K, C, H, W); those of a value must depend only on
the values before it."""


@torch.no_grad()
def ancestral(logits: Logits, x: Tensor, known: Tensor, *, reach: int | None = None) -> Tensor:
    """Draws the unknown values, each given the known and the drawn ones before it.

    What is known *after* a value does not inform it: this is the chain rule cut short, not the posterior of the
    unknown values given all known ones.

    Args:
        logits: see :data:`Logits`.
        x: images with values k / (K - 1), (B, C, H, W). What it holds where ``known`` is false is never looked at.
        known: bool, (B, C, H, W): values to keep, bit for bit.
        reach: rows above and columns to either side beyond which a value does not depend on the image. ``logits``
            is then called with windows of it, (B, C, h, w) with h <= reach + 1, w <= 2 reach + 1; ``None``: with all.

    Returns:
        The completed images, (B, C, H, W).
    """
    x = torch.where(known, x, torch.zeros_like(x))
    _, channels, height, width = x.shape
    for i, j in product(range(height), range(width)):
        top, left, bottom, right = 0, 0, height, width
        if reach is not None:
            top, left, bottom, right = max(0, i - reach), max(0, j - reach), i + 1, j + reach + 1
        for c in range(channels):
            keep = known[:, c, i, j]
            if keep.all():
                continue
            conditional = logits(x[:, :, top:bottom, left:right])[:, :, c, i - top, j - left]  # (B, K)
            level = torch.multinomial(conditional.softmax(1), 1).squeeze(1)
            drawn = level.to(x.dtype) / (conditional.shape[1] - 1)
            x[:, c, i, j] = torch.where(keep, x[:, c, i, j], drawn)
    return x
