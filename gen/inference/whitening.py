"""ZCA whitening: the linear map that makes data white and changes them least.

Natural images have a 1/f^2 power spectrum: nearly all of their variance is in a few coarse directions, and whatever
learns by squared error learns these. Whitening evens the spectrum out. Of all maps that do, the symmetric one leaves
the data closest to what they were [1], so that whitened patches still look like patches. Noise is what a complete
evening out would amplify most, so eigenvalues are raised first: directions far below the floor keep little variance.

[1] A. Bell, T. Sejnowski (1997). The "independent components" of natural scenes are edge filters.
"""

from __future__ import annotations

import torch
from torch import Tensor


def zca(x: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The map, and the one back.

    With the covariance U L U^T and its mean eigenvalue l, the map is c U (L + floor l)^-1/2 U^T, where c keeps the mean
    squared length of the data.

    Args:
        x: data of mean zero, (N, d), not all of them zero.
        floor: what is added to every eigenvalue, in units of their mean, above 0.

    Returns:
        P and its inverse, symmetric, (d, d): ``x @ P`` is white where eigenvalues are far above the floor.
    """
    eigenvalues, U = torch.linalg.eigh(x.T @ x / len(x))
    eigenvalues = eigenvalues.clamp(min=0)  # what rounding left below it
    raised = eigenvalues + floor * eigenvalues.mean()
    c = (eigenvalues.sum() / (eigenvalues / raised).sum()).sqrt()
    return c * (U * raised.rsqrt()) @ U.T, (U * raised.sqrt()) @ U.T / c
