"""RBM against enumeration: every sum over states is carried out, in float64, on models of a few units."""

import pytest
import torch

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.gibbs import gibbs
from gen.model import Batch, Progress
from gen.models.boltzmann.rbm import RBM
from gen.nets.boltzmann import RBMLayer
from tests.numerics.enumeration import assert_distributed, index, joint, random_layer, randomise, states

BINARY = Space.parse("binary_fixed")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# ---- the layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("visible", "hidden"), [(5, 4), (10, 3), (3, 10)])
def test_layer_is_the_model_of_its_energy(visible, hidden):
    layer = random_layer(visible, hidden)
    p, log_z = joint(layer)
    v, h = states(visible), states(hidden)
    pairs = layer.energy(v.repeat_interleave(len(h), 0), h.repeat(len(v), 1)).view(len(v), len(h))
    torch.testing.assert_close((-pairs - log_z).exp(), p)
    torch.testing.assert_close(layer.free_energy(v), -(-pairs).logsumexp(1))
    torch.testing.assert_close(layer.hidden_free_energy(h), -(-pairs).logsumexp(0))
    torch.testing.assert_close(torch.sigmoid(layer.hidden_logits(v)), p @ h / p.sum(1, keepdim=True))
    torch.testing.assert_close(layer.visible(h).mean(), p.t() @ v / p.sum(0)[:, None])


def test_mean_free_energies_of_batches_of_unlike_sizes():
    layer, v = random_layer(4, 3), states(4)
    for found, batch in zip(layer.mean_free_energies(v[:3], v[5:]), (v[:3], v[5:]), strict=True):
        torch.testing.assert_close(found, layer.free_energy(batch).mean())


def test_transpose_exchanges_the_sides():
    below, above = random_layer(5, 4), random_layer(4, 5)
    above.set_transpose(below)
    torch.testing.assert_close(joint(above)[0], joint(below)[0].t())


def test_base_rates_are_the_means():
    layer, v = RBMLayer(3, 2, std=0.0).double(), torch.tensor([[1.0, 0, 0], [1, 1, 0]]).double()
    layer.set_base_rates(v)
    p = joint(layer)[0].sum(1)
    torch.testing.assert_close(p @ states(3), torch.tensor([3 / 4, 2 / 4, 1 / 4]).double())


# ---- Gibbs -------------------------------------------------------------------------------------------------------


def test_gibbs_step_is_in_detailed_balance_and_is_what_gibbs_draws():
    layer = random_layer(4, 3)
    p = joint(layer)[0]
    step = (p / p.sum(1, keepdim=True)) @ (p / p.sum(0)).t()  # T[v, v'] = sum_h p(h | v) p(v' | h)
    flow = p.sum(1)[:, None] * step
    torch.testing.assert_close(flow, flow.t())
    for start in (0, 5, 15):
        v = states(4)[[start]].expand(20_000, -1)
        assert_distributed(gibbs(layer, v, 1), step[start])
        assert_distributed(gibbs(layer, v, 3), step.matrix_power(3)[start])


def test_gibbs_leaves_the_model_invariant():
    layer = random_layer(4, 3)
    p = joint(layer)[0].sum(1)
    assert_distributed(gibbs(layer, states(4)[torch.multinomial(p, 50_000, replacement=True)], 2), p)


# ---- RBM ---------------------------------------------------------------------------------------------------------


def small_rbm(shape=(1, 2, 2), hidden=3, **hyper):
    model = RBM(DataSpec(shape, 0, BINARY), hidden=hidden, **hyper).double()
    randomise(model.rbm, 0.7)
    return model


def gradients(model, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.groups()["model"])])


def one_update(model, x):
    """The update on images x, and whatever follows it."""
    updates = model.updates(iter([Batch(x)]), Progress(0, 0, 1))
    update = next(updates)
    grad = gradients(model, update.loss)
    assert next(updates, None) is None
    return grad


