"""The mixture of conditional Gaussian scale mixtures by its definition, and the head that its parameters feed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from gen.losses.gaussian_mixtures import GaussianMixture
from gen.nets.mcgsm import MCGSM


def test_the_layer_is_the_papers_formula() -> None:
    """Components, scales and directions one by one, with K_c as a matrix; and p(y | h) as its sum."""
    torch.manual_seed(0)
    layer = MCGSM(4, components=3, scales=2, features=5).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    h, y = torch.randn(4, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    weights, densities = torch.zeros(3, 2).double(), torch.zeros(3, 2).double()
    for c in range(3):
        K = torch.zeros(4, 4).double()
        for n in range(5):
            K += layer.beta[c, n] ** 2 * torch.outer(layer.b[n], layer.b[n])
        for s in range(2):
            weights[c, s] = torch.exp(layer.eta[c, s] - torch.exp(layer.alpha[c, s]) / 2 * (h @ K @ h))
            normal = torch.distributions.Normal(layer.a[c] @ h, torch.exp(-layer.alpha[c, s] / 2))
            densities[c, s] = normal.log_prob(y).exp()
    expected = (weights / weights.sum() * densities).sum().log()
    head = GaussianMixture(1, 6, None)
    found = head.log_prob(layer(h).flatten()[None, :, None, None], y.view(1, 1, 1, 1))
    torch.testing.assert_close(found.squeeze(), expected, rtol=1e-10, atol=0)


def outputs(components: int, pixels: int = 1, spread: float = 1.0) -> Tensor:
    """Of a network: (N, 3 K), with means in and around [0, 1] and deviations from 0.03 to 0.6."""
    logits = torch.randn(pixels, components)
    means = 0.5 + 0.4 * spread * torch.randn(pixels, components)
    log_precisions = 4 + 1.5 * torch.randn(pixels, components)
    return torch.cat([logits, means, log_precisions], 1).double()


@pytest.mark.parametrize("components", [1, 4])
def test_the_density_integrates_to_one(components: int) -> None:
    torch.manual_seed(components)
    head, given = GaussianMixture(1, components, None), outputs(components)
    grid = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    p = head.log_prob(given[:, :, None, None], grid.view(1, 1, -1, 1)).exp().flatten()
    assert abs(integrate.simpson(p.numpy(), x=grid.numpy()) - 1) < 1e-9
    mean = integrate.simpson((p * grid).numpy(), x=grid.numpy())
    assert abs(head.mean(given, given[:, :0]).item() - mean) < 1e-9


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("components", [1, 4])
def test_the_mass_of_all_levels_is_one_and_each_is_an_integral(levels: int, components: int) -> None:
    torch.manual_seed(levels)
    head, given = GaussianMixture(1, components, levels), outputs(components, pixels=50, spread=3)
    values = torch.linspace(0, 1, levels, dtype=torch.float64)
    log_p = head.log_prob(given[:, :, None, None], values.view(1, 1, -1, 1))[:, 0, :, 0]
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(50).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(
        head.mean(given[:, :, None, None], log_p)[:, 0, 0, 0], log_p.exp() @ values, rtol=0, atol=1e-9
    )
    log_weights, means, log_precisions = (t[:, 0] for t in head.parameters(given))
    edges = torch.cat([torch.tensor([-torch.inf]), (values[1:] + values[:-1]) / 2, torch.tensor([torch.inf])])
    below = stats.norm.cdf(edges[None, :, None], means[:, None], (-log_precisions[:, None] / 2).exp())
    expected = (torch.from_numpy(below).diff(dim=1) * log_weights.exp()[:, None]).sum(2)
    torch.testing.assert_close(log_p.exp(), expected, rtol=1e-9, atol=1e-12)


def test_masses_far_out_are_exact_and_have_gradients() -> None:
    """A bin 40 deviations away, and one that holds a Gaussian's 10^-6th part: no underflow, no cancellation."""
    head = GaussianMixture(1, 1, 16)
    for mean, log_precision, value in ((0.1, 7.5, 1.0), (0.1, 7.5, 14 / 15), (0.9, 7.5, 0.0), (0.5, -22.0, 7 / 15)):
        given = torch.tensor([0.0, mean, log_precision], dtype=torch.float64).view(1, 3, 1, 1).requires_grad_()
        log_p = head.log_prob(given, torch.full((1, 1, 1, 1), value, dtype=torch.float64))
        sigma = torch.tensor(-log_precision / 2).exp().item()
        edges = [value - 0.5 / 15, value + 0.5 / 15]
        if value == 1.0:
            expected = stats.norm.logsf(edges[0], mean, sigma)
        elif value == 0.0:
            expected = stats.norm.logcdf(edges[1], mean, sigma)
        else:
            a, b = (stats.norm.logsf(e, mean, sigma) for e in edges)
            expected = a + torch.log(-torch.expm1(torch.tensor(b - a))).item()
        assert abs(log_p.item() - expected) < 1e-7 * abs(expected)
        (gradient,) = torch.autograd.grad(log_p.sum(), given)
        assert torch.isfinite(gradient).all() and gradient[0, 1] != 0


