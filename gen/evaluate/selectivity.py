"""Orientation selectivity: how much more a filter says about edges of one orientation than about those across it.

What a linear filter answers to a grating of frequency f is its Fourier transform at f, so its power spectrum P(f) is
all there is to say about its tuning, whatever the gratings' phases. Summed over the frequencies of an orientation it
gives the tuning curve, and from that the index with which physiologists describe simple cells [1]:

    R(theta) = sum_f P(f) w(angle(f) - theta),    w(a) ~ cos(a)^8,    OSI = (R_pref - R_orth) / (R_pref + R_orth)

R_pref is the largest of the tuning curve, R_orth its value 90 degrees away. The index is 0 for a round blob and nears 1
for gratings and Gabors: above 0.9 from one period within two deviations on. White noise of 12 x 12 pixels has 0.15 on
the mean and is above 0.5 once in a thousand times, because the window w is wide (half as high 23 degrees from its
middle): narrow ones find orientations in noise.

[1] C. Niell, M. Stryker (2008). Highly selective receptive fields in mouse visual cortex. Journal of Neuroscience 28.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

POINTS = 64  # of the spectrum in each direction, at least; or twice the filter's side
POWER = 8  # of the cosine


def orientation_tuning(filters: Tensor, orientations: int = 36) -> Tensor:
    """Tuning curves of filters.

    Args:
        filters: (N, C, h, w); the power of their channels is added. Their means do not count: they have no orientation.
        orientations: number of points of a curve, even.

    Returns:
        R at 0, 180 / orientations, ... degrees, (N, orientations); each curve has mean 1, unless the filter is
        constant. The orientation is that of the wave vector: bars upright are at 0, bars lying down at 90 degrees.
    """
    x = filters - filters.mean((2, 3), keepdim=True)
    points = max(POINTS, 2 * max(x.shape[2:]))
    power = torch.fft.fft2(x, (points, points)).abs().square().sum(1)
    f = torch.fft.fftfreq(points).to(x)
    fy, fx = torch.meshgrid(f, f, indexing="ij")
    radius = (fy.square() + fx.square()).sqrt()
    counted = (radius > 0) & (radius < 1 / 2)  # the corners beyond are frequencies that only diagonals have
    theta = torch.arange(orientations).to(x) * (math.pi / orientations)
    window = (torch.atan2(fy, fx)[counted].unsqueeze(1) - theta).cos() ** POWER
    tuning = power[:, counted] @ (window / window.sum(0))
    return tuning / tuning.mean(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def orientation_selectivity(filters: Tensor) -> Tensor:
    """The index of filters (N, C, h, w), from 0 to 1, (N,); 0 for constant ones."""
    tuning = orientation_tuning(filters)
    preferred, at = tuning.max(1)
    count = tuning.shape[1]
    orthogonal = tuning.gather(1, ((at + count // 2) % count).unsqueeze(1)).squeeze(1)
    return (preferred - orthogonal) / (preferred + orthogonal).clamp(min=torch.finfo(tuning.dtype).tiny)
