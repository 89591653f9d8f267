"""Adversarial losses, penalties and networks against closed forms, exact optima and exact transport."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.losses.adversarial import (
    discriminator_loss,
    hinge_discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from gen.losses.penalties import gradient_penalty
from gen.model import Batch, Progress
from gen.models.adversarial.dcgan import DCGAN
from gen.models.adversarial.wgan_gp import WGANGP
from gen.nets.conv import conv_discriminator, conv_generator
from gen.nets.mlp import mlp

SIGNED = Space.parse("signed")


def _gradient(loss, logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits), logits)[0]


# ---- losses --------------------------------------------------------------------------------------------------------


def test_gradients_of_the_generator_losses_in_the_logits():
    logits = torch.linspace(-10, 10, 41, dtype=torch.float64)
    n, sigma = len(logits), 1 / (1 + torch.exp(-logits))
    torch.testing.assert_close(_gradient(minimax_generator_loss, logits) * n, -sigma, atol=1e-6, rtol=0)
    torch.testing.assert_close(_gradient(non_saturating_generator_loss, logits) * n, sigma - 1, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        _gradient(wasserstein_generator_loss, logits) * n, -torch.ones_like(logits), atol=1e-12, rtol=0
    )


def test_minimax_vanishes_where_the_discriminator_is_sure_of_a_fake_and_non_saturating_does_not():
    sure = torch.tensor([-10.0], dtype=torch.float64)
    assert _gradient(minimax_generator_loss, sure).abs() < 5e-5
    assert _gradient(non_saturating_generator_loss, sure).abs() > 0.9999


def test_losses_neither_overflow_nor_round():
    far = torch.tensor([-800.0, 800.0], dtype=torch.float64)
    assert discriminator_loss(far, far).item() == 800.0
    assert non_saturating_generator_loss(far).item() == 400.0
    logits = torch.full((256,), 3.0, dtype=torch.bfloat16)
    logits[0] = 100.0  # the mean, 3.379, is no bfloat16
    assert wasserstein_generator_loss(logits).item() == -(255 * 3 + 100) / 256


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(discriminator_loss, minimax_generator_loss), (wasserstein_critic_loss, wasserstein_generator_loss)],
)
def test_one_game_is_zero_sum(ours, theirs):
    """What one player wins by a change of the fakes, the other loses."""
    torch.manual_seed(0)
    real, fake, better = torch.randn(3, 9, dtype=torch.float64)
    torch.testing.assert_close(ours(real, fake) + theirs(fake), ours(real, better) + theirs(better))


@pytest.mark.parametrize("loss", [discriminator_loss, wasserstein_critic_loss, hinge_discriminator_loss])
def test_flipping_the_labels_and_the_sign_of_the_discriminator_changes_nothing(loss):
    """The alternate view: a discriminator that says 'fake' plays the same game."""
    torch.manual_seed(0)
    real, fake = torch.randn(2, 7, dtype=torch.float64)
    a = [t.clone().requires_grad_() for t in (real, fake)]
    b = [t.clone().requires_grad_() for t in (-fake, -real)]
    one, other = loss(*a), loss(*b)
    torch.testing.assert_close(one, other, atol=1e-14, rtol=0)
    of_real, of_fake = torch.autograd.grad(one, a)
    flipped_fake, flipped_real = torch.autograd.grad(other, b)
    torch.testing.assert_close(of_real, -flipped_real, atol=1e-14, rtol=0)
    torch.testing.assert_close(of_fake, -flipped_fake, atol=1e-14, rtol=0)


def test_the_generator_that_does_not_saturate_minimises_the_flipped_discriminator_loss():
    fake = torch.randn(7, dtype=torch.float64)
    absent = torch.full((1,), -1e4, dtype=torch.float64)  # a fake recognised for certain costs nothing
    torch.testing.assert_close(non_saturating_generator_loss(fake), discriminator_loss(fake, absent))


def _minimise(loss, start: Tensor) -> Tensor:
    """The minimiser found by L-BFGS from ``start``, which has the shape of what is optimised."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        return value

    optimizer.step(closure)
    return x.detach()