def test_gradients_are_those_of_differences() -> None:
    torch.manual_seed(0)
    for levels, x in ((None, 0.3), (5, 0.0), (5, 0.5), (5, 1.0)):
        head, given = GaussianMixture(1, 3, levels), outputs(3)[:, :, None, None].requires_grad_()
        value = torch.full((1, 1, 1, 1), x, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda o, h=head, v=value: h.log_prob(o, v), given)


def draw(head: GaussianMixture, given: Tensor, count: int, **how: Any) -> Tensor:
    noise = torch.rand(count, head.noise, dtype=torch.float64)
    blank = torch.zeros(count, head.channels, dtype=torch.float64)
    return head.draw(given.expand(count, -1), blank, 0, noise, **how)


def test_draws_follow_the_density() -> None:
    """Kolmogorov and Smirnov, on numbers inside (0, 1); what lies outside is drawn at the ends."""
    torch.manual_seed(0)
    head, given = GaussianMixture(1, 4, None), outputs(4)
    drawn = draw(head, given, 20_000)
    log_weights, means, log_precisions = (t[0, 0].numpy() for t in head.parameters(given))

    def below(x: Any) -> Any:
        each = stats.norm.cdf(x[..., None], means, torch.tensor(-log_precisions / 2).exp().numpy())
        return each @ torch.tensor(log_weights).exp().numpy()

    low, high = below(torch.zeros(1).numpy())[0], below(torch.ones(1).numpy())[0]
    assert abs((drawn == 0).double().mean() - low) < 0.01
    assert abs((drawn == 1).double().mean() - (1 - high)) < 0.01
    inside = drawn[(drawn > 0) & (drawn < 1)].numpy()
    assert len(inside) > 10_000
    assert stats.kstest(inside, lambda x: (below(x) - low) / (high - low)).pvalue > 0.01


def test_draws_of_levels_have_their_masses() -> None:
    torch.manual_seed(1)
    head, given = GaussianMixture(1, 3, 9), outputs(3)
    drawn = draw(head, given, 20_000)
    values = torch.linspace(0, 1, 9, dtype=torch.float64)
    p = head.log_prob(given[:, :, None, None], values.view(1, 1, -1, 1)).exp().flatten()
    counts = torch.bincount((drawn * 8).round().long(), minlength=9)
    torch.testing.assert_close(drawn, values[(drawn * 8).round().long()])
    often = p > 5 / 20_000
    assert (
        stats.chisquare(counts[often].numpy(), (p[often] / p[often].sum() * counts[often].sum()).numpy()).pvalue > 0.01
    )


def test_a_temperature_draws_closer_and_extreme_noise_stays_finite() -> None:
    torch.manual_seed(2)
    head = GaussianMixture(1, 1, None)
    given = torch.tensor([[0.0, 0.5, 6.0]], dtype=torch.float64)
    wide, narrow = (draw(head, given, 4000, temperature=t).std() for t in (1.0, 0.5))
    assert abs(narrow / wide - 0.5) < 0.03
    for dtype in (torch.float32, torch.float64):
        noise = torch.tensor([[0.0, 0.0], [1 - torch.finfo(dtype).eps, 1 - torch.finfo(dtype).eps]], dtype=dtype)
        assert torch.isfinite(head.draw(given.to(dtype).expand(2, -1), noise[:, :1], 0, noise)).all()


def test_channels_lie_one_after_the_other() -> None:
    torch.manual_seed(3)
    two, one = GaussianMixture(2, 3, None), GaussianMixture(1, 3, None)
    a, b = outputs(3)[:, :, None, None], outputs(3)[:, :, None, None]
    x = torch.rand(1, 2, 1, 1, dtype=torch.float64)
    together = two.log_prob(torch.cat([a, b], 1), x)
    torch.testing.assert_close(together, torch.cat([one.log_prob(a, x[:, :1]), one.log_prob(b, x[:, 1:])], 1))
    noise = torch.rand(1, 2, dtype=torch.float64)
    second = two.draw(torch.cat([a, b], 1)[..., 0, 0], x[..., 0, 0], 1, noise)
    assert torch.equal(second, one.draw(b[..., 0, 0], x[:, 1:, 0, 0], 0, noise))
