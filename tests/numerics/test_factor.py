"""The linear factor model against dense Gaussians, the closed form, scikit-learn and its own stationarity."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis
from torch.distributions import MultivariateNormal, kl_divergence

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference.ppca import maximum_likelihood
from gen.model import Batch, Progress
from gen.models.linear.factor import FactorModel
from tests.numerics.test_linear_gaussian import (
    SPEC,
    D,
    Q,
    closed_form,
    covariance,
    dense,
    images,
    principal_angles,
    score,
)


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


def test_divergence_of_the_posterior_is_the_sum_over_units():
    m = fit(model("diagonal", x=images()), images(), 5)
    x = images(50, seed=3)
    means, kl = m.latent_units(x)
    gaussian = m.gaussian()
    posterior = MultivariateNormal(m.encode(x), torch.cholesky_inverse(gaussian.cholesky))
    prior = MultivariateNormal(torch.zeros(Q).double(), torch.eye(Q).double())
    torch.testing.assert_close(kl.sum(1), kl_divergence(posterior, prior).detach())
    torch.testing.assert_close(means.square().sum(1), m.encode(x).square().sum(1))  # a rotation of the codes
    assert (kl >= 0).all()
    assert (kl.mean(0).diff() < 0).all(), "strongest first"


def test_em_reaches_the_closed_form():
    x = images()
    m = fit(model(x=x), x, 150)
    W_ml, sigma2 = maximum_likelihood(covariance(x), Q)
    best = closed_form(x).log_prob(x.flatten(1)).mean().item()
    assert score(m, x) == pytest.approx(best, rel=1e-10)
    W, psi = (t.detach() for t in m.m_step())
    torch.testing.assert_close(psi[0], sigma2, rtol=1e-6, atol=0)
    torch.testing.assert_close(W @ W.T, W_ml @ W_ml.T, rtol=0, atol=1e-6 * W_ml.square().sum().item())
    assert principal_angles(W, W_ml).max() < 1e-4
    torch.testing.assert_close(m.latent.detach(), torch.eye(Q).double(), rtol=0, atol=1e-6)  # no expansion is left


def test_stepwise_em_on_small_batches_comes_near_the_closed_form():
    x = images(2000)
    m = model(x=x[:100])
    steps = 800
    for i in range(steps):
        step(m, x[torch.randint(len(x), (32,))], lr=1 - i / steps)
    best = closed_form(x).log_prob(x.flatten(1)).mean().item()
    assert best - 0.02 < score(m, x) <= best


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


def test_sampling_moments_far_from_the_borders():
    """Where nothing is clamped, means are the model's to within 4 standard errors, at any temperature."""
    m = fit(model("diagonal", x=images()), images(), 20)
    C = torch.linalg.inv(dense(*(t.detach() for t in m.m_step()), m.mean.detach()).precision_matrix)
    for temperature in (1.0, 0.5):
        torch.manual_seed(1)
        drawn = m.sample(20_000, temperature=temperature).flatten(1)
        error = 4 * temperature * (C.diagonal() / 20_000).sqrt()
        assert ((drawn.mean(0) - m.mean.detach()).abs() < error).all()
        ratio = drawn.var(0) / (temperature**2 * C.diagonal())
        assert ((ratio - 1).abs() < 0.05).all()


@pytest.fixture(scope="module")
def some_digits(digits_data):
    """Digits at half their size, dequantised, float64, (875, 1, 14, 14)."""
    pixels = torch.from_numpy(digits_data.splits["train"].samples.images[::4]).permute(0, 3, 1, 2)
    torch.manual_seed(0)
    small = torch.nn.functional.avg_pool2d(pixels.double(), 2)
    return (small.round() + torch.rand_like(small)) / 256


def test_on_digits_em_is_at_the_maximum_and_factor_analysis_above_it(some_digits):
    spec = DataSpec((1, 14, 14), 0, SPEC.space)
    fitted = {}
    for noise in ("isotropic", "diagonal"):
        torch.manual_seed(0)
        m = FactorModel(spec, latents=8, noise=noise).double()
        m.initialize(some_digits)
        fitted[noise] = fit(m, some_digits, 150)
    best = closed_form(some_digits, 8)
    top = best.log_prob(some_digits.flatten(1)).mean().item()
    assert score(fitted["isotropic"], some_digits) == pytest.approx(top, rel=1e-4)
    assert principal_angles(fitted["isotropic"].m_step()[0].detach(), best.W).max() < 1e-3
    assert score(fitted["diagonal"], some_digits) > top + 50


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
