"""The linear factor model against dense Gaussians, the closed form, scikit-learn and its own stationarity."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch.distributions import MultivariateNormal

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.ppca import maximum_likelihood
from gen.model import Batch, Progress
from gen.models.linear.factor import FactorModel

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


def model(noise="isotropic", *, x=None, floor=1e-8, seed=1):
    torch.manual_seed(seed)
    m = FactorModel(SPEC, latents=Q, noise=noise, floor=floor).double()
    if x is not None:
        m.initialize(x)
    return m


def step(m, x, lr=1.0):
    """One update as the loop makes it, with plain SGD."""
    for update in m.updates(iter([Batch(x)]), Progress(0, 0, 1)):
        params = m.groups()[update.group]
        grads = torch.autograd.grad(update.loss, params)
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p.sub_(lr * g)
    return update


def fit(m, x, steps):
    for _ in range(steps):
        step(m, x)
    return m


def dense(W, psi, mean):
    return MultivariateNormal(mean, W @ W.T + torch.diag(psi))


def score(m, x):
    with torch.no_grad():
        return m.log_prob(x).mean().item()


def covariance(x):
    return torch.cov(x.flatten(1).T, correction=0)


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_log_likelihood_is_that_of_the_dense_gaussian(noise):
    x = images()
    m = fit(model(noise, x=x), x, 3)
    W, psi = m.m_step()
    torch.testing.assert_close(m.log_prob(x), dense(W, psi, m.mean).log_prob(x.flatten(1)), rtol=1e-10, atol=1e-10)
    assert (psi.unique().numel() == 1) == (noise == "isotropic")


def test_code_is_the_posterior_mean():
    x = images(20)
    m = fit(model("diagonal", x=images()), images(), 3)
    W, psi = m.m_step()
    expected = (x.flatten(1) - m.mean) @ torch.linalg.solve(W @ W.T + torch.diag(psi), W)
    torch.testing.assert_close(m.encode(x), expected.detach(), rtol=1e-9, atol=1e-10)


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


def test_em_reaches_the_closed_form():
    x = images()
    m = fit(model(x=x), x, 150)
    W_ml, sigma2 = maximum_likelihood(covariance(x), Q)
    best = dense(W_ml, sigma2.expand(D), x.flatten(1).mean(0)).log_prob(x.flatten(1)).mean().item()
    assert score(m, x) == pytest.approx(best, rel=1e-10)
    W, psi = m.m_step()
    torch.testing.assert_close(psi[0], sigma2, rtol=1e-6, atol=0)
    torch.testing.assert_close(W @ W.T, W_ml @ W_ml.T, rtol=0, atol=1e-6 * W_ml.square().sum().item())
    torch.testing.assert_close(m.latent.detach(), torch.eye(Q).double(), rtol=0, atol=1e-6)  # no expansion is left


def test_stepwise_em_on_small_batches_comes_near_the_closed_form():
    x = images(2000)
    m = model(x=x[:100])
    steps = 800
    for i in range(steps):
        step(m, x[torch.randint(len(x), (32,))], lr=1 - i / steps)
    W, sigma2 = maximum_likelihood(covariance(x), Q)
    best = dense(W, sigma2.expand(D), x.flatten(1).mean(0)).log_prob(x.flatten(1)).mean().item()
    assert best - 0.02 < score(m, x) <= best


def test_equals_scikit_learn_at_equal_parameters():
    x = images()
    pca = PCA(Q).fit(x.flatten(1).numpy())
    m = model(floor=1e-12)
    variances = torch.from_numpy(pca.explained_variance_ - pca.noise_variance_)
    W = torch.from_numpy(pca.components_.T) * variances.sqrt()
    with torch.no_grad():
        m.mean.copy_(torch.from_numpy(pca.mean_))
        m.cross.copy_(W)
        m.latent.copy_(torch.eye(Q))
        m.variance.copy_(W.square().sum(1) + pca.noise_variance_)
    assert score(m, x) == pytest.approx(pca.score(x.flatten(1).numpy()), rel=1e-10)


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_em_never_lowers_the_likelihood(noise):
    x = images()
    m = model(noise, x=x)
    scores = [score(m, x)]
    for _ in range(30):
        step(m, x)
        scores.append(score(m, x))
    assert all(after >= before - 1e-9 for before, after in pairwise(scores))
    assert scores[-1] > scores[0] + 1


def test_factor_analysis_is_stationary_and_no_worse_than_others():
    x = images()
    m = fit(model("diagonal", x=x), x, 1000)
    W, psi = (t.detach().requires_grad_() for t in m.m_step())
    dense(W, psi, m.mean.detach()).log_prob(x.flatten(1)).mean().backward()
    # In the units of log psi and of relative changes of W, where the likelihood is of order 10.
    assert (psi.grad * psi).abs().max() < 1e-5
    assert (W.grad * W).abs().max() < 1e-5
    reference = FactorAnalysis(Q, tol=1e-12, max_iter=5000, svd_method="lapack").fit(x.flatten(1).numpy())
    assert score(m, x) >= reference.score(x.flatten(1).numpy()) - 1e-6
    assert score(m, x) > score(fit(model(x=x), x, 150), x)


def test_statistics_of_ranks_average_to_those_of_the_whole_batch():
    x = images(64).flatten(1)
    m = model("diagonal", x=images())
    halves = zip(m.e_step(x[:32]), m.e_step(x[32:]), strict=True)
    for whole, (a, b) in zip(m.e_step(x), halves, strict=True):
        torch.testing.assert_close(whole, (a + b) / 2, rtol=1e-12, atol=1e-14)


def test_update_with_rate_lr_moves_statistics_by_that_share():
    x = images()
    m = model(x=x)
    before = [p.detach().clone() for p in m.groups()["statistics"]]
    expected = m.e_step(x.flatten(1))
    step(m, x, lr=0.25)
    for s, old, target in zip(m.groups()["statistics"], before, expected, strict=True):
        torch.testing.assert_close(s.detach(), old + 0.25 * (target - old))


def test_constant_pixels_get_the_floor():
    x = images()
    x[:, :, 0, 0] = 0.25
    m = fit(model("diagonal", x=x, floor=1e-4), x, 20)
    _, psi = m.m_step()
    assert psi[0].item() == pytest.approx(1e-4)
    assert (psi >= 1e-4).all()
    assert np.isfinite(score(m, x))


def test_initial_model_has_the_pixels_variances_half_of_them_shared():
    x = images()
    m = model("diagonal", x=x)
    W, psi = m.m_step()
    torch.testing.assert_close(W.square().sum(1) + psi, x.flatten(1).var(0, correction=0))
    torch.testing.assert_close(W.square().sum(1), psi)


def test_samples_have_the_models_moments_and_stay_in_the_space():
    x = images()
    m = fit(model("diagonal", x=x), x, 20)
    torch.manual_seed(0)
    drawn = m.sample(40_000)
    W, psi = m.m_step()
    assert drawn.shape == (40_000, *SPEC.shape)
    C = (W @ W.T + torch.diag(psi)).detach()
    torch.testing.assert_close(covariance(drawn), C, rtol=0, atol=0.03 * C.diagonal().max().item())
    wide = model()  # deviations of 0.3 about 1/2: much falls outside
    drawn = wide.sample(1000)
    assert drawn.min() == 0
    assert drawn.max() < 1


def test_completion_draws_from_the_conditional_gaussian():
    m = fit(model("diagonal", x=images()), images(), 20)
    x = images(2, seed=9)
    known = torch.zeros(2, *SPEC.shape, dtype=torch.bool)
    known[0, :, :2], known[1, :, :, 1:] = True, True
    torch.manual_seed(0)
    copies = 40_000
    drawn = m.complete(x.repeat_interleave(copies, 0), known.repeat_interleave(copies, 0)).view(2, copies, D)
    W, psi = (t.detach() for t in m.m_step())
    C = W @ W.T + torch.diag(psi)
    for i in range(2):
        k = known[i].flatten()
        assert torch.equal(drawn[i][:, k], x[i].flatten()[k].expand(copies, -1))
        gain = torch.linalg.solve(C[k][:, k], C[k][:, ~k]).T
        mean = m.mean.detach()[~k] + gain @ (x[i].flatten() - m.mean.detach())[k]
        cov = C[~k][:, ~k] - gain @ C[k][:, ~k]
        tolerance = 0.03 * cov.diagonal().max().item()
        torch.testing.assert_close(torch.cov(drawn[i][:, ~k].T), cov, rtol=0, atol=tolerance)
        torch.testing.assert_close(
            drawn[i][:, ~k].mean(0), mean, rtol=0, atol=0.02 * cov.diagonal().max().sqrt().item()
        )


def test_pictures_do_not_depend_on_the_rotation_of_the_latents():
    x = images()
    m = fit(model(x=x), x, 50)
    before = m.pictures()
    rotation = torch.linalg.qr(torch.randn(Q, Q, dtype=torch.float64))[0]
    with torch.no_grad():
        m.cross.copy_(m.cross @ rotation)
        m.latent.copy_(rotation.T @ m.latent @ rotation)
    after = m.pictures()
    for a, b in zip(before["loadings"] - 0.5, after["loadings"] - 0.5, strict=True):
        assert min((a - b).abs().max(), (a + b).abs().max()) < 1e-6  # an axis has no sign
    for picture in after.values():
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.shape[1:] == SPEC.shape


@pytest.mark.parametrize(
    "hyper", [{"latents": 0}, {"latents": D}, {"noise": "full"}, {"floor": 0.0}], ids=lambda h: next(iter(h))
)
def test_impossible_recipes_are_refused(hyper):
    with pytest.raises(RecipeError, match=f"hyper.{next(iter(hyper))}.*found.*allowed"):
        FactorModel(SPEC, **{"latents": Q, **hyper})
