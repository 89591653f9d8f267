"""The flow VAE: the VAE when nothing is bent, an order of bounds, and posteriors that no Gaussian can follow."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.importance import elbo, iwae
from gen.model import Batch
from gen.models.variational.flow_vae import FlowVAE
from gen.models.variational.vae import VAE

SPEC = DataSpec((1, 2, 3), 0, Space.parse("binary_fixed"))
STEP = 0.05


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tiny(flow: str, steps: int = 2) -> FlowVAE:
    """Two latents on 2x3 pixels, float64, with weights large enough for the flow to bend and the bounds to differ."""
    model = FlowVAE(SPEC, latents=2, flow=flow, steps=steps, features=4, width=8, hidden=(8,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.4)
    return model


def images() -> Tensor:
    """Some binary images of 2x3 pixels, (8, 1, 2, 3)."""
    return (torch.arange(8)[:, None] * 9 // 2 ** torch.arange(6) % 2).double().view(8, 1, 2, 3)


@torch.no_grad()
def log_joint_on_grid(model: FlowVAE, x: Tensor, reach: float = 6.0) -> tuple[Tensor, Tensor]:
    """Codes on a grid, (G, 2), and log p(x, z) at each plus the logarithm of a cell's area, (B, G)."""
    axis = torch.arange(-reach, reach, STEP, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    outputs, log_prior = model.decoder(z), Normal(0.0, 1.0).log_prob(z).sum(1) + 2 * math.log(STEP)
    return z, torch.stack([
        model.observation.log_prob(outputs, one.expand(len(z), -1, -1, -1)) + log_prior for one in x
    ])  # fmt: skip


@pytest.mark.parametrize("likelihood_space", ["binary_fixed", "levels(4)"])
def test_without_steps_it_is_the_vae(likelihood_space: str) -> None:
    """Equal weights and equal noise: both terms, log-weights, codes to the bit; loss and gradients but for rounding."""
    spec = DataSpec((1, 2, 3), 0, Space.parse(likelihood_space))
    plain, bent = VAE(spec, latents=2, hidden=(8,)), FlowVAE(spec, latents=2, hidden=(8,), steps=0)
    bent.load_state_dict(plain.state_dict())
    x = torch.randint(spec.space.levels or 2, (16, 1, 2, 3)) / ((spec.space.levels or 2) - 1)
    exact, close = [], []
    for model in (plain, bent):
        torch.manual_seed(1)
        loss, _ = model.loss(Batch(x))
        close.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
        log_likelihood, kl, *_ = model.parts(x)
        exact.append([log_likelihood, kl, model.log_weights(x, 5), model.encode(x)])
    assert all(map(torch.equal, *exact))
    torch.testing.assert_close(*close)


@pytest.mark.parametrize("flow", ["iaf", "planar", "householder"])
@torch.no_grad()
def test_bounds_are_in_order_below_the_exact_likelihood(flow: str) -> None:
    """ELBO <= IWAE-3 <= IWAE-12 <= log p(x), each by more than 4 standard errors, and IWAE-20,000 is there."""
    model, x = tiny(flow), images()
    exact = log_joint_on_grid(model, x, reach=7.0)[1].logsumexp(1)
    repeats = 600
    many = x.repeat(repeats, 1, 1, 1)

    def gap(bound: Tensor) -> Tensor:
        """What a bound loses against log p(x), mean over the images, once per repeat."""
        return (exact - bound.view(repeats, len(x))).mean(1)

    gaps = [gap(bound(model.log_weights, many, k)) for bound, k in ((elbo, 1), (iwae, 3), (iwae, 12))]
    for looser, tighter in pairwise([*gaps, torch.zeros(repeats).double()]):
        excess = looser - tighter
        assert excess.mean() > 4 * excess.std() / math.sqrt(repeats)
    torch.testing.assert_close(iwae(model.log_weights, x, 20_000), exact, atol=0.05, rtol=0.0)


@pytest.mark.parametrize("flow", ["iaf", "planar", "householder"])
@torch.no_grad()
def test_the_loss_is_the_bound_with_less_noise(flow: str) -> None:
    """-L by the base's KL in closed form, and by log-weights, where nothing is in closed form: equal means."""
    model, x = tiny(flow), images()[5:6]
    log_likelihood, kl = model.parts(x.expand(100_000, -1, -1, -1))
    by_weights = model.log_weights(x, 100_000)[:, 0]
    difference = (log_likelihood - kl).mean() - by_weights.mean()
    error = math.sqrt(((log_likelihood - kl).var() + by_weights.var()).item() / 100_000)
    assert abs(difference.item()) < 4 * error
    if flow == "householder":  # log p(z_T) = log p(z_0): the KL is that of the base, whatever the noise
        torch.testing.assert_close(kl, kl[:1].expand_as(kl))


class Riddle(nn.Module):
    """A decoder that lets every pixel answer one question about the code: its log-odds are ``question(z)``."""

    def __init__(self, bend: float, turn: float) -> None:
        super().__init__()
        self.bend, self.turn = bend, turn

    def forward(self, z: Tensor) -> Tensor:
        """The answer is open, i.e. both values of a pixel likely, along a parabola or a slanted line."""
        question = 3 * (z[:, 1] + self.turn * z[:, 0] - self.bend * (z[:, 0].square() - 1))
        return question[:, None, None, None, None].expand(-1, 1, 1, 2, 3)


BANANA, SLANT = Riddle(bend=1.0, turn=0.0), Riddle(bend=0.0, turn=1.5)


def loss_of_bound(decoder: Riddle, flow: str, steps: int) -> float:
    """KL(q || p(z|x)) = log p(x) - L(x) in nats of the fitted posterior of one image, half of whose pixels are on."""
    torch.manual_seed(0)
    model = FlowVAE(SPEC, latents=2, flow=flow, steps=steps, features=4, width=16, hidden=(8,)).double()
    model.decoder = decoder
    x = torch.tensor([1.0, 0, 1, 0, 1, 0], dtype=torch.float64).view(1, 1, 2, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        (-model.log_weights(x, 128).mean()).backward()
        optimizer.step()
    exact = log_joint_on_grid(model, x)[1].logsumexp(1)
    return (exact - elbo(model.log_weights, x, 50_000)).item()


def test_a_flow_follows_a_posterior_that_no_gaussian_can() -> None:
    """On a banana, both flows that bend lose less than a Gaussian; one that only turns loses as much."""
    gaussian, turned = loss_of_bound(BANANA, "iaf", 0), loss_of_bound(BANANA, "householder", 3)
    bent = [loss_of_bound(BANANA, flow, steps) for flow, steps in (("iaf", 2), ("planar", 4))]
    assert gaussian > 0.5
    assert abs(turned - gaussian) < 0.03 * gaussian
    assert max(bent) < 0.25 * gaussian
    assert min(bent) > -0.01, "no posterior is better than the true one"


def test_reflections_follow_a_posterior_that_is_only_correlated() -> None:
    gaussian, turned = loss_of_bound(SLANT, "householder", 0), loss_of_bound(SLANT, "householder", 3)
    assert -0.01 < turned < 0.05 * gaussian


def test_wrong_hyper_parameters_are_named() -> None:
    with pytest.raises(RecipeError, match=r"hyper.width: found 0"):
        FlowVAE(SPEC, width=0)
    with pytest.raises(RecipeError, match=r"hyper.flow: there is no flow 'iaff'.*Did you mean 'iaf'"):
        FlowVAE(SPEC, flow="iaff")