@pytest.mark.parametrize("chains", [0, 40_000], ids=["CD", "PCD"])
def test_many_steps_give_the_exact_gradient_of_the_likelihood(chains):
    model = small_rbm(steps=30, chains=chains, weight_cost=0.1)
    x = states(4)[torch.tensor([1, 7, 12])].repeat(13_333, 1).view(-1, 1, 2, 2)
    model.chains.copy_(states(4)[[0]].expand_as(model.chains))
    log_z = (-model.rbm.free_energy(states(4))).logsumexp(0)
    log_p = -model.rbm.free_energy(x.flatten(1)).mean() - log_z
    exact = gradients(model, -log_p + 0.05 * model.rbm.W.square().sum())
    torch.testing.assert_close(one_update(model, x), exact, atol=0.015, rtol=0)
    assert exact.abs().max() > 0.15  # ten times the tolerance


def test_one_step_of_contrastive_divergence_is_its_expectation():
    model = small_rbm(chains=0, weight_cost=0.0)
    p = joint(model.rbm)[0]
    step = (p / p.sum(1, keepdim=True)) @ (p / p.sum(0)).t()
    energy = model.rbm.free_energy(states(4))
    expected = gradients(model, energy[5] - step[5] @ energy)
    found = one_update(model, states(4)[[5]].repeat(40_000, 1).view(-1, 1, 2, 2))
    torch.testing.assert_close(found, expected, atol=0.015, rtol=0)
    assert expected.abs().max() > 0.15


def test_persistent_chains_continue_where_they_ended():
    model = small_rbm(chains=30_000, steps=1)
    p = joint(model.rbm)[0]
    step = (p / p.sum(1, keepdim=True)) @ (p / p.sum(0)).t()
    model.chains.copy_(states(4)[[9]].expand_as(model.chains))
    for count in (1, 2, 3):
        one_update(model, states(4).view(-1, 1, 2, 2))
        assert_distributed(model.chains, step.matrix_power(count)[9])


def test_exact_likelihood_sums_to_one_and_ais_agrees():
    model = small_rbm(particles=300, temperatures=300, burn_in=20)
    model.initialize(states(4).view(-1, 1, 2, 2))
    randomise(model.rbm, 0.7)
    x = states(4).view(-1, 1, 2, 2)
    found = model.likelihoods()
    assert list(found)[-2:] == ["ais", "exact"]
    exact = found["exact"].log_prob(x)
    torch.testing.assert_close(exact.exp(), joint(model.rbm)[0].sum(1))
    for name in ("ais", "ais_reverse"):
        torch.testing.assert_close(found[name].log_prob(x), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize("chains", [0, 10])
def test_rbm_samples_its_distribution(chains):
    model = small_rbm(chains=chains, burn_in=30)
    assert_distributed(model.sample(30_000).flatten(1), joint(model.rbm)[0].sum(1))


def test_pseudo_likelihood_is_the_sum_of_conditionals():
    model = small_rbm()
    p, v = joint(model.rbm)[0].sum(1), states(4)
    conditionals = sum(
        (p / (p + p[index(torch.cat([v[:, :i], 1 - v[:, i : i + 1], v[:, i + 1 :]], 1))])).log() for i in range(4)
    )
    found = model.validate(Batch(v.repeat(5_000, 1).view(-1, 1, 2, 2)))["pseudo_likelihood"]
    torch.testing.assert_close(found, conditionals.mean(), atol=0.03, rtol=0)


@pytest.mark.parametrize("chains", [0, 4])
def test_pictures_are_filters_and_fantasies(chains):
    model = small_rbm(chains=chains, burn_in=5)
    pictures = model.pictures()
    W = model.rbm.W.detach()
    torch.testing.assert_close((2 * pictures["filters"].flatten(1) - 1) * W.abs().amax(1, keepdim=True), W)
    # A fantasy is p(v = 1 | h) for one of the few h there are.
    possible = model.decode(states(3)).flatten(1)
    fantasies = pictures["fantasies"].flatten(1)
    assert len(fantasies) == (chains or 100)
    assert torch.cdist(fantasies, possible).amin(1).max() < 1e-6


@pytest.mark.parametrize(
    ("hyper", "found"), [({"hidden": 0}, 0), ({"chains": -1}, -1), ({"particles": 1}, 1), ({"weight_cost": -0.1}, -0.1)]
)
def test_hyper_parameters_out_of_range_are_named(hyper, found):
    with pytest.raises(RecipeError, match=rf"hyper.{next(iter(hyper))}: found {found}, allowed \d and more"):
        RBM(DataSpec((1, 2, 2), 0, BINARY), **hyper)
