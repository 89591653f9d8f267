"""The VAE's bound: its terms against independent references, its gradient against another estimator, its order."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.importance import elbo, iwae
from gen.losses.likelihoods import bernoulli_log_prob, gaussian_kl, gaussian_log_prob, log_mean_exp
from gen.model import Batch, Progress
from gen.models.variational.vae import VAE
from gen.nets.coders import decoder, encoder, set_bias


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
    logits = model.decoder(z[:, None]).flatten(1)
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
        gap(elbo(model.log_weights, many, 1)),
        gap(iwae(model.log_weights, many, 5)),
        gap(iwae(model.log_weights, many, 50)),
        torch.zeros(repeats).double(),
    ]
    for looser, tighter in pairwise(gaps):
        excess = looser - tighter
        assert excess.mean() > 4 * excess.std() / math.sqrt(repeats)
    torch.testing.assert_close(iwae(model.log_weights, x, 20_000), exact, atol=0.05, rtol=0.0)


@torch.no_grad()
def test_what_the_elbo_loses_is_the_divergence_to_the_true_posterior():
    """log p(x) = L(x) + KL(q(z|x) || p(z|x)), both integrated over z."""
    model, x = tiny(), all_images()[:8]
    z = torch.linspace(-40.0, 40.0, 40_001, dtype=torch.float64)
    mean, log_var = model.posterior(x)
    log_q = Normal(mean, (0.5 * log_var).exp()).log_prob(z)  # (8, Z)
    logits = model.decoder(z[:, None]).flatten(1)
    likelihood = [Bernoulli(logits=logits).log_prob(image.flatten()).sum(1) for image in x]
    log_joint = torch.stack(likelihood) + Normal(0.0, 1.0).log_prob(z)
    exact = exact_log_prob(model, x)
    gap = (log_q.exp() * (log_q - (log_joint - exact[:, None]))).sum(1) * (80.0 / 40_000)
    assert (gap > 0.01).all()
    draws = elbo(model.log_weights, x.repeat(20_000, 1, 1, 1), 1).view(20_000, 8)
    error = draws.mean(0) + gap - exact
    assert (error.abs() < 5 * draws.std(0) / math.sqrt(len(draws))).all()


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
        log_likelihood = Bernoulli(logits=model.decoder(z).flatten(1)).log_prob(x.flatten()).sum(1)
        integrand = log_likelihood + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).squeeze(1)
    # E[grad log q] = 0, so a constant baseline changes nothing but the variance.
    surrogate = ((integrand - integrand.mean()) * q.log_prob(z).squeeze(1)).mean()
    score = torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, weights)])

    assert reparameterised.norm() > 0.5
    assert (reparameterised - score).norm() < 0.05 * reparameterised.norm()


@torch.no_grad()
@pytest.mark.parametrize(("net", "hidden"), [("mlp", (8,)), ("conv", (3, 5))])
def test_initialisation_starts_at_the_pixel_frequencies(net: str, hidden: tuple[int, ...]):
    model = VAE(DataSpec((2, 8, 12), 0, Space.parse("binary_fixed")), latents=3, net=net, hidden=hidden).double()
    x = (torch.rand(48, 2, 8, 12, dtype=torch.float64) < torch.rand(2, 8, 12, dtype=torch.float64)).double()
    model.initialize(x)
    for name, parameter in model.decoder.named_parameters():
        if name.endswith("weight"):
            parameter.zero_()  # nothing but the last bias is left
    means = model.decode(torch.randn(1, 3, dtype=torch.float64))
    torch.testing.assert_close(means[0], x.mean(0).clamp(1 / 49, 48 / 49))


@torch.no_grad()
def test_active_units_counts_the_dimensions_that_move():
    model, x = tiny(3), all_images()
    model.encoder[-1].weight[1] = 0.0  # the mean of the second latent no longer depends on the image
    assert model.validate(Batch(x))["active_units"].item() == 2


@torch.no_grad()
def test_log_p_is_the_bound_plus_the_divergence_on_a_grid_of_codes():
    """The identity of the chapter's docstring with two latents, every integral a sum over a grid of the plane."""
    model, x = tiny(latents=2), all_images()[::5]
    axis = torch.linspace(-20.0, 20.0, 401, dtype=torch.float64)
    z, area = torch.cartesian_prod(axis, axis), (40.0 / 400) ** 2
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(1)
    logits = model.decoder(z).flatten(1)
    log_likelihood = torch.stack([bernoulli_log_prob(logits, image.flatten().expand(len(z), -1)) for image in x])
    log_p = torch.logsumexp(log_likelihood + log_prior, 1) + math.log(area)
    mean, log_var = model.posterior(x)
    log_q = Normal(mean[:, None], (0.5 * log_var).exp()[:, None]).log_prob(z).sum(2)
    q = log_q.exp() * area
    torch.testing.assert_close(q.sum(1), torch.ones_like(log_p), atol=1e-3, rtol=0)
    bound = (q * log_likelihood).sum(1) - gaussian_kl(mean, log_var).sum(1)  # eq. 3
    divergence = (q * (log_q - (log_likelihood + log_prior - log_p[:, None]))).sum(1)
    assert (divergence > 0.05).all()
    torch.testing.assert_close(bound + divergence, log_p, atol=1e-3, rtol=0)
    sampled = elbo(model.log_weights, x.repeat(3_000, 1, 1, 1), 1).view(3_000, len(x))
    assert ((sampled.mean(0) - bound).abs() < 5 * sampled.std(0) / math.sqrt(3_000)).all(), "the model's own bound"


