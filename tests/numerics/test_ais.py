"""Annealed importance sampling against log Z by enumeration, for both kinds of visible units."""

from itertools import pairwise

import pytest
import torch

from gen.inference import ais
from gen.nets.units import Bits, Reals
from tests.numerics.enumeration import exact_samples, joint, mixture, random_gaussian, random_layer, states

KINDS = ["bits", "reals"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("visible", "hidden"), [(9, 4), (4, 9), (14, 15)])
def test_exact_log_z_is_the_sum_over_the_other_side(visible, hidden):
    layer = random_layer(visible, hidden, 0.5)
    torch.testing.assert_close(ais.exact_log_z(layer), (-layer.free_energy(states(visible))).logsumexp(0).detach())


def test_exact_log_z_of_real_units_is_that_of_the_mixture():
    layer = random_gaussian(5, 14, 0.4)  # more states than are summed at once
    torch.testing.assert_close(ais.exact_log_z(layer), mixture(layer)[3])


def machine(kind, visible, hidden, scale, particles):
    """A layer, its log Z, a base on purpose unlike it, and exact samples of it."""
    if kind == "bits":
        layer = random_layer(visible, hidden, scale)
        p, log_z = joint(layer)
        samples = states(visible)[torch.multinomial(p.sum(1), particles, replacement=True)]
        return layer, log_z, Bits(torch.randn(visible).double()), samples
    layer = random_gaussian(visible, hidden, scale)
    base = Reals(torch.randn(visible).double(), torch.rand(visible).double() + 0.2)
    return layer, mixture(layer)[3], base, exact_samples(layer, particles)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_unbiased_both_ways_with_three_temperatures(kind):
    layer, log_z, base, v = machine(kind, 6, 4, 0.5, 100_000)
    betas = [0.0, 0.3, 0.8, 1.0]
    log_ratio = log_z - ais.base_log_z(layer, base)
    for start, path, sign in ((base.repeated(len(v)).sample(), betas, 1), (v, betas[::-1], -1)):
        w = (ais.anneal(layer, base, start, path) - sign * log_ratio).exp()
        assert (w.mean() - 1).abs() < 4 * w.std() / len(w) ** 0.5
        assert w.std() > 0.1  # the path is coarse enough for the test to mean something


@pytest.mark.parametrize("kind", KINDS)
def test_single_particles_bracket_log_z(kind):
    layer, log_z, base, v = machine(kind, 8, 5, 1.0 if kind == "bits" else 0.5, 2_000)
    betas, base_log_z = [0.0, 0.25, 0.5, 0.75, 1.0], ais.base_log_z(layer, base)
    low = base_log_z + ais.anneal(layer, base, base.repeated(len(v)).sample(), betas)
    high = base_log_z - ais.anneal(layer, base, v, betas[::-1])
    for estimate, sign in ((low, -1), (high, 1)):
        assert sign * (estimate.mean() - log_z) > 4 * estimate.std() / len(estimate) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_meet_log_z_and_bracket_it_within_their_errors(kind):
    layer, log_z, _, v = machine(kind, 12, 6, 1.0 if kind == "bits" else 0.4, 500)
    low, high = ais.bracket(layer, v, 300)
    for estimate in (low, high):
        assert (estimate.value - log_z).abs() < 0.05
        assert 0 < estimate.error < 0.05
    assert low.value - 4 * low.error < log_z < high.value + 4 * high.error


@pytest.mark.parametrize("kind", KINDS)
def test_path_has_no_weights_at_its_start_and_is_the_machine_at_its_end(kind):
    """With weights at zero and the base of the machine itself, every particle has w = 1: there is nothing to anneal."""
    layer, _, _, v = machine(kind, 5, 3, 0.5, 50)
    with torch.no_grad():
        layer.W.zero_()
        layer.c_0.zero_()
    log_w = ais.anneal(layer, layer.alone(), v, ais.linear_path(7))
    torch.testing.assert_close(log_w, torch.zeros(50).double())
    torch.testing.assert_close(ais.base_log_z(layer, layer.alone()), ais.exact_log_z(layer))


@pytest.mark.parametrize("kind", KINDS)
def test_base_rates_are_the_moments_of_the_machine(kind):
    layer, _, _, v = machine(kind, 5, 3, 0.5, 100_000)
    base = ais.base_rates(layer, v)
    torch.testing.assert_close(base.mean(), v.mean(0), atol=0.02, rtol=0)
    if isinstance(base, Reals):
        torch.testing.assert_close(1 / base.precision, v.var(0), atol=0, rtol=0.03)


def test_linear_path_ends_exactly():
    path = ais.linear_path(1_500)
    assert (path[0], path[-1]) == (0.0, 1.0)
    assert all(last < beta for last, beta in pairwise(path))


def test_standard_error_is_the_spread_of_repetitions():
    values, errors = zip(*(ais.log_mean_exp(torch.randn(400).double() + 1000) for _ in range(500)), strict=True)
    torch.testing.assert_close(torch.stack(values).mean(), torch.tensor(1000.5).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.stack(values).std(), torch.stack(errors).mean(), atol=0, rtol=0.15)
