"""DBN against enumeration: the sums over all states of both hidden layers, in float64."""

import pytest
import torch

from gen.data.reader import everything
from gen.data.spaces import DataSpec, Space
from gen.model import Batch, Progress
from gen.models.boltzmann.dbn import DBN
from gen.recipe import Recipe, Training
from gen.store import load_model
from gen.train.context import ProcessContext
from gen.train.loop import fit
from tests.numerics.enumeration import assert_distributed, joint, randomise, states

BINARY = Space.parse("binary_fixed")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


X = states(4).view(-1, 1, 2, 2)


def small_dbn(hidden=(3, 4), **hyper):
    model = DBN(DataSpec((1, 2, 2), 0, BINARY), hidden=hidden, **hyper).double()
    model.initialize(X)
    randomise(model.layers[0])
    return model


def grow(model):
    """Begin the second share of the budget, without a step."""
    next(model.updates(iter([Batch(X)]), Progress(5, 50, 100)))


def dbn_p(model):
    """p(x) of a DBN of two RBMs, (2^D,)."""
    p_h = joint(model.layers[1])[0].sum(1)
    below = joint(model.layers[0])[0]
    return (below / below.sum(0)) @ p_h


def test_second_rbm_starts_as_the_same_model_with_a_tight_bound():
    model = small_dbn(posterior_samples=1, particles=500, temperatures=200, burn_in=20)
    before = joint(model.layers[0])[0].sum(1)
    grow(model)
    torch.testing.assert_close(dbn_p(model), before)
    # At the transpose Q is the exact posterior: every draw of the bound is log p(x) plus one error of log Z for all x.
    error = model.likelihoods()["bound_ais"].log_prob(X) - before.log()
    torch.testing.assert_close(error, error[:1].expand_as(error))
    assert error.abs().max() < 0.05


def test_growing_happens_once():
    model = small_dbn()
    grow(model)
    with torch.no_grad():
        model.layers[1].W.add_(1)
    kept = model.layers[1].W.clone()
    grow(model)
    torch.testing.assert_close(model.layers[1].W, kept, atol=0, rtol=0)


def test_chains_move_up_with_the_stack():
    model = small_dbn(chains=20_000)
    p = joint(model.layers[0])[0]
    model.chains[:, :4] = states(4)[6]
    model._grow(1)
    assert_distributed(model.chains[:, :3], (p / p.sum(1, keepdim=True))[6])


def test_bound_is_below_the_likelihood_and_is_its_expectation():
    model = small_dbn(posterior_samples=4_000, particles=1_000, temperatures=300, burn_in=20)
    grow(model)
    randomise(model.layers[1])
    found = model.likelihoods()
    assert list(found) == ["layer1_ais", "bound_ais_reverse", "bound_ais"]
    below, p_h = joint(model.layers[0])[0], joint(model.layers[1])[0].sum(1)
    q = below / below.sum(1, keepdim=True)
    expected = (q * ((below / below.sum(0)).log() + p_h.log() - q.log())).sum(1)
    assert (dbn_p(model).log() - expected).min() > 0.1  # a strict bound for every image
    for name in ("bound_ais", "bound_ais_reverse"):
        torch.testing.assert_close(found[name].log_prob(X), expected, atol=0.12, rtol=0)
    torch.testing.assert_close(found["layer1_ais"].log_prob(X), below.sum(1).log(), atol=0.05, rtol=0)


def test_dbn_samples_its_distribution():
    model = small_dbn(burn_in=40)
    assert_distributed(model.sample(30_000).flatten(1), joint(model.layers[0])[0].sum(1))
    grow(model)
    randomise(model.layers[1])
    assert_distributed(model.sample(30_000).flatten(1), dbn_p(model))


def test_each_rbm_has_its_share_of_the_budget_and_ends_it_at_rate_zero():
    model = small_dbn(hidden=(3, 4, 3), chains=40_000, steps=20, weight_cost=0.0)
    for images, group, rate in ((0, "rbm0", 1.0), (25, "rbm0", 0.25), (34, "rbm1", 0.98), (100, "rbm2", 0.0)):
        x = X[[3, 8]].repeat(10_000, 1, 1, 1)
        update = next(model.updates(iter([Batch(x)]), Progress(images, images, 100)))
        assert update.group == group
        data, chain = update.metrics["free_energy"], update.metrics["chain_free_energy"]
        torch.testing.assert_close(update.loss.detach(), rate * (data - chain))


