"""The VAE's bound: its terms against independent references, its gradient against another estimator, its order."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from gen.data.spaces import DataSpec, Space
from gen.losses.likelihoods import bernoulli_log_prob, gaussian_kl, gaussian_log_prob, log_mean_exp
from gen.model import Batch
from gen.models.variational import vae
from gen.models.variational.vae import VAE


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tiny(latents: int = 1) -> VAE:
    """A VAE on 2x3 pixels, float64, with weights large enough for the bounds to lie nats apart.

    Not larger: where q is much narrower than the posterior, importance weights have no variance and IWAE is far from
    log p(x) at any K one can afford.
    """
    model = VAE(DataSpec((1, 2, 3), 0, Space.parse("binary_fixed")), latents=latents, hidden=(8,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model


def all_images() -> Tensor:
    """Every binary image of 2x3 pixels, (64, 1, 2, 3)."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6).view(64, 1, 2, 3)


def exact_log_prob(model: VAE, x: Tensor) -> Tensor:
    """log p(x) = log int p(x|z) N(z; 0, 1) dz for one latent, by the trapezoid rule on [-12, 12]: (B,)."""
    z = torch.linspace(-12.0, 12.0, 8001, dtype=torch.float64)
    log_prior = Normal(0.0, 1.0).log_prob(z)
    logits = model.decoder(z[:, None])
    log_joint = torch.stack([Bernoulli(logits=logits).log_prob(image.flatten()).sum(1) + log_prior for image in x])
    return torch.logsumexp(log_joint, 1) + math.log(24.0 / 8000)


def test_log_probs_match_torch_distributions():
    x, mean, log_var, logits = torch.randn(4, 5, 2, 3, dtype=torch.float64)
    normal = Independent(Normal(mean, (0.5 * log_var).exp()), 2)
    torch.testing.assert_close(gaussian_log_prob(x, mean, log_var), normal.log_prob(x))
    bits = (x > 0).double()
    reference = Independent(Bernoulli(logits=logits), 2).log_prob(bits)
    torch.testing.assert_close(bernoulli_log_prob(logits, bits), reference)


def test_half_precision_logits_are_summed_in_single_precision():
    logits = torch.randn(3, 1, 28, 28).bfloat16()
    bits = (torch.rand(3, 1, 28, 28) < 0.5).float()
    reference = bernoulli_log_prob(logits.double(), bits.double()).float()
    torch.testing.assert_close(bernoulli_log_prob(logits, bits), reference)


def test_log_mean_exp_survives_large_numbers():
    x = torch.tensor([[-3000.0, -3001.0], [2000.0, 2000.0]], dtype=torch.float64)
    expected = torch.tensor([-3000.0 + math.log((1 + math.exp(-1)) / 2), 2000.0], dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(x, 1), expected)


def test_kl_matches_torch_distributions_and_monte_carlo():
    mean, log_var = torch.randn(2, 4, 3, dtype=torch.float64)
    kl = gaussian_kl(mean, log_var)
    q, p = Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(kl, kl_divergence(q, p))
    z = q.sample((200_000,))
    log_ratio = q.log_prob(z) - p.log_prob(z)
    standard_error = log_ratio.std(0) / math.sqrt(len(z))
    assert ((log_ratio.mean(0) - kl).abs() < 5 * standard_error).all()


@torch.no_grad()
def test_quadrature_of_the_decoder_sums_to_one():
    assert exact_log_prob(tiny(), all_images()).exp().sum().item() == pytest.approx(1.0, abs=1e-9)


