"""Linear Gaussians against sums over their factors; the closed form of probabilistic PCA against scikit-learn.

What the tests of the chapters `factor` and `factor_gradient` share is here: data, the maximum, and angles to it."""

import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal

from gen.data.spaces import DataSpec, Space
from gen.inference.factor import LinearGaussian
from gen.inference.ppca import maximum_likelihood

SPEC = DataSpec((1, 3, 4), 0, Space.parse("dequantized"))
D, Q = SPEC.dims, 3


def images(count=400, seed=0):
    """Images in [0, 1) with three strong common factors and unequal noise."""
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(D, Q, generator=g, dtype=torch.float64) * 0.05
    noise = torch.linspace(0.02, 0.05, D, dtype=torch.float64)
    h = torch.randn(count, Q, generator=g, dtype=torch.float64)
    x = 0.5 + h @ W.T + noise * torch.randn(count, D, generator=g, dtype=torch.float64)
    return x.view(count, *SPEC.shape)


def dense(W, psi, mean):
    return MultivariateNormal(mean, W @ W.T + torch.diag(psi))


def closed_form(x, latents=Q):
    """Probabilistic PCA of images at its maximum."""
    W, sigma2 = maximum_likelihood(covariance(x), latents)
    return LinearGaussian(x.flatten(1).mean(0), W, sigma2.expand(len(W)))


def principal_angles(A, B):
    """Angles between the spaces that the columns of A and B span, in radians, (q,)."""
    QA, QB = (torch.linalg.qr(M)[0] for M in (A, B))
    return torch.linalg.svdvals(QB - QA @ (QA.T @ QB)).clamp(max=1).asin()  # by sines: cosines lose small angles


def score(m, x):
    with torch.no_grad():
        return m.log_prob(x).mean().item()


def covariance(x):
    return torch.cov(x.flatten(1).T, correction=0)


def test_posterior_is_that_of_a_sum_over_all_factors():
    """Mean, covariance and evidence of p(x | h) p(h), summed over a fine grid of two factors."""
    g = torch.Generator().manual_seed(4)
    W = torch.randn(5, 2, generator=g, dtype=torch.float64)
    gaussian = LinearGaussian(torch.randn(5, generator=g).double(), W, torch.rand(5, generator=g).double() + 0.5)
    x = torch.randn(3, 5, generator=g, dtype=torch.float64)
    axis = torch.linspace(-7, 7, 281, dtype=torch.float64)
    h = torch.cartesian_prod(axis, axis)
    cell = (axis[1] - axis[0]) ** 2
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(h).sum(1)
    noise = torch.distributions.Normal(gaussian.expected(h), gaussian.psi.sqrt())
    for row, m, log_p in zip(x, gaussian.posterior_mean(x), gaussian.log_prob(x), strict=True):
        joint = prior + noise.log_prob(row).sum(1)
        evidence = joint.logsumexp(0)
        torch.testing.assert_close(log_p, evidence + cell.log(), rtol=0, atol=1e-10)
        weight = (joint - evidence).exp().unsqueeze(1)
        mean = (weight * h).sum(0)
        torch.testing.assert_close(m, mean, rtol=0, atol=1e-10)
        covariance = (h - mean).T @ (weight * (h - mean))
        torch.testing.assert_close(torch.cholesky_inverse(gaussian.cholesky), covariance, rtol=0, atol=1e-10)


def test_closed_form_recovers_a_covariance_of_the_models_form():
    W = torch.randn(D, Q, dtype=torch.float64)
    C = W @ W.T + 0.3 * torch.eye(D, dtype=torch.float64)
    W_ml, sigma2 = maximum_likelihood(C, Q)
    torch.testing.assert_close(sigma2.item(), 0.3)
    torch.testing.assert_close(W_ml @ W_ml.T, W @ W.T)
    norms = W_ml.norm(dim=0)
    assert (norms[:-1] > norms[1:]).all()


def test_closed_form_is_stationary():
    x = images().flatten(1)
    W, sigma2 = (t.requires_grad_() for t in maximum_likelihood(covariance(x), Q))
    dense(W, sigma2.expand(D), x.mean(0)).log_prob(x).mean().backward()
    scale = 1 / sigma2.item()  # of the terms that cancel
    assert W.grad.abs().max() < 1e-9 * scale
    assert sigma2.grad.abs() < 1e-9 * scale


def test_closed_form_is_that_of_scikit_learn():
    """Up to the divisor: scikit-learn fits covariances divided by N - 1."""
    x = images()
    pca = PCA(Q).fit(x.flatten(1).numpy())
    W, sigma2 = maximum_likelihood(covariance(x) * len(x) / (len(x) - 1), Q)
    gaussian = LinearGaussian(x.flatten(1).mean(0), W, sigma2.expand(D))
    expected = pca.score(x.flatten(1).numpy())
    assert gaussian.log_prob(x.flatten(1)).mean().item() == pytest.approx(expected, rel=1e-10)
    assert principal_angles(W, torch.from_numpy(pca.components_.T)).max() < 1e-7
