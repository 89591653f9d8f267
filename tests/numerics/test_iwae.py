"""IWAE: its objective between the VAE's bound and log p(x), and its two gradients: one mean, different noise."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.losses.likelihoods import bernoulli_log_prob, gaussian_kl
from gen.model import Batch
from gen.models.variational.iwae import IWAE

X = torch.tensor([1, 0, 1, 1, 0, 0], dtype=torch.float64).view(1, 1, 2, 3)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tiny(*, scale: float = 2.0, **hyper: Any) -> IWAE:
    """An IWAE on 2x3 pixels with one latent, float64; always the same weights, times ``scale``."""
    torch.manual_seed(3)
    model = IWAE(DataSpec((1, 2, 3), 0, Space.parse("binary_fixed")), **{"latents": 1, "hidden": (8,), **hyper})
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    torch.manual_seed(0)
    return model


def integrand(model: IWAE, z: Tensor) -> Tensor:
    """log p(x|z) of codes (N, 1) for the one image, (N,)."""
    return bernoulli_log_prob(model.decoder(z).flatten(1), X.flatten().expand(len(z), -1))


@torch.no_grad()
def test_objectives_lie_in_order_between_the_elbo_and_the_likelihood() -> None:
    z = torch.linspace(-15.0, 15.0, 3001, dtype=torch.float64)[:, None]
    model = tiny()
    exact = torch.logsumexp(integrand(model, z) + Normal(0.0, 1.0).log_prob(z[:, 0]), 0) + math.log(30.0 / 3000)
    mean, log_var = model.posterior(X)
    q = Normal(mean[0], (0.5 * log_var[0]).exp()).log_prob(z)[:, 0].exp() * (30.0 / 3000)
    bound = (q * integrand(model, z)).sum() - gaussian_kl(mean, log_var).sum()
    many = Batch(X.expand(20_000, -1, -1, -1))
    objectives = [-float(tiny(samples=samples).loss(many)[0]) for samples in (1, 2, 5, 50)]
    assert objectives[0] == pytest.approx(bound.item(), abs=0.05)
    assert all(looser < tighter - 0.02 for looser, tighter in pairwise([*objectives, float(exact)])), objectives
    _, metrics = tiny(samples=5).loss(many)
    assert float(metrics["elbo"]) == pytest.approx(objectives[0], abs=0.05)
    assert 1 < float(metrics["effective_samples"]) < 5


def gradients(model: IWAE, copies: int) -> Tensor:
    """Gradients of the loss at one image by the mean and the log-variance of q, once per copy of it: (copies, 2)."""
    outputs: list[Tensor] = []
    handle = model.encoder.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    loss, _ = model.loss(Batch(X.expand(copies, -1, -1, -1)))
    handle.remove()
    (found,) = torch.autograd.grad(copies * loss, outputs)
    return found


def test_gradient_is_that_of_the_weighted_codes() -> None:
    """Equation 13, each code's gradient taken by itself."""
    model = tiny(samples=4)
    torch.manual_seed(1)
    loss, _ = model.loss(Batch(X))
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    torch.manual_seed(1)
    log_w = model.log_weights(X, 4)[:, 0]
    share = log_w.detach().softmax(0)
    expected = torch.zeros_like(found)
    for k in range(4):
        each = torch.autograd.grad(log_w[k], list(model.parameters()), retain_graph=True)
        expected -= share[k] * torch.cat([g.flatten() for g in each])
    torch.testing.assert_close(found, expected)


def test_both_gradients_have_the_same_mean() -> None:
    copies, found, of_decoder = 40_000, [], []
    for gradient in ("total", "dreg"):
        model = tiny(samples=4, gradient=gradient)
        found.append(gradients(model, copies))
        loss, _ = model.loss(Batch(X))
        of_decoder.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.decoder.parameters()))]))
    torch.testing.assert_close(of_decoder[1], of_decoder[0])  # in every draw: the same noise, the same gradient
    total, dreg = found
    error = (total - dreg).std(0) / math.sqrt(copies)
    assert ((total - dreg).mean(0).abs() < 5 * error).all()
    assert (total.mean(0).abs() > 30 * error).all(), "there is a gradient to agree on"


def test_more_samples_drown_one_gradient_of_the_encoder_and_not_the_other() -> None:
    """The ratio of signal to noise falls as 1 / sqrt(K) (Rainforth et al. 2018); doubly reparameterised, it rises."""

    def ratio(gradient: str, samples: int) -> Tensor:
        found = gradients(tiny(samples=samples, gradient=gradient, scale=1.0), 5_000)
        return found.mean(0).abs() / found.std(0)

    few, many = 4, 64
    assert (ratio("total", many) < 0.5 * ratio("total", few)).all()
    assert (ratio("dreg", many) > 3 * ratio("dreg", few)).all()
    assert (ratio("dreg", few) > 5 * ratio("total", few)).all()


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(RecipeError, match=r"hyper\.gradient: found 'score'\. Allowed: total, dreg"):
        tiny(gradient="score")
    with pytest.raises(RecipeError, match=r"hyper\.samples: found 0"):
        tiny(samples=0)
    with pytest.raises(RecipeError, match=r"hyper\.activation: found 'sine'\. Allowed: relu, tanh"):
        tiny(activation="sine")
