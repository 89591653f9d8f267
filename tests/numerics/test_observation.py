"""Observation models: probabilities that sum to one, draws and means that follow them, starts that fit the pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gen.data.spaces import Space
from gen.errors import RecipeError
from gen.losses.likelihoods import MIN_LOG_SCALE, logistic_log_prob, logistic_scale
from gen.losses.observation import Bernoulli, Categorical, DiscretizedLogistic, Observation, observation

EACH = [Bernoulli(), Categorical(2), Categorical(5), DiscretizedLogistic(2), DiscretizedLogistic(5)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def levels_of(model: Observation) -> int:
    """K."""
    return {Bernoulli: 2, Categorical: model.outputs}.get(type(model)) or model.levels


def probabilities(model: Observation, parameters: Tensor) -> Tensor:
    """Of each level at each of N pixels, parameters (N, P, 1, 1, 1) -> (N, K)."""
    K = levels_of(model)
    values = torch.linspace(0, 1, K, dtype=parameters.dtype)
    columns = [model.log_prob(parameters, value.expand(len(parameters), 1, 1, 1)) for value in values]
    return torch.stack(columns, 1).exp()


def some(model: Observation, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, model.outputs, 1, 1, 1, dtype=dtype)


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_the_bins_of_a_logistic_hold_all_of_it(levels: int, dtype: torch.dtype, error: float) -> None:
    """Sharp and flat, inside the range and far outside of it; many lie across the edges of bins."""
    location = torch.linspace(-1.5, 1.5, 301).repeat(12)
    raw_log_scale = torch.linspace(-12, 6, 12).repeat_interleave(301)
    parameters = torch.stack([location, raw_log_scale], 1)[:, :, None, None, None].to(dtype)
    total = probabilities(DiscretizedLogistic(levels), parameters).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=error, rtol=0)


@pytest.mark.parametrize("model", EACH)
def test_probabilities_sum_to_one(model: Observation) -> None:
    total = probabilities(model, some(model, 200)).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_mass_of_a_bin_is_the_difference_of_the_distribution_function() -> None:
    """The textbook form, which cancels where the bin lies far out, at places where it does not."""
    location, raw = 0.5 * torch.randn(500, dtype=torch.float64), torch.randn(500, dtype=torch.float64) - 2
    level = torch.randint(0, 9, (500,)).double()
    scale, centre = logistic_scale(raw), level / 4 - 1
    upper = torch.where(level == 8, 1.0, torch.sigmoid((centre + 1 / 8 - location) / scale))
    lower = torch.where(level == 0, 0.0, torch.sigmoid((centre - 1 / 8 - location) / scale))
    found = logistic_log_prob(location[:, None], raw[:, None], level[:, None], 9)
    near = upper - lower > 1e-8
    assert near.sum() > 400
    torch.testing.assert_close(found[near], (upper - lower).log()[near], rtol=1e-6, atol=1e-9)


def test_far_tails_stay_finite_with_a_gradient_that_pulls_back() -> None:
    location = torch.full((256, 1), 40.0, requires_grad=True)
    raw = torch.full((256, 1), -30.0, requires_grad=True)
    log_prob = logistic_log_prob(location, raw, torch.arange(256.0)[:, None], 256)
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert torch.isfinite(location.grad).all() and torch.isfinite(raw.grad).all()
    assert (location.grad[:-1] < 0).all(), "every level but the last lies below"


def test_gradient_of_the_logistic_and_the_floor_of_its_scale() -> None:
    location, raw = torch.randn(2, 12, 1, dtype=torch.float64, requires_grad=True)
    level = torch.arange(12.0, dtype=torch.float64)[:, None] % 4
    assert torch.autograd.gradcheck(lambda m, s: logistic_log_prob(m, s, level, 4), (location, raw))
    low = torch.tensor([-30.0, MIN_LOG_SCALE, 3.0], dtype=torch.float64, requires_grad=True)
    scale = logistic_scale(low)
    assert (scale >= math.exp(MIN_LOG_SCALE)).all() and scale[2].log().item() == pytest.approx(3, abs=1e-4)
    (slope,) = torch.autograd.grad(scale.log().sum(), low)
    assert (slope > 0).all(), "below the floor a gradient must lead back"


def test_half_precision_is_computed_in_single() -> None:
    parameters = torch.randn(4, 2, 1, 28, 28).bfloat16()
    x = torch.randint(0, 16, (4, 1, 28, 28)) / 15
    model = DiscretizedLogistic(16)
    torch.testing.assert_close(model.log_prob(parameters, x), model.log_prob(parameters.float(), x))
    assert model.sample(parameters).dtype == torch.float32


@pytest.mark.parametrize("model", EACH)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_the_probabilities(model: Observation, temperature: float) -> None:
    """At T, a discrete distribution is its probabilities to the power 1/T, and a logistic has T times the scale."""
    parameters, draws = some(model, 3), 40_000
    K, expected = levels_of(model), probabilities(model, parameters)
    if isinstance(model, DiscretizedLogistic):
        cooled = parameters.clone()
        cooled[:, 1] = (temperature * logistic_scale(parameters[:, 1])).log()
        cooled[:, 1] = torch.log(torch.expm1(cooled[:, 1] - MIN_LOG_SCALE)) + MIN_LOG_SCALE  # undo the floor
        expected = probabilities(model, cooled)
    else:
        expected = expected.pow(1 / temperature) / expected.pow(1 / temperature).sum(1, keepdim=True)
    x = model.sample(parameters.repeat(draws, 1, 1, 1, 1), temperature)
    level = (x * (K - 1)).round()
    torch.testing.assert_close(x, level / (K - 1))
    found = torch.stack([(level == k).view(draws, 3).double().mean(0) for k in range(K)], 1)
    assert ((found - expected).abs() < 5 * (expected * (1 - expected) / draws).sqrt() + 1e-9).all()


@pytest.mark.parametrize("model", EACH)
def test_mean_is_the_sum_over_the_levels(model: Observation) -> None:
    parameters = some(model, 50)
    expected = probabilities(model, parameters) @ torch.linspace(0, 1, levels_of(model), dtype=torch.float64)
    torch.testing.assert_close(model.mean(parameters).flatten(), expected)


@pytest.mark.parametrize("model", EACH[:3])
def test_start_of_a_table_is_the_frequency_of_each_level(model: Observation) -> None:
    K = levels_of(model)
    x = (torch.rand(400, 1, 2, 3, dtype=torch.float64) * torch.linspace(0.3, 1, 6).view(1, 2, 3) * K).floor() / (K - 1)
    parameters = model.start(x)
    assert parameters.shape == (model.outputs, 1, 2, 3) and torch.isfinite(parameters).all()
    for place in range(6):
        row, column = divmod(place, 3)
        here = parameters[:, :, row, column][None, :, :, None, None]
        level = (x[:, 0, row, column] * (K - 1)).round().long()
        expected = level.bincount(minlength=K).double() / len(x)
        torch.testing.assert_close(probabilities(model, here)[0], expected, atol=0.003, rtol=0)


def test_start_of_a_logistic_has_the_mean_and_the_width_of_the_pixels() -> None:
    model = DiscretizedLogistic(256)
    truth = torch.tensor([[0.2, -0.4, 0.0], [-2.5, -2.0, -3.0]], dtype=torch.float64).view(2, 1, 1, 3)
    x = model.sample(truth.expand(20_000, -1, -1, -1, -1))
    torch.testing.assert_close(model.start(x), truth, atol=0.05, rtol=0)
    still = model.start(torch.full((10, 1, 1, 1), 77 / 255))
    assert probabilities(model, still[None])[0, 77] > 0.9, "a pixel that never moves"


def test_the_space_decides() -> None:
    assert observation(Space.parse("binary_dynamic"), "categorical") == Bernoulli()
    assert observation(Space.parse("levels(16)"), "categorical") == Categorical(16)
    assert observation(Space.parse("levels(16)"), "logistic") == DiscretizedLogistic(16)
    for space, likelihood, message in (
        ("binary_fixed", "logistic", r"hyper\.likelihood: found 'logistic', but 'binary_fixed' holds bits"),
        ("levels(4)", "gaussian", r"hyper\.likelihood: found 'gaussian'\. Allowed: categorical, logistic"),
        ("dequantized", "categorical", r"'dequantized' is continuous.*levels\(256\)"),
    ):
        with pytest.raises(RecipeError, match=message):
            observation(Space.parse(space), likelihood)
