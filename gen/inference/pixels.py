"""Ancestral sampling of images: draw every value given the values before it, in raster order.

    for every row i, column j, channel c:   x_ijc = min { k : u_ijc < p(0 | .) + ... + p(k | .) } / (K - 1)

p(k | .) is the model's conditional given all values before x_ijc, and u_ijc ~ U[0, 1) is drawn for the whole image at
once, before the first value. So an image is a function of its noise and of the conditionals alone: however these are
computed, at once by the whole network or pixel by pixel (:class:`gen.nets.masked.PixelByPixel`), the same seed gives
the same image.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

Logits = Callable[[int, int], Tensor]
"""(i, j) -> logits of the K levels of pixel (i, j), (B, K, C), given the pixels written so far. Those of channel c may
depend only on earlier pixels and on the channels before c of this one. Called C times a pixel, in raster order."""

Write = Callable[[int, int, Tensor], None]
"""(i, j, values (B, C)): what pixel (i, j) holds. Called after every draw; what is still to be drawn holds 0."""


@torch.no_grad()
def ancestral(logits: Logits, write: Write, x: Tensor, known: Tensor) -> Tensor:
    """Draws the unknown values, each given the known and the drawn ones before it.

    What is known *after* a value does not inform it: this is the chain rule cut short, not the posterior of the
    unknown values given all known ones.

    Args:
        logits: see :data:`Logits`.
        write: see :data:`Write`.
        x: images with values k / (K - 1), (B, C, H, W). What it holds where ``known`` is false is never looked at.
        known: bool, (B, C, H, W): values to keep, bit for bit.

    Returns:
        The completed images, (B, C, H, W).
    """
    x = torch.where(known, x, torch.zeros_like(x))
    noise = torch.rand(x.shape, dtype=x.dtype, device=x.device)
    _, channels, height, width = x.shape
    for i, j in product(range(height), range(width)):
        pixel = x[:, :, i, j]  # a view: what is drawn into it is drawn into the image
        for c in range(channels):
            conditional = logits(i, j)[:, :, c].softmax(1)  # (B, K)
            below = conditional.cumsum(1)[:, :-1] <= noise[:, c, i, j, None]  # the last sum is 1, above any noise
            drawn = below.sum(1, dtype=x.dtype) / below.shape[1]
            pixel[:, c] = torch.where(known[:, c, i, j], pixel[:, c], drawn)
            write(i, j, pixel)
    return x
