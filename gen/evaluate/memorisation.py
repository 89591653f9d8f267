"""Memorisation: are the samples new, or training images?

A model that stores the training set has a perfect FID. Its samples give it away: they lie nearer to training images
than held-out images do, and nearer than training images lie to each other. The first is the ratio of distances, the
second AuthPct [1]: a sample is authentic if its nearest training image has another training image that is closer
still. Both come beside what held-out images score.

    d(x)    = min_i |x - t_i|
    ratio   = median_j d(f_j) / median_j d(h_j)             1: as far from the training set as held-out images
    AuthPct = 100 mean_j 1[d(f_j) > min_{l != i} |t_i - t_l|],  i = argmin_i |f_j - t_i|

References:
    [1] A. M. Alaa, B. van Breugel, E. Saveliev, M. van der Schaar. How faithful is your synthetic data? Sample-level
        metrics for evaluating and auditing generative models. 2022. (authenticity)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Memorisation(NamedTuple):
    """How close a set of images is to the training set.

    Attributes:
        ratio: median nearest distance over that of held-out images; near 0 for copies.
        auth_pct: percentage of authentic images.
        distance: of each image to its nearest training image, (N,).
        neighbour: row of that training image, int64 (N,).
    """

    ratio: float
    auth_pct: float
    distance: Tensor
    neighbour: Tensor


def nearest(queries: Tensor, bank: Tensor, *, excluded: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distance and row of the nearest point of ``bank`` to each query, both (N,).

    Args:
        queries: points, floating (N, D).
        bank: points of any type (M, D); read 4,096 at a time, so that 8-bit pixels need not fit as floats.
        excluded: for each query, a row of the bank that may not be chosen: itself.
    """
    best = queries.new_full((len(queries),), torch.inf)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), 4096):
        distance = torch.cdist(queries, bank[start : start + 4096].to(queries.dtype))
        if excluded is not None:
            rows = torch.arange(start, start + distance.shape[1], device=queries.device)
            distance[rows == excluded[:, None]] = torch.inf
        closest, row = distance.min(dim=1)
        index = torch.where(closest < best, row + start, index)
        best = torch.minimum(closest, best)
    # cdist works through a matrix product: good enough to choose, but it leaves 1e-3 between equal points.
    return torch.where(best.isfinite(), (queries - bank[index].to(queries.dtype)).norm(dim=1), best), index


def memorisation(train: Tensor, images: Tensor, held_out: Tensor) -> Memorisation:
    """Compare images (N, D) with the training set (M, D), in pixels or features; held-out images (L, D) set the scale.

    Medians, because a few samples that resemble nothing would hide many copies.
    """
    distance, index = nearest(images, train)
    neighbours, row = index.unique(return_inverse=True)
    spacing, _ = nearest(train[neighbours].to(images.dtype), train, excluded=neighbours)
    scale, _ = nearest(held_out, train)
    ratio = distance.median() / scale.median()
    authentic = distance > spacing[row]
    return Memorisation(float(ratio), 100.0 * float(authentic.double().mean()), distance, index)
