"""Probabilistic PCA in closed form: what an iterative fit of the same model has to reach.

[1] M. Tipping, C. Bishop (1999). Probabilistic principal component analysis.
"""

from __future__ import annotations

import torch
from torch import Tensor


def maximum_likelihood(S: Tensor, latents: int) -> tuple[Tensor, Tensor]:
    """Maximum likelihood for x ~ N(mu, W W^T + sigma^2 I); mu is the sample mean.

    Args:
        S: covariance of the sample, divided by N, (d, d).
        latents: q, number of columns of W, below d.

    Returns:
        W (d, q) with orthogonal columns, strongest first, U (Lambda - sigma^2 I)^(1/2), eq. (7); and sigma^2 (), the
        mean of the d - q eigenvalues left out, eq. (8). W is unique up to a rotation of its columns.
    """
    eigenvalues, U = torch.linalg.eigh(S)  # ascending
    sigma2 = eigenvalues[:-latents].mean()
    W = U[:, -latents:] * (eigenvalues[-latents:] - sigma2).sqrt()
    return W.flip(1), sigma2