@torch.no_grad()
def test_bounds_are_in_order_below_the_exact_likelihood():
    model, x = tiny(), all_images()
    exact = exact_log_prob(model, x)
    repeats = 400
    many = x.repeat(repeats, 1, 1, 1)

    def gap(bound: Tensor) -> Tensor:
        """What a bound loses against log p(x), mean over the images, once per repeat."""
        return (exact - bound.view(repeats, 64)).mean(1)

    gaps = [
        gap(model.elbo(many, 1)),
        gap(model.iwae(many, 5)),
        gap(model.iwae(many, 50)),
        torch.zeros(repeats).double(),
    ]
    for looser, tighter in pairwise(gaps):
        excess = looser - tighter
        assert excess.mean() > 4 * excess.std() / math.sqrt(repeats)
    torch.testing.assert_close(model.iwae(x, 20_000), exact, atol=0.05, rtol=0.0)


@torch.no_grad()
def test_what_the_elbo_loses_is_the_divergence_to_the_true_posterior():
    """log p(x) = L(x) + KL(q(z|x) || p(z|x)), both integrated over z."""
    model, x = tiny(), all_images()[:8]
    z = torch.linspace(-40.0, 40.0, 40_001, dtype=torch.float64)
    mean, log_var = model.posterior(x)
    log_q = Normal(mean, (0.5 * log_var).exp()).log_prob(z)  # (8, Z)
    likelihood = [Bernoulli(logits=model.decoder(z[:, None])).log_prob(image.flatten()).sum(1) for image in x]
    log_joint = torch.stack(likelihood) + Normal(0.0, 1.0).log_prob(z)
    exact = exact_log_prob(model, x)
    gap = (log_q.exp() * (log_q - (log_joint - exact[:, None]))).sum(1) * (80.0 / 40_000)
    assert (gap > 0.01).all()
    draws = model.elbo(x.repeat(20_000, 1, 1, 1), 1).view(20_000, 8)
    error = draws.mean(0) + gap - exact
    assert (error.abs() < 5 * draws.std(0) / math.sqrt(len(draws))).all()


@torch.no_grad()
def test_chunks_do_not_change_the_estimate(monkeypatch):
    """The codes are drawn in the same order however many are decoded at once."""
    model, x = tiny(2), all_images()
    torch.manual_seed(1)
    whole = model.iwae(x, 30)
    monkeypatch.setattr(vae, "ROWS", 64 * 7)
    torch.manual_seed(1)
    torch.testing.assert_close(model.iwae(x, 30), whole)


def test_reparameterised_gradient_agrees_with_the_score_function():
    """Gradient of L by the parameters of q, by two estimators that share nothing but the model."""
    model, x = tiny(), all_images()[37:38]
    draws = 100_000
    weights = list(model.encoder.parameters())

    loss, _ = model.loss(Batch(x.expand(draws, -1, -1, -1)))
    reparameterised = torch.cat([g.flatten() for g in torch.autograd.grad(-loss, weights)])

    mean, log_var = model.posterior(x)
    q = Normal(mean, (0.5 * log_var).exp())
    z = q.sample((draws,)).squeeze(1)  # (draws, 1), no gradient
    with torch.no_grad():
        log_likelihood = Bernoulli(logits=model.decoder(z)).log_prob(x.flatten()).sum(1)
        integrand = log_likelihood + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).squeeze(1)
    # E[grad log q] = 0, so a constant baseline changes nothing but the variance.
    surrogate = ((integrand - integrand.mean()) * q.log_prob(z).squeeze(1)).mean()
    score = torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, weights)])

    assert reparameterised.norm() > 0.5
    assert (reparameterised - score).norm() < 0.05 * reparameterised.norm()


@torch.no_grad()
def test_initialisation_starts_at_the_pixel_frequencies():
    model, x = tiny(), all_images()[:48]
    model.initialize(x)
    means = model.decoder[-1].bias.sigmoid()
    torch.testing.assert_close(means, x.flatten(1).mean(0).clamp(1 / 49, 48 / 49))


@torch.no_grad()
def test_active_units_counts_the_dimensions_that_move():
    model, x = tiny(3), all_images()
    model.encoder[-1].weight[1] = 0.0  # the mean of the second latent no longer depends on the image
    assert model.validate(Batch(x))["active_units"].item() == 2
