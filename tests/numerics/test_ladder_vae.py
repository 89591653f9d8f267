"""The ladder VAE: fusion against a product of densities, the bound against integrals over both levels, the clock."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.importance import elbo, iwae
from gen.model import Batch, Progress
from gen.models.variational.ladder_vae import LadderVAE, Level, Normal, fuse

SPEC = DataSpec((1, 2, 3), 0, Space.parse("binary_fixed"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tiny(latents: tuple[int, ...] = (1, 1)) -> LadderVAE:
    """A ladder on 2x3 pixels, float64, with weights large enough for the levels to depend on each other."""
    model = LadderVAE(SPEC, latents=latents, width=8, hidden=(8,), warm_up=100).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.6)
    return model


def all_images() -> Tensor:
    """Every binary image of 2x3 pixels, (64, 1, 2, 3)."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6).view(64, 1, 2, 3)


def density(level: Normal, z: Tensor) -> Tensor:
    """log density of each unit at z, by torch.distributions."""
    return Reference(level.mean, (0.5 * level.log_var).exp()).log_prob(z)


GRID, CELL = torch.linspace(-10.0, 10.0, 401, dtype=torch.float64), 20.0 / 400


@torch.no_grad()
def integrals(model: LadderVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of a ladder of one unit on each of two levels, by sums over a grid of (z_1, z_2): log p(x) and L(x), (B,)."""
    z = GRID[:, None]
    log_likelihood = torch.stack([
        model.observation.log_prob(model.decoder(z), one.expand(len(z), -1, -1, -1)) for one in x
    ])  # (B, z_1)  # fmt: skip
    p = model.prior(0, z)
    log_prior = density(p, GRID[:, None, None]).squeeze(2) + Reference(0.0, 1.0).log_prob(GRID)  # (z_1, z_2)
    log_joint = log_likelihood[:, :, None] + log_prior  # (B, z_1, z_2)
    below, above = model.evidence(x)
    q = fuse(Normal(*(t[:, None] for t in below)), Normal(*(t[None] for t in p)))  # of z_1 given z_2: (B, z_2, 1)
    log_q = density(q, GRID).transpose(1, 2) + density(above, GRID)[:, None]  # (B, z_1, z_2)
    assert ((log_q.exp().sum((1, 2)) * CELL**2 - 1).abs() < 1e-3).all(), "the grid holds all of q"
    bound = (log_q.exp() * (log_joint - log_q)).sum((1, 2)) * CELL**2
    return log_joint.flatten(1).logsumexp(1) + 2 * math.log(CELL), bound


def test_fusion_is_the_product_of_two_gaussians() -> None:
    """By the formula of the paper, and pointwise: N(z; likelihood) N(z; prior) / N(z; fused) does not depend on z."""
    likelihood, prior = Normal(*torch.randn(2, 7, 3).double()), Normal(*torch.randn(2, 7, 3).double())
    fused = fuse(likelihood, prior)
    precision, precision_p = (-likelihood.log_var).exp(), (-prior.log_var).exp()
    torch.testing.assert_close(fused.log_var.exp(), 1 / (precision + precision_p))
    mean = (likelihood.mean * precision + prior.mean * precision_p) / (precision + precision_p)
    torch.testing.assert_close(fused.mean, mean)
    z = torch.linspace(-2.0, 2.0, 5).double().view(5, 1, 1)
    ratio = density(likelihood, z) + density(prior, z) - density(fused, z)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_fusion_bears_any_precision() -> None:
    """Likelihoods sharper and flatter than any float: the sharper side wins, gradients stay finite."""
    log_var = torch.tensor([-300.0, 300.0, 0.0]).requires_grad_()
    fused = fuse(Normal(torch.ones(3), log_var), Normal(torch.zeros(3), torch.tensor([0.0, 0.0, 300.0])))
    torch.testing.assert_close(fused.mean, torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(fused.log_var, torch.tensor([-300.0, 0.0, 0.0]))
    assert torch.isfinite(torch.autograd.grad((fused.mean + fused.log_var).sum(), log_var)[0]).all()


def test_divergence_of_a_level_matches_torch_distributions() -> None:
    z, (q, p) = torch.zeros(5, 3), (Normal(*torch.randn(2, 5, 3).double()) for _ in range(2))
    first, second = (Reference(each.mean, (0.5 * each.log_var).exp()) for each in (q, p))
    torch.testing.assert_close(Level(z, q, p).kl(), kl_divergence(first, second))


@torch.no_grad()
def test_probabilities_of_all_images_sum_to_one() -> None:
    exact, _ = integrals(tiny(), all_images())
    assert exact.exp().sum().item() == pytest.approx(1.0, abs=1e-4)


@torch.no_grad()
def test_bound_and_its_divergences_are_the_integrals() -> None:
    """The loss, with KLs in closed form given the level above, and the log-weights both have L(x) as their mean."""
    model, x = tiny(), all_images()[[5, 26, 63]]
    exact, bound = integrals(model, x)
    assert (exact - bound > 0.02).all()
    draws = 40_000
    for row, one in enumerate(x):
        levels = model.infer(model.evidence(one[None].expand(draws, -1, -1, -1)))
        log_likelihood = model.observation.log_prob(model.decoder(levels[0].z), one[None].expand(draws, -1, -1, -1))
        by_parts = log_likelihood - torch.cat([level.kl() for level in levels], 1).sum(1)
        for estimate in (by_parts, model.log_weights(one[None], draws)[:, 0]):
            assert abs(estimate.mean() - bound[row]) < 4.5 * estimate.std() / math.sqrt(draws)


@torch.no_grad()
def test_bounds_are_in_order_below_the_exact_likelihood() -> None:
    model, x = tiny(), all_images()[::9]
    for head in model.evidence_heads:  # a wider q: where it is much narrower than the posterior, K must be astronomic
        head.bias[1] += 1.5
    exact, _ = integrals(model, x)
    repeats = 400
    many = x.repeat(repeats, 1, 1, 1)
    bounds = [bound(model.log_weights, many, k) for bound, k in ((elbo, 1), (iwae, 4), (iwae, 16))]
    gaps = [(exact - bound.view(repeats, len(x))).mean(1) for bound in bounds]
    for looser, tighter in pairwise([*gaps, torch.zeros(repeats).double()]):
        excess = looser - tighter
        assert excess.mean() > 4 * excess.std() / math.sqrt(repeats)
    torch.testing.assert_close(iwae(model.log_weights, x, 20_000), exact, atol=0.05, rtol=0.0)


@pytest.mark.parametrize("latents", [(4,), (4, 3), (4, 3, 2)])
@torch.no_grad()
def test_divergences_of_levels_and_of_units_add_up(latents: tuple[int, ...]) -> None:
    """Of one draw: kl = kl_1 + .. + kl_L = the sum over units; and a ladder of one rung is a VAE."""
    model, x = tiny(latents), all_images()
    torch.manual_seed(1)
    metrics = model.validate(Batch(x))
    torch.manual_seed(1)
    means, units = model.latent_units(x)
    assert means.shape == units.shape == (64, sum(latents)) and (units >= 0).all()
    per_level = units.mean(0).split(latents)
    for i, of_level in enumerate(per_level, start=1):
        torch.testing.assert_close(metrics[f"kl_{i}"], of_level.sum())
    torch.testing.assert_close(metrics["kl"], units.sum(1).mean())
    torch.testing.assert_close(metrics["loss"], metrics["reconstruction"] + metrics["kl"])
    assert f"kl_{len(latents) + 1}" not in metrics
    if len(latents) == 1:
        (q,) = model.evidence(x)
        torch.testing.assert_close(means, q.mean)
        assert torch.equal(model.encode(x), q.mean)


@torch.no_grad()
def test_a_unit_that_only_repeats_its_prior_is_not_active() -> None:
    """An uninformative likelihood leaves z_1 to z_2: its mean moves with the image, what it adds does not."""
    model, x = tiny((3, 2)), all_images()
    head = model.evidence_heads[0]
    model.evidence_heads[1].weight.mul_(8)
    head.weight.zero_()
    head.bias.copy_(torch.tensor([0.0] * 3 + [40.0] * 3))  # variances of e^40
    levels = model.infer(model.evidence(x))
    assert (levels[0].q.mean.var(0) > 0.01).all()
    means, units = model.latent_units(x)
    assert (means.var(0) > 0.01).tolist() == [False] * 3 + [True] * 2
    assert (units[:, :3] < 1e-6).all()


def test_samples_come_down_the_ladder() -> None:
    """Mean and variance of z_1 by ancestral sampling, caught at the decoder, against the grid; T scales the noise."""
    model = tiny()
    caught: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda _, args: caught.append(args[0].squeeze(1)))
    with torch.no_grad():
        p = model.prior(0, GRID[:, None])
        weight = Reference(0.0, 1.0).log_prob(GRID).exp() * CELL
        mean = (weight * p.mean.squeeze(1)).sum()
        second = (weight * (p.mean.square() + p.log_var.exp()).squeeze(1)).sum()
        model.sample(100_000)
        model.sample(1000, temperature=1e-6)
        cold = model.prior(0, torch.zeros(1, 1).double()).mean
    z = caught[0]
    assert abs(z.mean() - mean) < 4 * z.std() / math.sqrt(len(z))
    assert abs(z.square().mean() - second) < 4 * z.square().std() / math.sqrt(len(z))
    torch.testing.assert_close(caught[1], cold.expand(1, 1000)[0], atol=1e-4, rtol=0)


def test_the_kl_is_phased_in_by_images() -> None:
    """loss = reconstruction + beta kl, with beta = images / warm_up up to 1."""
    model, batch = tiny((3, 2)), Batch(all_images())
    for images, beta in ((0, 0.0), (25, 0.25), (100, 1.0), (900, 1.0)):
        (update,) = model.updates(iter([batch]), Progress(0, images, 1000))
        assert update.metrics["beta"].item() == beta
        expected = update.metrics["reconstruction"] + beta * update.metrics["kl"]
        torch.testing.assert_close(update.loss.detach(), expected)
    model.warm_up = 0
    (update,) = model.updates(iter([batch]), Progress(0, 0, 1000))
    assert update.metrics["beta"].item() == 1.0


def test_wrong_hyper_parameters_are_named() -> None:
    for latents in ((), (3, 0)):
        with pytest.raises(RecipeError, match=r"hyper.latents: found \[.*as in \[20, 10\]"):
            LadderVAE(SPEC, latents=latents)
    with pytest.raises(RecipeError, match=r"hyper.warm_up: found -1"):
        LadderVAE(SPEC, warm_up=-1)
