"""Corruption: what is done to an image so that a model may learn to undo it.

    gaussian   x~ = x + sigma e,   e ~ N(0, I)
    masking    x~ = x m,           m_ij ~ Bernoulli(1 - p), one for all channels of a pixel

Both draw from the default generator of the image's device.

[1] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol. Stacked denoising autoencoders. 2010. Section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """Adds noise of standard deviation ``sigma``, in units of x, to images (B, C, H, W)."""
    return x + sigma * torch.randn_like(x)


def masking(x: Tensor, p: float) -> Tensor:
    """Sets a share ``p`` of the pixels of images (B, C, H, W) to 0, each by itself."""
    return x * (torch.rand_like(x[:, :1]) >= p)