@torch.no_grad()
@pytest.mark.parametrize("likelihood", ["categorical", "logistic"])
def test_images_of_levels_have_probabilities_that_sum_to_one(likelihood: str):
    model = VAE(DataSpec((1, 1, 3), 0, Space.parse("levels(4)")), latents=1, hidden=(8,), likelihood=likelihood)
    model = model.double()
    x = torch.cartesian_prod(*[torch.linspace(0, 1, 4, dtype=torch.float64)] * 3).view(64, 1, 1, 3)
    model.initialize(x[:20])
    z = torch.linspace(-10.0, 10.0, 1001, dtype=torch.float64)
    parameters, prior = model.decoder(z[:, None]), Normal(0.0, 1.0).log_prob(z)
    log_joint = torch.stack([model.observation.log_prob(parameters, image.expand(1001, -1, -1, -1)) for image in x])
    exact = torch.logsumexp(log_joint + prior, 1) + math.log(20.0 / 1000)
    assert exact.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(iwae(model.log_weights, x, 5_000, outputs=4), exact, atol=0.2, rtol=0)


def test_linear_vae_has_its_optimum_at_probabilistic_pca():
    """Lucas et al. 2019: with linear nets and a Gaussian p(x|z), the bound's maximum is the likelihood's, PPCA.

    The posterior's covariance is diagonal there up to a rotation of z, so a Gaussian q with independent dimensions
    loses nothing, and no other stationary point is stable. E_q log p(x|z) is in closed form.
    """
    d, q, n = 6, 2, 400
    directions, _ = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64))
    mixing = directions * torch.tensor([3.0, 1.8, 0.9, 0.8, 0.7, 0.6])
    x = torch.randn(n, d, dtype=torch.float64) @ mixing.T + torch.randn(d, dtype=torch.float64)
    shape = (1, 2, 3)
    inference, generation = encoder(shape, 2 * q, hidden=()).double(), decoder(q, 1, shape, hidden=()).double()
    log_noise = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [*inference.parameters(), *generation.parameters(), log_noise],
        max_iter=200,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )
    W = generation[0].weight

    def bound() -> Tensor:
        mean, log_var = inference(x).chunk(2, 1)
        spread = (log_var.exp() * W.square().sum(0)).sum(1) / (2 * log_noise.exp())  # of W z around W mean
        at_mean = gaussian_log_prob(x, generation(mean).flatten(1), log_noise)
        return (at_mean - spread - gaussian_kl(mean, log_var).sum(1)).mean()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -bound()
        loss.backward()
        return loss

    optimizer.step(closure)
    S = torch.cov(x.T, correction=0)
    values, vectors = torch.linalg.eigh(S)
    noise = values[: d - q].mean()
    C = vectors[:, -q:] @ torch.diag(values[-q:] - noise) @ vectors[:, -q:].T + noise * torch.eye(d).double()
    log_likelihood = -0.5 * (d * math.log(2 * math.pi) + torch.logdet(C) + d)  # tr(C^-1 S) = d at the optimum
    assert bound().item() == pytest.approx(log_likelihood.item(), abs=1e-6)
    assert log_noise.exp().item() == pytest.approx(noise.item(), rel=1e-3)
    torch.testing.assert_close(W @ W.T + log_noise.exp() * torch.eye(d).double(), C, rtol=1e-3, atol=1e-3)
    gram = W.T @ W
    assert gram[0, 1].abs() < 1e-2 * gram.diagonal().min(), "columns at right angles: the rotation is found as well"


