"""Gradient ascent on the exact likelihood: where it must stand still, and how near the maximum it gets."""

import math

import pytest
import torch
from sklearn.decomposition import FactorAnalysis

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.factor import LinearGaussian
from gen.inference.ppca import maximum_likelihood
from gen.model import Batch, Progress
from gen.models.linear.factor_gradient import FactorGradient
from gen.train.optim import override
from gen.train.parallel import Parallel
from gen.train.step import Stepper
from tests.numerics.test_linear_gaussian import SPEC, D, Q, closed_form, covariance, images, principal_angles, score


def model(noise="isotropic", *, x, floor=1e-8):
    torch.manual_seed(1)
    m = FactorGradient(SPEC, latents=Q, noise=noise, floor=floor).double()
    m.initialize(x)
    return m


def fit(m, x, steps, batch=None, lr=None):
    """As the loop trains: the whole budget, with the model's own optimizer."""
    batch = len(x) if batch is None else batch
    optim = {} if lr is None else {"model": {"lr": lr}}
    stepper = Stepper(m, override(m.optimizers(), optim), Parallel(m.groups()), seed=0)
    torch.manual_seed(0)
    rows = torch.cat([torch.randperm(len(x)) for _ in range(-(-steps * batch // len(x)))])
    for i in range(steps):
        chosen = x[rows[i * batch : (i + 1) * batch]]
        stepper(Progress(i, i * batch, steps * batch), lambda n, part, chosen=chosen: Batch(chosen))
    return m


def test_coordinates_make_the_first_images_white_up_to_the_noise():
    x = images()
    m = model(x=x)
    eigenvalues = torch.linalg.eigvalsh(covariance(x))
    white = torch.linalg.solve(m.metric, torch.linalg.solve(m.metric, covariance(x)).T)
    kept = torch.linalg.eigvalsh(white)
    torch.testing.assert_close(kept[-Q:], torch.ones(Q).double())
    noise = eigenvalues[:-Q].mean()
    torch.testing.assert_close(kept[:-Q].sort().values, (eigenvalues[:-Q] / noise).clamp(max=1).sort().values)
    torch.testing.assert_close(m.gaussian().mean, x.flatten(1).mean(0))


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_units_of_pixels_do_not_matter(noise):
    """Half the contrast is half of all that is learnt: the same steps in the same coordinates."""
    x = images()
    whole, half = (fit(model(noise, x=y), y, 20) for y in (x, x / 2))
    torch.testing.assert_close(whole.loadings, half.loadings, rtol=0, atol=1e-4)
    assert score(half, x / 2) == pytest.approx(score(whole, x) + D * math.log(2), rel=1e-6)


def test_gradient_is_zero_at_the_closed_form():
    x = images()
    m = model(x=x[:100])
    W, sigma2 = maximum_likelihood(covariance(x), Q)
    with torch.no_grad():
        m.shift.copy_(torch.linalg.solve(m.metric, x.flatten(1).mean(0) - m.origin))
        m.loadings.copy_(torch.linalg.solve(m.metric, W))
        m.log_deviation.fill_(sigma2.log() / 2)
    assert score(m, x) == pytest.approx(closed_form(x).log_prob(x.flatten(1)).mean().item(), rel=1e-10)
    loss, _ = m.loss(Batch(x))
    loss.backward()
    for parameter in m.parameters():
        assert parameter.grad.abs().max() < 1e-9


def test_gradient_ascent_reaches_the_closed_form():
    x = images()
    m = fit(model(x=x[:200]), x, 600)
    best = closed_form(x)
    top = best.log_prob(x.flatten(1)).mean().item()
    assert score(m, x) == pytest.approx(top, rel=1e-6)
    assert score(m, x) <= top + 1e-9
    assert principal_angles(m.gaussian().W.detach(), best.W).max() < 1e-3


def test_small_batches_come_near_the_closed_form():
    x = images(2000)
    m = fit(model(x=x[:100]), x, 800, batch=32)
    top = closed_form(x).log_prob(x.flatten(1)).mean().item()
    assert top - 0.02 < score(m, x) <= top


def test_factor_analysis_by_gradient_is_that_of_scikit_learn():
    x = images()
    m = fit(model("diagonal", x=x), x, 600)
    reference = FactorAnalysis(Q, tol=1e-12, max_iter=5000, svd_method="lapack").fit(x.flatten(1).numpy())
    expected = reference.score(x.flatten(1).numpy())
    assert score(m, x) == pytest.approx(expected, rel=1e-6)
    found = m.gaussian()
    covariances = [found.W @ found.W.T + found.psi.diag(), torch.from_numpy(reference.get_covariance())]
    torch.testing.assert_close(*covariances, rtol=0, atol=1e-3 * covariances[1].diagonal().max().item())


def test_noise_is_projected_to_the_floor():
    x = images()
    x[:, :, 0, 0] = 0.25
    m = fit(model("diagonal", x=x, floor=1e-4), x, 200, lr=0.1)
    psi = m.gaussian().psi
    assert psi[0].item() == pytest.approx(1e-4)
    assert (psi >= 1e-4 * (1 - 1e-12)).all()
    assert (psi[1:] > 1e-4).any()
    assert score(m, x) > score(model("diagonal", x=x, floor=1e-4), x)


def test_everything_is_that_of_the_distribution():
    x = images(8)
    m = fit(model("diagonal", x=images()), images(), 5)
    gaussian = m.gaussian()
    assert isinstance(gaussian, LinearGaussian)
    torch.testing.assert_close(m.log_prob(x), gaussian.log_prob(x.flatten(1)))
    torch.testing.assert_close(m.encode(x), gaussian.posterior_mean(x.flatten(1)).detach())
    torch.testing.assert_close(m.decode(m.encode(x)).flatten(1), gaussian.expected(m.encode(x)).detach())
    for draw, expected in (
        (lambda: m.sample(6, temperature=0.7), lambda: gaussian.sample(6, 0.7)),
        (lambda: m.complete(x, x > 0.5), lambda: gaussian.complete(x.flatten(1), x.flatten(1) > 0.5)),
    ):
        torch.manual_seed(3)
        found = draw().flatten(1)
        torch.manual_seed(3)
        torch.testing.assert_close(found, expected().detach())


@pytest.mark.slow
@pytest.mark.parametrize("latents", [32, 64])
def test_on_digits_it_comes_within_half_a_nat_of_the_closed_form(digits_data, latents):
    """Of about 590: after 100,000 images in batches of 500, that is in seconds."""
    pixels = torch.from_numpy(digits_data.splits["train"].samples.images).permute(0, 3, 1, 2)
    torch.manual_seed(0)
    x = Space.parse("dequantized").encode(pixels)
    m = FactorGradient(DataSpec((1, 28, 28), 0, SPEC.space), latents=latents)
    m.initialize(x[torch.randperm(len(x))[:2000]])
    fit(m, x, 200, batch=500)
    x = x.double()
    top = closed_form(x, latents).log_prob(x.flatten(1)).mean().item()
    assert top - 0.5 < score(m.double(), x) <= top + 1e-6


@pytest.mark.parametrize(
    "hyper", [{"latents": 0}, {"latents": D}, {"noise": "full"}, {"floor": 0.0}], ids=lambda h: next(iter(h))
)
def test_impossible_recipes_are_refused(hyper):
    with pytest.raises(RecipeError, match=f"hyper.{next(iter(hyper))}.*found.*allowed"):
        FactorGradient(SPEC, **{"latents": Q, **hyper})