def test_the_optimal_discriminator_of_two_gaussians():
    """D* = p / (p + q), [Goodfellow 2014, prop. 1], and its loss there, 2 log 2 - 2 JSD(p, q), eq. 6."""
    p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.5, 0.7)
    quantiles = (torch.arange(4_000, dtype=torch.float64) + 0.5) / 4_000
    real, fake = p.icdf(quantiles), q.icdf(quantiles)

    def logit(theta: Tensor, x: Tensor) -> Tensor:  # log p - log q is a quadratic
        return theta[0] + theta[1] * x + theta[2] * x * x

    def loss(theta: Tensor) -> Tensor:
        return discriminator_loss(logit(theta, real), logit(theta, fake))

    theta = _minimise(loss, torch.zeros(3, dtype=torch.float64))
    x = torch.linspace(-4, 5, 901, dtype=torch.float64)
    density_p, density_q = p.log_prob(x).exp(), q.log_prob(x).exp()
    optimal = density_p / (density_p + density_q)
    assert (torch.sigmoid(logit(theta, x)) - optimal).abs().max() < 1e-3

    mixture = (density_p + density_q) / 2
    jsd = torch.trapezoid((density_p * (density_p / mixture).log() + density_q * (density_q / mixture).log()) / 2, x)
    torch.testing.assert_close(loss(theta), 2 * math.log(2) - 2 * jsd, atol=1e-3, rtol=0)


def test_the_optimal_hinge_discriminator_pays_for_the_overlap():
    """min over D of the hinge loss is 2 (1 - TV(p, q)): here by enumeration over D in {-1, 0, 1}^3."""
    p, q = torch.tensor([5, 3, 2]), torch.tensor([1, 3, 6])  # counts of ten samples at three places
    best = min(
        hinge_discriminator_loss(d.repeat_interleave(p), d.repeat_interleave(q)).item()
        for d in torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3)
    )
    total_variation = (p - q).abs().sum().item() / 20
    assert best == pytest.approx(2 * (1 - total_variation), abs=1e-12)


# ---- gradient penalty ----------------------------------------------------------------------------------------------