def test_update_of_the_second_rbm_is_the_gradient_on_inferred_bits():
    model = small_dbn(chains=40_000, steps=30, weight_cost=0.0)
    grow(model)
    randomise(model.layers[1], 0.7)
    x = X[[3, 8]]
    below, top = joint(model.layers[0])[0], model.layers[1]
    q = (below / below.sum(1, keepdim=True))[[3, 8]].mean(0)
    energy = top.free_energy(states(3))
    exact = torch.autograd.grad(q @ energy + (-energy).logsumexp(0), list(top.parameters()))
    update = next(model.updates(iter([Batch(x.repeat(20_000, 1, 1, 1))]), Progress(50, 50, 100)))
    found = torch.autograd.grad(update.loss, model.groups()["rbm1"])
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, atol=0.015, rtol=0)
    assert max(g.abs().max() for g in exact) > 0.15


def test_fantasies_come_down_from_the_chains_of_the_top():
    model = small_dbn(chains=5)
    possible = [torch.sigmoid(model.layers[0].visible_logits(states(3))).detach()]
    for _ in range(2):
        fantasies = model.pictures()["fantasies"].flatten(1)
        assert fantasies.shape == (5, 4)
        assert torch.cdist(fantasies, possible[0]).amin(1).max() < 1e-6  # p(x | h^1) for one of all h^1
        grow(model)


def test_fantasies_are_distributed_as_the_model():
    model = small_dbn(chains=100)
    grow(model)
    randomise(model.layers[1])
    p_h = joint(model.layers[1])[0].sum(1)
    drawn = []
    for _ in range(200):
        model._keep(states(3)[torch.multinomial(p_h, 100, replacement=True)])
        drawn.append(model.pictures()["fantasies"].flatten(1))
    torch.testing.assert_close(torch.cat(drawn).mean(0), dbn_p(model) @ states(4), atol=0.01, rtol=0)


# ---- digits ------------------------------------------------------------------------------------------------------

LABELS = 10  # of each class
DRAWS = 20


@pytest.fixture(scope="module")
def on_digits(digits_shards, tmp_path_factory):
    """A DBN of the default size after a third of the budget of its recipe.

    The rate of the second RBM is not the default 0.05, at which the bound after it was below the one before it in some
    runs, on training images too.
    With 100 particles and 1,500 temperatures log Z differs by a nat from seed to seed, which would decide the matter.
    """
    recipe = Recipe(
        name="dbn",
        model="dbn",
        dataset="digits",
        space="binary_dynamic",
        hyper={"particles": 200, "temperatures": 2_000},
        optim={"rbm1": {"lr": 0.02}},
        training=Training(images=200_000, batch=100),
    )
    final = fit(recipe, data=digits_shards, directory=tmp_path_factory.mktemp("dbn"), context=ProcessContext())
    return load_model(final).model.eval()


def in_space(shards, split):
    """Images as bits and their classes."""
    pixels, labels = everything(shards, split)[:2]
    return Space.parse("binary_dynamic").encode(pixels), labels


@pytest.mark.slow
def test_second_layer_does_not_lower_the_bound(on_digits, digits_shards):
    x, _ = in_space(digits_shards, "test")
    found = {name: each.log_prob(x).mean() for name, each in on_digits.likelihoods().items()}
    assert found["bound_ais"] >= found["layer1_ais"] - 0.1
    assert found["layer1_ais"] > -130  # of a first layer that has learnt: independent pixels are at -205


def neighbours(features, labels, queries, answers):
    """Accuracy of the nearest of LABELS examples of each class, for each of DRAWS choices of them, (DRAWS,)."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(DRAWS):
        order = torch.randperm(len(labels), generator=generator)
        rows = torch.cat([order[labels[order] == c][:LABELS] for c in range(10)])
        nearest = torch.cdist(queries, features[rows]).argmin(1)
        found.append((labels[rows][nearest] == answers).double().mean())
    return torch.stack(found)


@pytest.mark.slow
def test_codes_find_classes_from_a_hundred_labels_better_than_pixels(on_digits, digits_shards):
    (x, labels), (queries, answers) = (in_space(digits_shards, split) for split in ("train", "test"))
    pixels = neighbours(x.flatten(1), labels, queries.flatten(1), answers)
    codes = neighbours(on_digits.encode(x), labels, on_digits.encode(queries), answers)
    gain = codes - pixels  # on the same labels
    assert gain.mean() > 0.03
    assert gain.mean() > 5 * gain.std() / DRAWS**0.5
