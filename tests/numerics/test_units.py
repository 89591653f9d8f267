"""Units of both kinds against torch.distributions."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from gen.nets.units import Bits, Reals


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def bits(*size):
    units = Bits(torch.randn(size).double())
    return units, Bernoulli(logits=units.logits), torch.randint(2, (7, size[-1])).double()


def reals(*size):
    units = Reals(torch.randn(size).double(), torch.rand(size).double() + 0.3)
    return units, Normal(units.centre, units.precision.rsqrt()), torch.randn(7, size[-1]).double()


@pytest.fixture(params=[bits, reals])
def make(request):
    return request.param


def test_energy_and_log_z_are_the_log_density(make):
    units, reference, v = make(4)
    torch.testing.assert_close(-units.energy(v) - units.log_z(), reference.log_prob(v).sum(1))
    torch.testing.assert_close(units.mean(), reference.mean)
    rows, reference, v = make(7, 4)
    torch.testing.assert_close(-rows.energy(v) - rows.log_z(), reference.log_prob(v).sum(1))


def test_powers_and_products_are_proportional_to_those_of_the_densities(make):
    (p, log_p, v), (q, log_q, _) = make(4), make(4)
    for beta in (0.0, 0.3, 1.0):
        between = p.power(1 - beta).times(q.power(beta))
        expected = (1 - beta) * log_p.log_prob(v).sum(1) + beta * log_q.log_prob(v).sum(1)
        difference = -between.energy(v) - expected
        torch.testing.assert_close(difference, difference[:1].expand(7))


def test_pooled_units_have_the_moments_of_all_rows(make):
    rows, reference, _ = make(5, 4)
    pooled = rows.pooled()
    torch.testing.assert_close(pooled.mean(), reference.mean.mean(0))
    if isinstance(pooled, Reals):
        second = (reference.variance + reference.mean.square()).mean(0)
        torch.testing.assert_close(1 / pooled.precision, second - reference.mean.mean(0).square())


def test_samples_have_the_moments(make):
    units, reference, _ = make(4)
    v = units.repeated(100_000).sample()
    torch.testing.assert_close(v.mean(0), reference.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(v.var(0), reference.variance, atol=0, rtol=0.03)
