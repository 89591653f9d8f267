"""The two bounds on a model whose likelihood and posterior are known: z ~ N(0, 1), x|z ~ N(z, s^2)."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from gen.inference import importance
from gen.inference.importance import elbo, gaussian_codes, iwae

S = 0.5
X = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64).view(3, 1, 1, 1)
EXACT = Normal(0.0, math.sqrt(1 + S**2)).log_prob(X.flatten())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def log_weights(x: Tensor, samples: int, *, off: float, width: float) -> Tensor:
    """Of a q whose mean misses the posterior's by ``off`` and whose deviation is ``width`` times the posterior's."""
    mean, variance = x.flatten(1) / (1 + S**2) + off, torch.full((len(x), 1), width**2 * S**2 / (1 + S**2)).double()
    z, log_ratio = gaussian_codes(mean, variance.log(), samples)
    return log_ratio + Normal(z[..., 0], S).log_prob(x.flatten())


def test_with_the_true_posterior_every_weight_is_the_likelihood() -> None:
    exactly = partial(log_weights, off=0.0, width=1.0)
    torch.testing.assert_close(exactly(X, 7), EXACT.expand(7, 3))
    torch.testing.assert_close(elbo(exactly, X, 7), EXACT)
    torch.testing.assert_close(iwae(exactly, X, 7), EXACT)


def test_the_elbo_loses_the_divergence_to_the_posterior() -> None:
    off, width, draws = 0.3, 1.5, 200_000
    posterior = S / math.sqrt(1 + S**2)
    divergence = (off / posterior) ** 2 / 2 + (width**2 - 1) / 2 - math.log(width)
    found = elbo(partial(log_weights, off=off, width=width), X, draws)
    torch.testing.assert_close(EXACT - found, torch.full_like(EXACT, divergence), atol=0.02, rtol=0)


def test_more_samples_give_a_tighter_bound_that_arrives() -> None:
    wrong = partial(log_weights, off=0.3, width=1.5)
    many = X[:1].expand(20_000, -1, -1, -1)
    gaps = [float(EXACT[0] - iwae(wrong, many, samples).mean()) for samples in (1, 2, 5, 20)]
    assert all(looser > tighter + 0.005 for looser, tighter in zip(gaps, [*gaps[1:], 0.0], strict=True)), gaps
    torch.testing.assert_close(iwae(wrong, X, 100_000), EXACT, atol=0.01, rtol=0)


def test_chunks_do_not_change_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen images: torch draws normal numbers sixteen at a time, so the same ones whatever the chunks."""
    asked: list[int] = []
    x = torch.linspace(-2, 2, 16, dtype=torch.float64).view(16, 1, 1, 1)

    def watched(x: Tensor, samples: int) -> Tensor:
        asked.append(samples)
        return log_weights(x, samples, off=0.3, width=1.5)

    torch.manual_seed(1)
    whole = elbo(watched, x, 30), iwae(watched, x, 30)
    monkeypatch.setattr(importance, "VALUES", 16 * 2 * 7)  # 16 images of 1 value, 2 outputs: 7 codes at once
    torch.manual_seed(1)
    parts = elbo(watched, x, 30, outputs=2), iwae(watched, x, 30, outputs=2)
    assert asked == [30, 30, 7, 7, 7, 7, 2, 7, 7, 7, 7, 2]
    torch.testing.assert_close(parts, whole)


def test_codes_follow_the_posterior_and_their_ratio_is_that_of_two_densities() -> None:
    mean, log_var = torch.randn(2, 4, 3, dtype=torch.float64)
    q = Normal(mean, (0.5 * log_var).exp())
    z, log_ratio = gaussian_codes(mean, log_var, 50_000)
    torch.testing.assert_close(log_ratio, (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(2))
    assert ((z.mean(0) - mean).abs() < 5 * q.stddev / math.sqrt(len(z))).all()
    torch.testing.assert_close(z.var(0), q.variance, rtol=0.05, atol=0)
