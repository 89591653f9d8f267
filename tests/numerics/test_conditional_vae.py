"""The conditional VAE against integrals over its code and sums over its classes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from gen.data.spaces import DataSpec, Space
from gen.errors import DataError, RecipeError
from gen.inference.importance import elbo, iwae
from gen.losses.likelihoods import bernoulli_log_prob, gaussian_kl
from gen.model import Batch, Progress
from gen.models.variational.conditional_vae import ConditionalVAE

CLASSES = 3
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
SPEC = DataSpec((1, 2, 2), CLASSES, Space.parse("binary_fixed"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tiny() -> ConditionalVAE:
    """One latent, four pixels, three classes, float64; classes and codes that matter."""
    model = ConditionalVAE(SPEC, latents=1, features=8, embedding=CLASSES, hidden=(8,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
        model.class_frequencies.copy_(PRIOR)
    return model


def all_images() -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4).view(16, 1, 2, 2)


def exact(model: ConditionalVAE, x: Tensor) -> Tensor:
    """log p(x|y), by the trapezoid rule over the code: (B, classes)."""
    z = torch.linspace(-12.0, 12.0, 2001, dtype=torch.float64)[:, None]
    columns = []
    for y in torch.eye(CLASSES, dtype=torch.float64):
        logits = model.outputs(z, y.expand(len(z), -1)).flatten(1)
        log_likelihood = torch.stack([bernoulli_log_prob(logits, image.flatten().expand(len(z), -1)) for image in x])
        columns.append(torch.logsumexp(log_likelihood + Normal(0.0, 1.0).log_prob(z[:, 0]), 1) + math.log(24 / 2000))
    return torch.stack(columns, 1)


@torch.no_grad()
def test_every_class_holds_a_distribution_and_the_classes_differ() -> None:
    p = exact(tiny(), all_images()).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(CLASSES, dtype=torch.float64))
    assert (p[:, 0] - p[:, 1]).abs().sum() > 0.2


@torch.no_grad()
def test_bounds_of_log_p_without_the_class_are_in_order_and_arrive() -> None:
    model, x, repeats = tiny(), all_images(), 1_000
    log_p = torch.logsumexp(exact(model, x) + PRIOR.log(), 1)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    many = x.repeat(repeats, 1, 1, 1)
    gaps = [
        (log_p - bound(model.log_weights, many, samples).view(repeats, 16)).mean(1)
        for bound, samples in ((elbo, 1), (iwae, 5), (iwae, 50))
    ]
    for looser, tighter in pairwise([*gaps, torch.zeros(repeats).double()]):
        excess = looser - tighter
        assert excess.mean() > 4 * excess.std() / math.sqrt(repeats)
    torch.testing.assert_close(iwae(model.log_weights, x, 20_000), log_p, atol=0.05, rtol=0)


@torch.no_grad()
def test_the_elbo_is_that_of_a_hidden_class() -> None:
    """Equation 7 of Kingma et al. 2014: sum_y q(y|x) L(x, y) + H(q(y|x)), L by integrals over the code."""
    model, x = tiny(), all_images()
    log_q_y = model.class_log_probs(x)
    z, step = torch.linspace(-20.0, 20.0, 4001, dtype=torch.float64)[:, None], 40.0 / 4000
    total = torch.zeros(16, dtype=torch.float64)
    for k, y in enumerate(torch.eye(CLASSES, dtype=torch.float64)):
        mean, log_var = model.posterior(model.encoder(x), y.expand(16, -1))
        logits = model.outputs(z, y.expand(len(z), -1)).flatten(1)
        log_likelihood = torch.stack([bernoulli_log_prob(logits, image.flatten().expand(len(z), -1)) for image in x])
        q = Normal(mean, (0.5 * log_var).exp()).log_prob(z[:, 0]).exp() * step
        bound = (q * log_likelihood).sum(1) - gaussian_kl(mean, log_var).sum(1) + PRIOR[k].log()
        total += log_q_y[:, k].exp() * (bound - log_q_y[:, k])
    draws = 4_000
    found = elbo(model.log_weights, x.repeat(draws, 1, 1, 1), 1).view(draws, 16)
    assert ((found.mean(0) - total).abs() < 5 * found.std(0) / math.sqrt(draws)).all()


@torch.no_grad()
def test_loss_is_the_bound_given_the_class() -> None:
    model, x = tiny(), all_images()
    given = exact(model, x).T.flatten()  # class by class
    labels = torch.arange(CLASSES).repeat_interleave(16)
    draws = 500
    loss, metrics = model.loss(Batch(x.repeat(CLASSES * draws, 1, 1, 1), labels.repeat(draws)))
    assert float(loss) > -given.mean() + 0.01, "a bound"
    assert float(loss) < -given.mean() + 3
    torch.testing.assert_close(metrics["reconstruction"] + metrics["kl"], loss)


@torch.no_grad()
def test_classes_are_inferred_by_the_rule_of_bayes() -> None:
    """Where p(x|z,y) and q do not look at z, the bound is exact and so is q(y|x)."""
    model, x = tiny(), all_images()
    model.decoder[0].weight[:, 0] = 0.0
    model.head.weight.zero_()
    model.head.bias.zero_()
    posterior = (exact(model, x) + PRIOR.log()).log_softmax(1)
    torch.testing.assert_close(model.class_log_probs(x), posterior)
    torch.testing.assert_close(model.log_weights(x, 5), torch.logsumexp(exact(model, x) + PRIOR.log(), 1).expand(5, 16))


def test_frequencies_are_those_of_the_labels_seen() -> None:
    model = tiny()
    batches = [Batch(all_images(), torch.randint(0, CLASSES, (16,))) for _ in range(7)]
    source = iter(batches)
    for step in range(7):
        for _ in model.updates(source, Progress(step, 16 * step, 16 * 7)):
            pass
    labels = torch.cat([batch.y for batch in batches if batch.y is not None])
    torch.testing.assert_close(model.class_frequencies, labels.bincount(minlength=CLASSES).double() / len(labels))


@torch.no_grad()
def test_samples_obey_their_class_and_without_one_the_frequencies() -> None:
    model = tiny()
    for parameter in model.decoder.parameters():
        parameter.zero_()
    model.embedding.copy_(torch.eye(CLASSES))
    model.decoder[0].weight[:CLASSES, 1:] = torch.eye(CLASSES)  # pixel k is on in class k alone; the code says nothing
    model.decoder[2].weight[:CLASSES, :CLASSES] = 80 * torch.eye(CLASSES)
    model.decoder[2].bias.fill_(-40.0)
    labels = torch.arange(CLASSES).repeat(5)
    assert torch.equal(model.sample(15, condition=labels).flatten(1).argmax(1), labels)
    drawn = model.sample(20_000).flatten(1)[:, :CLASSES].mean(0)
    assert ((drawn - PRIOR).abs() < 5 * (PRIOR * (1 - PRIOR) / 20_000).sqrt()).all()
    code = model.encode(model.sample(15, condition=labels))
    assert torch.equal(code[:, 1:].argmax(1), labels) and torch.equal(code[:, 1:].sum(1), torch.ones(15).double())
    assert torch.equal(model.decode(code).flatten(1).argmax(1), labels)


def test_labels_are_asked_for() -> None:
    with pytest.raises(DataError, match="this batch has no class labels"):
        tiny().loss(Batch(all_images()))
    with pytest.raises(RecipeError, match="needs class labels, and these data have none"):
        ConditionalVAE(DataSpec((1, 2, 2), 0, SPEC.space))
