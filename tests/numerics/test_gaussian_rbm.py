"""Gaussian RBM as what it is, a mixture of 2^H Gaussians: by its definition, by quadrature, by exact gradients."""

import copy
import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference import ais
from gen.inference.gibbs import gibbs
from gen.model import Batch, Progress
from gen.models.boltzmann.gaussian_rbm import GaussianRBM
from gen.nets.boltzmann import GaussianRBMLayer
from tests.numerics.enumeration import exact_samples, mixture, random_gaussian, randomise, states

SPEC = DataSpec((1, 2, 2), 0, Space.parse("dequantized"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def energy(layer, v, h):
    """E(v, h) of one pair, term by term as the chapter has it."""
    u = (v - layer.mu) / layer.scale
    b, c = layer.b_0 - layer.lam @ layer.W, layer.c_0
    total = sum((u[i] - b[i]) ** 2 / (2 * layer.z[i].exp()) for i in range(len(v))) - c @ h
    for j in range(len(h)):
        for i in range(len(v)):
            total = total - h[j] * layer.W[j, i] * u[i] / layer.z[i].exp()
    return total


def density(layer):
    """The marginal, by torch.distributions."""
    p, centre, sigma, _ = mixture(layer)
    return MixtureSameFamily(Categorical(p), Independent(Normal(centre, sigma), 1))


def plane(layer, side=300):
    """A grid (side^2, 2) over all that two visible units can be, and the area of a cell."""
    _, centre, sigma, _ = mixture(layer)
    low, high = centre.amin(0) - 7 * sigma, centre.amax(0) + 7 * sigma
    axes = [torch.linspace(a, b, side, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    return torch.cartesian_prod(*axes), ((high - low) / (side - 1)).prod()


# ---- the layer ---------------------------------------------------------------------------------------------------


def test_energy_is_that_of_the_chapter():
    layer, v, h = random_gaussian(3, 2), torch.randn(6, 3).double(), torch.randint(2, (6, 2)).double()
    expected = torch.stack([energy(layer, *pair) for pair in zip(v, h, strict=True)])
    torch.testing.assert_close(layer.energy(v, h), expected)


def test_free_energy_sums_over_all_states_of_ten_hidden_units():
    layer, v, h = random_gaussian(3, 10), torch.randn(4, 3).double(), states(10)
    pairs = layer.energy(v.repeat_interleave(len(h), 0), h.repeat(len(v), 1)).view(len(v), len(h))
    torch.testing.assert_close(layer.free_energy(v), -(-pairs).logsumexp(1))
    posterior = (-pairs).softmax(1)
    torch.testing.assert_close(torch.sigmoid(layer.hidden_logits(v)), posterior @ h)


def test_integrals_over_the_plane_are_the_closed_forms():
    layer, h = random_gaussian(2, 3, 0.6), states(3)
    v, area = plane(layer)
    for state in h:
        p_v = (-layer.energy(v, state.expand(len(v), -1))).exp()
        torch.testing.assert_close(layer.hidden_free_energy(state[None])[0], -(p_v.sum() * area).log())
        mean = (p_v @ v) / p_v.sum()
        units = layer.visible(state)
        torch.testing.assert_close(units.mean(), mean)
        torch.testing.assert_close(1 / units.precision, p_v @ (v - mean).square() / p_v.sum())
    torch.testing.assert_close(ais.exact_log_z(layer), ((-layer.free_energy(v)).exp().sum() * area).log().detach())


def test_marginal_is_a_mixture_of_gaussians():
    layer = random_gaussian(4, 5)
    v = density(layer).sample((20,))
    torch.testing.assert_close(-layer.free_energy(v).detach() - ais.exact_log_z(layer), density(layer).log_prob(v))


def test_base_rates_standardise_and_floor():
    layer = GaussianRBMLayer(3, 2, std=0.0, floor=0.05).double()
    v = torch.tensor([[0.2, 0.5, 0.5], [0.8, 0.5, 0.52]]).double()
    layer.set_base_rates(v)
    marginal = density(layer)
    torch.testing.assert_close(marginal.mean, v.mean(0))
    torch.testing.assert_close(marginal.stddev, torch.tensor([0.3, 0.05, 0.05]).double())


def test_projection_keeps_deviations_above_the_floor_and_others_as_they_are():
    layer = GaussianRBMLayer(3, 2, floor=0.05).double()
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([0.05, 0.4, 0.4]))
        layer.z.copy_(torch.tensor([-1.0, -1.0, -9.0]))
    layer.project()
    sigma = layer.scale * torch.exp(layer.z / 2)
    torch.testing.assert_close(sigma, torch.tensor([0.05, 0.4 * math.exp(-0.5), 0.05]).double())


# ---- Gibbs -------------------------------------------------------------------------------------------------------


def test_gibbs_leaves_the_model_invariant_and_reaches_it():
    layer = random_gaussian(3, 3, 0.5)
    reference = density(layer)
    for start, steps in ((exact_samples(layer, 50_000), 2), (torch.full((50_000, 3), 3.0).double(), 60)):
        v = gibbs(layer, start, steps)
        log_p = reference.log_prob(v)
        expected = reference.log_prob(reference.sample((50_000,)))
        torch.testing.assert_close(v.mean(0), reference.mean, atol=0.03, rtol=0)
        torch.testing.assert_close(v.var(0), reference.variance, atol=0, rtol=0.04)
        torch.testing.assert_close(log_p.mean(), expected.mean(), atol=0.03, rtol=0)


def test_temperature_divides_the_energy():
    layer, temperature = random_gaussian(2, 3, 0.6), 0.5
    v, _ = plane(layer)
    h = states(3)
    p = torch.stack([(-layer.energy(v, state.expand(len(v), -1)) / temperature).exp() for state in h]).sum(0).detach()
    p = p / p.sum()
    mean = p @ v
    drawn = gibbs(layer, torch.zeros(50_000, 2).double(), 40, temperature=temperature)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.var(0), p @ (v - mean).square(), atol=0, rtol=0.05)


# ---- the model ---------------------------------------------------------------------------------------------------


def small_model(hidden=3, **hyper):
    model = GaussianRBM(SPEC, hidden=hidden, **hyper).double()
    randomise(model.rbm, 0.4)
    with torch.no_grad():
        model.rbm.scale.uniform_(0.5, 1.5)
    return model


def exact_log_z(layer):
    """log Z with gradients."""
    return (-layer.hidden_free_energy(states(layer.W.shape[0]))).logsumexp(0)


def one_update(model, x):
    """The gradients of the update on images x; and whatever follows it is carried out."""
    updates = model.updates(iter([Batch(x)]), Progress(0, 0, 1))
    grads = torch.autograd.grad(next(updates).loss, model.groups()["model"])
    assert next(updates, None) is None
    return grads


@pytest.mark.parametrize("chains", [0, 40_000], ids=["CD", "PCD"])
@pytest.mark.parametrize("variances", ["learnt", "unit"])
def test_many_steps_give_the_exact_gradient_of_the_likelihood(chains, variances):
    model = small_model(steps=25, chains=chains, weight_cost=0.1, variances=variances)
    assert ("rbm.z" in dict(model.named_parameters())) == (variances == "learnt")
    x = torch.rand(4, 1, 2, 2).double().repeat(10_000, 1, 1, 1)
    loss = model.rbm.free_energy(x[:4].flatten(1)).mean() + exact_log_z(model.rbm)
    loss = loss + 0.05 * model.rbm.W.square().sum()
    exact = torch.autograd.grad(loss, model.groups()["model"])
    for found, expected in zip(one_update(model, x), exact, strict=True):
        torch.testing.assert_close(found, expected, atol=0.04, rtol=0.02)
    assert max(g.abs().max() for g in exact) > 0.4  # ten times the tolerance


def test_exact_likelihood_is_the_mixture_and_ais_agrees():
    model = small_model(particles=300, temperatures=300, burn_in=50)
    x = torch.rand(30, 1, 2, 2).double()
    found = model.likelihoods()
    assert list(found) == ["ais_reverse", "ais", "exact"]
    exact = found["exact"].log_prob(x)
    torch.testing.assert_close(exact, density(model.rbm).log_prob(x.flatten(1)))
    for name in ("ais", "ais_reverse"):
        torch.testing.assert_close(found[name].log_prob(x), exact, atol=0.05, rtol=0)


def test_ais_meets_the_exact_sum_on_digits(digits_data):
    """Single precision and dead pixels: both sides of AIS within 0.05 nats of the sum over 2^10 states."""
    pixels = torch.stack([torch.from_numpy(digits_data.splits["train"].samples[i].image) for i in range(300)])
    small = pixels.movedim(3, 1).unfold(2, 2, 2).unfold(3, 2, 2).float().mean((4, 5)).byte()
    x = SPEC.space.encode(small)
    model = GaussianRBM(DataSpec((1, 14, 14), 0, SPEC.space), hidden=10)
    model.initialize(x)
    assert (model.rbm.scale <= model.rbm.floor * (1 + 1e-6)).sum() > 20
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        updates = model.updates(iter([Batch(x[torch.randint(300, (100,))])]), Progress(0, 0, 1))
        optimizer.zero_grad()
        next(updates).loss.backward()
        optimizer.step()
        assert next(updates, None) is None
    exact = ais.exact_log_z(model.rbm)
    log_p = (-model.rbm.free_energy(x.flatten(1)) - exact).mean()
    independent = Independent(Normal(model.rbm.mu, model.rbm.scale), 1).log_prob(x.flatten(1)).mean()
    assert log_p > independent + 10  # it has learnt something
    # From exact samples: what Gibbs chains of finite length leave out is no matter of AIS.
    v = exact_samples(copy.deepcopy(model.rbm).double(), 1_000).float()
    low, high = ais.bracket(model.rbm, v, 400)
    for estimate in (low, high):
        assert (estimate.value - exact).abs() < 0.05
        assert estimate.error < 0.02
    assert low.value - 3 * low.error < exact < high.value + 3 * high.error


def test_samples_are_of_the_mixture_but_for_the_clamp():
    model = small_model(chains=10, burn_in=60)
    with torch.no_grad():
        model.rbm.mu.fill_(0.5)
        model.rbm.b_0.zero_()
        model.rbm.scale.fill_(0.04)
    x = model.sample(30_000).flatten(1)
    reference = density(model.rbm)
    assert (x > 0).all() and (x < 255 / 256).all()  # far from the clamp
    torch.testing.assert_close(x.mean(0), reference.mean, atol=0.003, rtol=0)
    torch.testing.assert_close(x.std(0), reference.stddev, atol=0, rtol=0.03)


def test_chains_continue_where_they_ended():
    model = small_model(chains=30_000, steps=1)
    model.chains.copy_(torch.full((30_000, 4), 2.0))
    one_update(model, torch.rand(8, 1, 2, 2).double())
    torch.manual_seed(5)
    expected = gibbs(model.rbm, model.chains.clone(), 1)
    torch.manual_seed(5)
    one_update(model, torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double())
    torch.testing.assert_close(model.chains, expected)


def test_fantasies_are_centres_of_the_mixture():
    model = small_model(chains=6)
    with torch.no_grad():
        model.rbm.mu.fill_(0.5)
        model.rbm.scale.fill_(0.05)
        model.chains.copy_(model.rbm.start(6))
    centre = mixture(model.rbm)[1]
    fantasies = model.pictures()["fantasies"].flatten(1)
    assert torch.cdist(fantasies, centre).amin(1).max() < 1e-6


@pytest.mark.parametrize(
    ("hyper", "message"), [({"variances": "ones"}, "allowed learnt, unit"), ({"floor": 0.0}, "above 0")]
)
def test_hyper_parameters_out_of_range_are_named(hyper, message):
    with pytest.raises(RecipeError, match=rf"hyper.{next(iter(hyper))}: found .*{message}"):
        GaussianRBM(SPEC, **hyper)