def test_penalty_of_a_linear_critic_and_its_gradient_are_closed_forms():
    torch.manual_seed(0)
    real, fake = torch.randn(2, 6, 2, 3, 4, dtype=torch.float64)
    w = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    penalty, norm = gradient_penalty(lambda x: (x * w).sum((1, 2, 3)), real, fake)
    length = w.detach().norm()
    torch.testing.assert_close(norm, length.expand(6))
    torch.testing.assert_close(penalty.detach(), (length - 1) ** 2)
    (slope,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(slope, 2 * (length - 1) * w.detach() / length)


def test_every_sample_is_penalised_at_its_own_point_of_the_segment():
    torch.manual_seed(0)
    real, fake = torch.ones(64, 2, 3, 4, dtype=torch.float64), torch.zeros(64, 2, 3, 4, dtype=torch.float64)
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:  # 1/2 |x|^2, whose gradient is x
        seen.append(x.detach())
        return x.square().sum((1, 2, 3)) / 2

    _, norm = gradient_penalty(critic, real, fake)
    epsilon = seen[0].flatten(1)
    torch.testing.assert_close(epsilon, epsilon[:, :1].expand_as(epsilon), atol=0, rtol=0)  # one per sample ...
    assert epsilon[:, 0].unique().numel() == 64  # ... and not one per batch
    assert 0 <= epsilon.min() < 0.1 < 0.9 < epsilon.max() <= 1
    torch.testing.assert_close(norm, epsilon[:, 0] * math.sqrt(24))  # the norm runs over channels and pixels


def test_penalty_is_float32_under_autocast_and_leaves_the_generator_alone():
    torch.manual_seed(0)
    critic = conv_discriminator((1, 8, 8), width=2, norm=None)
    real, fake = torch.randn(2, 5, 1, 8, 8).bfloat16()
    fake.requires_grad_()
    results = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append(gradient_penalty(critic, real.float(), fake)[0])
    assert results[1].dtype == torch.float32
    assert results[0].item() == results[1].item()
    assert torch.autograd.grad(results[1], fake, allow_unused=True) == (None,)


def test_the_penalised_critic_measures_the_earth_movers_distance():
    """WGAN-GP's critic difference against the exact optimal assignment of two samples."""
    torch.manual_seed(0)
    angle = torch.arange(256, dtype=torch.float64) * (2 * math.pi / 8)
    real = torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(256, 2, dtype=torch.float64)
    fake = 0.3 * torch.randn(256, 2, dtype=torch.float64) + torch.tensor([0.3, 0.0])
    cost = torch.cdist(real, fake)
    exact = cost[linear_sum_assignment(cost.numpy())].mean().item()

    critic = nn.Sequential(mlp([2, 32, 32, 1]), nn.Flatten(0)).double()
    optimizer = torch.optim.Adam(critic.parameters(), lr=4e-3, betas=(0.0, 0.9))
    for _ in range(400):
        penalty, norm = gradient_penalty(critic, real, fake[torch.randperm(256)])
        loss = wasserstein_critic_loss(critic(real), critic(fake)) + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    estimate = -wasserstein_critic_loss(critic(real), critic(fake)).item()
    assert estimate == pytest.approx(exact, rel=0.2)
    assert (norm - 1).abs().mean() < 0.1


def test_a_soft_penalty_overshoots_by_a_known_factor():
    """Data and samples a distance d apart on a line: the best slope is 1 + d / (2 lambda), not 1."""
    distance, weight = 3.0, 10.0
    real = torch.full((4, 1), distance, dtype=torch.float64)
    fake = torch.zeros(4, 1, dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        def critic(x: Tensor) -> Tensor:
            return x @ w

        return wasserstein_critic_loss(critic(real), critic(fake)) + weight * gradient_penalty(critic, real, fake)[0]

    slope = _minimise(loss, torch.tensor([0.5], dtype=torch.float64))
    assert slope.item() == pytest.approx(1 + distance / (2 * weight), abs=1e-6)


# ---- networks and models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 16, 24)])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, None])
def test_networks_fit_the_image(shape, norm):
    generator = conv_generator(5, shape, width=3).double()
    discriminator = conv_discriminator(shape, width=3, norm=norm).double()
    x = generator(torch.randn(4, 5, dtype=torch.float64))
    assert x.shape == (4, *shape)
    assert x.abs().max() < 1
    assert discriminator(x).shape == (4,)


def test_networks_refuse_sizes_they_cannot_halve_twice():
    with pytest.raises(RecipeError, match="30 x 28"):
        conv_generator(5, (1, 30, 28), width=3)


def _groups_yielded(model, count: int) -> tuple[list[str], int]:
    drawn = 0

    def batches():
        nonlocal drawn
        while True:
            drawn += 1
            yield Batch(torch.rand(count, 1, 8, 8, dtype=torch.float64) * 2 - 1)

    updates = list(model.updates(batches(), Progress(step=0, images=0, budget=1)))
    for update in updates:
        for group, parameters in model.groups().items():
            reached = torch.autograd.grad(update.loss, parameters, allow_unused=True, retain_graph=True)
            if group == update.group:
                assert all(g is not None for g in reached)
            elif update.group != "generator":  # the generator's loss must pass through its opponent
                assert all(g is None for g in reached)
    return [update.group for update in updates], drawn


def test_the_order_of_the_algorithm_boxes():
    spec = DataSpec((1, 8, 8), 0, SIGNED)
    assert _groups_yielded(DCGAN(spec, width=2).double(), 3) == (["discriminator", "generator"], 1)
    assert _groups_yielded(WGANGP(spec, width=2, critic_steps=3).double(), 3) == (["critic"] * 3 + ["generator"], 3)


def test_the_penalised_critic_judges_every_image_by_itself():
    model = WGANGP(DataSpec((1, 8, 8), 0, SIGNED), width=2).double().train()
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(model.critic(x)[:2], model.critic(x[:2]), atol=1e-12, rtol=0)


def test_samples_in_evaluation_do_not_depend_on_their_batch():
    """Running statistics: the same noise gives the same image whatever is drawn beside it."""
    model = DCGAN(DataSpec((1, 8, 8), 0, SIGNED), width=2).double()
    for _ in range(3):
        model.sample(16)
    model.eval()
    z = torch.rand(5, model.latents, dtype=torch.float64)
    torch.testing.assert_close(model.generator(z)[:2], model.generator(z[:2]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("model", "key", "value"), [
    (DCGAN, "latents", 0), (DCGAN, "width", 0), (WGANGP, "critic_steps", 0), (WGANGP, "penalty", 0.0)
])  # fmt: skip
def test_impossible_hyper_parameters_are_named(model, key, value):
    with pytest.raises(RecipeError, match=f"hyper.{key}"):
        model(DataSpec((1, 8, 8), 0, SIGNED), **{key: value})
