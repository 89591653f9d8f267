"""RBM and DBN against enumeration: every sum over states is carried out, in float64, on models of a few units."""

import pytest
import torch

from gen.data.spaces import DataSpec, Space
from gen.inference import ais
from gen.inference.gibbs import gibbs, sample_bits
from gen.model import Batch, Progress
from gen.models.boltzmann.dbn import DBN
from gen.models.boltzmann.rbm import RBM
from gen.nets.boltzmann import RBMLayer

BINARY = Space.parse("binary_fixed")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def states(units):
    """All states of some binary units, (2^units, units)."""
    return ((torch.arange(2**units)[:, None] >> torch.arange(units)) & 1).double()


def index(bits):
    """Positions of rows of bits in :func:`states`."""
    return (bits.long() << torch.arange(bits.shape[1])).sum(1)


def randomise(layer, scale=1.0):
    """Give every parameter and both centres values that no symmetry hides."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=scale)
        layer.mu.uniform_()
        layer.lam.uniform_()
    return layer


def random_layer(visible, hidden, scale=1.0):
    return randomise(RBMLayer(visible, hidden).double(), scale)


def joint(layer):
    """p(v, h) by the definition of the energy, (2^D, 2^H), and log Z."""
    v, h = states(layer.W.shape[1]), states(layer.W.shape[0])
    score = (v @ layer.b)[:, None] + (h @ layer.c)[None] + v @ layer.W.t() @ h.t()
    return (score - score.flatten().logsumexp(0)).exp().detach(), score.flatten().logsumexp(0).detach()


def assert_distributed(bits, p):
    """Rows of bits follow p, (2^D,): Pearson's statistic within 5 standard deviations of its mean."""
    kept = p * len(bits) > 5
    expected = (p * len(bits))[kept]
    counts = torch.bincount(index(bits), minlength=len(p))[kept]
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), kept.sum() - 1
    assert (statistic - freedom).abs() < 5 * (2.0 * freedom) ** 0.5


# ---- the layer ---------------------------------------------------------------------------------------------------


def test_layer_is_the_model_of_its_energy():
    layer = random_layer(5, 4)
    p, log_z = joint(layer)
    v, h = states(5), states(4)
    pairs = layer.energy(v.repeat_interleave(16, 0), h.repeat(32, 1)).view(32, 16)
    torch.testing.assert_close((-pairs - log_z).exp(), p)
    torch.testing.assert_close(layer.free_energy(v), -(-pairs).logsumexp(1))
    torch.testing.assert_close(torch.sigmoid(layer.hidden_logits(v)), p @ h / p.sum(1, keepdim=True))
    torch.testing.assert_close(torch.sigmoid(layer.visible_logits(h)), p.t() @ v / p.sum(0)[:, None])


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


# ---- log Z -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("visible", "hidden"), [(9, 4), (4, 9), (14, 15)])
def test_exact_log_z(visible, hidden):
    layer = random_layer(visible, hidden, 0.5)
    torch.testing.assert_close(ais.exact_log_z(layer), (-layer.free_energy(states(visible))).logsumexp(0).detach())


def ends(layer, particles):
    """Base rates on purpose unlike the model's, and exact samples of the model."""
    p = joint(layer)[0].sum(1)
    return torch.randn(len(layer.b_0)).double(), states(len(layer.b_0))[torch.multinomial(p, particles, True)]


def test_ais_weights_are_unbiased_both_ways_with_three_temperatures():
    layer = random_layer(6, 4, 0.7)
    base, v = ends(layer, 100_000)
    betas = [0.0, 0.3, 0.8, 1.0]
    log_ratio = joint(layer)[1] - ais.base_log_z(layer, base)
    for start, path, sign in ((sample_bits(base.expand_as(v)), betas, 1), (v, betas[::-1], -1)):
        w = (ais.anneal(layer, base, start, path) - sign * log_ratio).exp()
        assert (w.mean() - 1).abs() < 4 * w.std() / len(w) ** 0.5
        assert w.std() > 0.1  # the path is coarse enough for the test to mean something


def test_single_particles_bracket_log_z():
    layer = random_layer(8, 5)
    base, v = ends(layer, 2_000)
    betas, log_z, base_log_z = [0.0, 0.25, 0.5, 0.75, 1.0], joint(layer)[1], ais.base_log_z(layer, base)
    low = base_log_z + ais.anneal(layer, base, sample_bits(base.expand_as(v)), betas)
    high = base_log_z - ais.anneal(layer, base, v, betas[::-1])
    for estimate, sign in ((low, -1), (high, 1)):
        assert sign * (estimate.mean() - log_z) > 4 * estimate.std() / len(estimate) ** 0.5


def test_ais_meets_log_z_from_both_sides():
    layer = random_layer(12, 6)
    p, log_z = joint(layer)
    v = states(12)[torch.multinomial(p.sum(1), 500, replacement=True)]
    found = ais.bracket(layer, v, 300)
    for estimate in found:
        assert (estimate.value - log_z).abs() < 0.05
        assert (estimate.value - log_z).abs() < 4 * estimate.error
        assert 0 < estimate.error < 0.05


def test_standard_error_is_the_spread_of_repetitions():
    values, errors = zip(*(ais.log_mean_exp(torch.randn(400).double() + 1000) for _ in range(500)), strict=True)
    torch.testing.assert_close(torch.stack(values).mean(), torch.tensor(1000.5).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.stack(values).std(), torch.stack(errors).mean(), atol=0, rtol=0.15)


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


# ---- DBN ---------------------------------------------------------------------------------------------------------

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