def test_beta_weighs_the_divergence_in_training_and_nothing_else():
    models = [VAE(tiny().spec, latents=2, hidden=(8,), beta=beta).double() for beta in (1.0, 4.0)]
    models[1].load_state_dict(models[0].state_dict())
    found = []
    for model in models:
        torch.manual_seed(1)
        loss, metrics = model.loss(Batch(all_images()))
        found.append((loss, metrics, elbo(model.log_weights, all_images(), 3)))
    (loss, metrics, bound), (weighted, same, same_bound) = found
    torch.testing.assert_close(same, metrics)
    torch.testing.assert_close(same_bound, bound)
    torch.testing.assert_close(loss.detach(), metrics["reconstruction"] + metrics["kl"])
    torch.testing.assert_close(weighted.detach(), metrics["reconstruction"] + 4 * metrics["kl"])


def test_the_weight_of_the_divergence_rises_with_the_images_seen():
    model = VAE(tiny().spec, latents=2, hidden=(8,), beta=2.0, warm_up=100).double()
    for images, weight in ((0, 0.0), (25, 0.5), (100, 2.0), (900, 2.0)):
        (update,) = model.updates(iter([Batch(all_images())]), Progress(images, images, 1000))
        expected = update.metrics["reconstruction"] + weight * update.metrics["kl"]
        torch.testing.assert_close(update.loss.detach(), expected)
        assert update.metrics["kl"] > 0


@torch.no_grad()
def test_units_share_the_divergence():
    model, x = tiny(3), all_images()
    means, per_unit = model.latent_units(x)
    torch.testing.assert_close(means, model.encode(x))
    torch.testing.assert_close(per_unit.sum(1), model.parts(x)[1])


def test_weights_keep_the_names_they_were_saved_under():
    names = [
        f"{net}.{layer}.{what}" for net in ("encoder", "decoder") for layer in (0, 2) for what in ("weight", "bias")
    ]
    assert list(tiny().state_dict()) == names


@torch.no_grad()
def test_coders_refuse_what_they_cannot_build():
    with pytest.raises(RecipeError, match=r"28 x 28; 3 convolutions halve .* multiples of 8"):
        encoder((1, 28, 28), 4, net="conv", hidden=(4, 4, 4))
    with pytest.raises(RecipeError, match=r"hyper\.net: found 'rnn'\. Allowed: mlp, conv"):
        decoder(4, 1, (1, 28, 28), net="rnn")
    with pytest.raises(RecipeError, match=r"hyper\.hidden: found \[0\]"):
        encoder((1, 28, 28), 4, hidden=(0,))
    linear = decoder(2, 3, (1, 4, 4), net="conv", hidden=())
    start = torch.randn(3, 1, 4, 4)
    set_bias(linear, start)
    torch.testing.assert_close(linear[-1].bias, start)
