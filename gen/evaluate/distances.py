"""Distances: how far samples are from real images, in the feature space of a judge.

One number hides too much, so there are three kinds. FID [1] compares two Gaussians fitted to the features; it is
biased upwards by small n, so it means something only beside the distance of real images at the same n. KID [2] is the
squared maximum mean discrepancy under a cubic kernel: unbiased, so it may be negative, and good for n below 5,000.
Precision and recall [3] ask separately whether samples look real and whether everything real is sampled, by balls
that reach to the k-th neighbour; density and coverage [4] do the same without being fooled by outliers.

    FID       = |mu_r - mu_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2))
    KID       = E k(r, r') + E k(f, f') - 2 E k(r, f),   k(x, y) = (x'y / D + 1)^3
    precision = mean_j 1[f_j in a ball around some r_i]          recall   = mean_i 1[r_i in a ball around some f_j]
    density   = 1/(k M) sum_j #{i: f_j in the ball around r_i}   coverage = mean_i 1[some f_j in the ball around r_i]

FID and KID are torchmetrics' own. Its extractor is the identity here, because features are computed once and shared.

References:
    [1] M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter. GANs trained by a two time-scale update rule
        converge to a local Nash equilibrium. 2017.
    [2] M. Binkowski, D. J. Sutherland, M. Arbel, A. Gretton. Demystifying MMD GANs. 2018.
    [3] T. Kynkaanniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila. Improved precision and recall metric for assessing
        generative models. 2019.
    [4] M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi, J. Yoo. Reliable fidelity and diversity metrics for generative models.
        2020.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

import gen.vision  # noqa: F401  # torchmetrics imports torchvision, for which gen.vision clears the way
from gen.evaluate.seeds import fixed_seed


class _Identity(nn.Module):
    """The extractor torchmetrics asks for, where the images it is shown are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """FID [1] between features (N, D) and (M, D), N and M at least 2, in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_Identity(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    # Rounding of eigenvalues near zero can leave a distance of -1e-9.
    return max(0.0, float(metric.compute()))


class KernelDistance(NamedTuple):
    """KID over random subsets.

    Attributes:
        mean: the estimate. Unbiased: may be below zero.
        std: standard deviation over subsets. They overlap, so it is no standard error of the mean.
        subsets: how many were drawn.
        subset_size: features in each subset, of either side.
    """

    mean: float
    std: float
    subsets: int
    subset_size: int


def kernel_distance(
    real: Tensor, fake: Tensor, *, seed: int = 0, subsets: int = 50, subset_size: int | None = None
) -> KernelDistance:
    """KID [2] between features (N, D) and (M, D), in float64.

    Args:
        real: features of real images.
        fake: features of samples.
        seed: of the subsets.
        subsets: how many to draw.
        subset_size: default: half of the smaller side, at most 1,000.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = subset_size or max(2, min(1000, len(real) // 2, len(fake) // 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that features are kept in memory; they are ours
        metric = KernelInceptionDistance(_Identity(real.shape[1]), subsets=subsets, subset_size=size)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    with fixed_seed(seed):
        mean, std = metric.compute()
    return KernelDistance(float(mean), float(std), subsets, size)


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    """Distances (N, M) in float64. Without the matrix product trick, which leaves 1e-8 between equal points."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance (N,) of each point to its k-th nearest other point; the point itself, at 0, is the first of k + 1."""
    if len(x) <= k:
        raise ValueError(f"{k} nearest neighbours need more than {k} points, found {len(x)}")
    return torch.cat([_pairs(part, x).kthvalue(k + 1, dim=1).values for part in x.split(1000)])


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> tuple[float, float]:
    """Precision and recall [3], eq. 1-2, of features (N, D) and (M, D); comparable only at equal N and M."""
    distance = _pairs(real, fake)
    precision = (distance <= _radii(real, k)[:, None]).any(dim=0)
    recall = (distance <= _radii(fake, k)[None, :]).any(dim=1)
    return float(precision.double().mean()), float(recall.double().mean())


def density_coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage [4] of features (N, D) and (M, D). Density may exceed 1."""
    inside = _pairs(real, fake) <= _radii(real, k)[:, None]
    return int(inside.sum()) / (k * len(fake)), float(inside.any(dim=1).double().mean())
