"""Whitening: white where it should be, invertible everywhere."""

import torch

from gen.inference.whitening import zca


def test_whitening_is_linear_symmetric_and_invertible():
    torch.manual_seed(0)
    x = torch.randn(4000, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    x -= x.mean(0)
    P, inverse = zca(x, 1e-9)
    covariance = (x @ P).T @ (x @ P) / len(x)
    torch.testing.assert_close(covariance / covariance[0, 0], torch.eye(6).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close((x @ P).square().sum(), x.square().sum())
    torch.testing.assert_close(P, P.T)
    torch.testing.assert_close(P @ inverse, torch.eye(6).double(), rtol=0, atol=1e-9)
    # With a floor, variances are L / (L + floor l): small ones stay small, and the order is kept.
    P, inverse = zca(x, 0.5)
    eigenvalues = torch.linalg.eigvalsh(x.T @ x / len(x))
    expected = eigenvalues / (eigenvalues + 0.5 * eigenvalues.mean())
    found = torch.linalg.eigvalsh((x @ P).T @ (x @ P) / len(x))
    torch.testing.assert_close(found / found[-1], expected / expected[-1])
    torch.testing.assert_close(x @ P @ inverse, x)
