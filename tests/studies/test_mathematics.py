"""What studies compute, where it can be proven: geometry, quadrature by enumeration, bounds in order, known scores."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gen.data import toys
from gen.data.spaces import DataSpec, Space
from gen.inference.importance import iwae
from gen.losses.heads import Softmax
from gen.models.variational.vae import VAE
from gen.nets.boltzmann import RBMLayer
from gen.pixel_model import PixelModel
from gen.registry import build
from gen.studies import (
    bounds,
    chains,
    coherence,
    completions,
    denoising,
    generators,
    heads,
    latents,
    places,
    recurrences,
    sparse,
)
from gen.studies.importance import iwae_curve, weights
from gen.studies.study import Trained
from tests.numerics.pixel_family import all_images

SMALL = DataSpec((1, 2, 3), 0, Space.parse("binary_fixed"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# ---- latents -------------------------------------------------------------------------------------------------------


def test_slerp_turns_evenly_in_the_plane_of_its_ends_and_keeps_the_length() -> None:
    a, b = torch.randn(2, 5, 7).double()
    b = b * (a.norm(dim=1) / b.norm(dim=1)).unsqueeze(1)
    t = torch.linspace(0, 1, 9).double()
    arcs = latents.slerp(a, b, t)
    torch.testing.assert_close(arcs[:, 0], a)
    torch.testing.assert_close(arcs[:, -1], b)
    torch.testing.assert_close(arcs.norm(dim=2), a.norm(dim=1, keepdim=True).expand(-1, 9))
    cosine = torch.cosine_similarity(arcs, a.unsqueeze(1), dim=2).clamp(-1, 1)
    angle = torch.cosine_similarity(a, b).acos()
    torch.testing.assert_close(cosine.acos()[:, 1:], (angle.unsqueeze(1) * t)[:, 1:])
    assert all(torch.linalg.matrix_rank(arc, atol=1e-9) == 2 for arc in arcs)
    straight = latents.linear(a, b, t)
    assert (straight.norm(dim=2)[:, 1:-1] < arcs.norm(dim=2)[:, 1:-1]).all()


def test_slerp_changes_the_length_evenly_and_is_straight_where_no_plane_is_meant() -> None:
    a, b = torch.tensor([[3.0, 0, 0]]).double(), torch.tensor([[0, 1.0, 0]]).double()
    t = torch.tensor([0.0, 0.25, 0.5, 1]).double()
    torch.testing.assert_close(latents.slerp(a, b, t).norm(dim=2), torch.tensor([[3.0, 2.5, 2.0, 1.0]]).double())
    for other in (2 * a, -a, torch.zeros_like(a)):
        torch.testing.assert_close(latents.slerp(a, other, t), latents.linear(a, other, t))
    nearly = a + torch.tensor([[0, 1e-5, 0]]).double()
    torch.testing.assert_close(latents.slerp(a, nearly, t), latents.linear(a, nearly, t), rtol=0, atol=1e-9)


def test_nearest_of_class_and_its_chance() -> None:
    codes = torch.tensor([[0.0, 0], [0.1, 0], [5, 0], [5.1, 0], [5.2, 0], [0.2, 0]])
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    found, chance = latents.nearest_of_class(codes, labels)
    assert found == pytest.approx(5 / 6)  # the last one's neighbour is of the other class
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    assert chance == pytest.approx(sum(int(labels[i] == labels[j]) for i, j in pairs) / len(pairs))


# ---- bounds --------------------------------------------------------------------------------------------------------


def smooth_vae() -> VAE:
    """Two latents that matter, a posterior that is none: every term of the identity is far from 0."""
    model = VAE(SMALL, latents=2, hidden=(6,), activation="tanh").double()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.copy_(1.2 * torch.randn_like(parameter))
        for parameter in model.encoder.parameters():
            parameter.mul_(0.7)
    return model


def every_image() -> Tensor:
    return toys.all_images(2, 3).double()


@torch.no_grad()
def test_quadrature_gives_probabilities_that_sum_to_one() -> None:
    grid = bounds.Grid.square(7.0, 141)
    log_p = grid.integrate(bounds.joint(smooth_vae(), grid.points, every_image()))
    assert float(log_p.logsumexp(0)) == pytest.approx(0, abs=1e-9)


@torch.no_grad()
def test_log_p_is_the_bound_plus_the_divergence_from_the_posterior() -> None:
    model, x = smooth_vae(), every_image()[::4]
    mean, log_var = model.posterior(x)
    grid = bounds.Grid.square(7.0, 201)
    log_joint = bounds.joint(model, grid.points, x)
    log_p = grid.integrate(log_joint)
    gap = grid.divergence(log_joint - log_p, mean, log_var)
    elbo = bounds.expected_bound(model, x, mean, log_var)
    assert (gap > 0.01).all()
    torch.testing.assert_close(elbo + gap, log_p, rtol=0, atol=1e-4)
    coarse = grid.coarse().integrate(grid.thinned(log_joint))
    torch.testing.assert_close(coarse, log_p, rtol=0, atol=1e-6)
    drawn = model.log_weights(x, 40_000)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - elbo).abs() < 5 * error).all(), "the chapter's own bound"


@torch.no_grad()
def test_a_decoder_that_ignores_its_code_has_the_prior_for_a_posterior() -> None:
    model, x = smooth_vae(), every_image()
    model.decoder[0].weight.zero_()
    grid = bounds.Grid.square(7.0, 141)
    log_joint = bounds.joint(model, grid.points, x)
    log_p = grid.integrate(log_joint)
    p = model.decode(torch.zeros(1, 2).double())
    torch.testing.assert_close(log_p, (x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1))
    prior = torch.zeros(len(x), 2).double()
    torch.testing.assert_close(grid.divergence(log_joint - log_p, prior, prior), prior[:, 0], rtol=0, atol=1e-9)


@torch.no_grad()
def test_iwae_rises_from_the_elbo_towards_log_p() -> None:
    model, x = smooth_vae(), every_image()[::7]
    log_w = weights(model, x, 20_000)
    curve = iwae_curve(log_w)
    values = [value for value, _ in curve.values()]
    assert values == sorted(values)
    assert values[0] == pytest.approx(float(log_w.mean()))
    grid = bounds.Grid.square(7.0, 141)
    log_p = float(grid.integrate(bounds.joint(model, grid.points, x)).mean())
    assert values[-1] < log_p + 3 * curve[1000][1]
    assert values[-1] == pytest.approx(log_p, abs=0.02)
    assert log_p - values[0] > 0.1


def test_iwae_of_all_draws_is_the_estimate_of_the_house_and_errors_shrink_as_they_should() -> None:
    log_w = torch.randn(1000, 4).double()
    curve = iwae_curve(log_w)
    assert curve[1000][0] == pytest.approx(float(iwae(lambda x, samples: log_w, torch.zeros(4, 1, 1, 1), 1000).mean()))
    assert curve[1000][1] == 0
    assert curve[1][1] == pytest.approx(math.sqrt(1 / 1000 / 4), rel=0.1)  # of the mean of 4 images of variance 1


# ---- chains --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_chains_from_the_model_stay_and_others_come_to_it() -> None:
    rbm = RBMLayer(6, 4, std=0.8).double()
    states = toys.all_images(2, 3).double().flatten(1)
    p = (-rbm.free_energy(states)).softmax(0)
    exact = float(p @ rbm.free_energy(states))
    own = states[torch.multinomial(p, 1000, replacement=True)]
    points, seen = chains.walk(rbm, own, chains.SEEN, 3)
    assert all(abs(mean - exact) < 5 * error for mean, error in points)
    assert seen.shape == (len(chains.SEEN), 3, 6)
    worst = states[rbm.free_energy(states).argmax()].expand(1000, -1)
    points, seen = chains.walk(rbm, worst, (0,), 3)
    torch.testing.assert_close(seen[0], worst[:3])
    assert points[0][0] == pytest.approx(float(rbm.free_energy(states).max()))
    assert points[0][0] - exact > 0.5
    assert abs(points[-1][0] - exact) < 5 * points[-1][1]


# ---- generators ----------------------------------------------------------------------------------------------------


def test_coloured_noise_has_the_moments_of_the_codes_even_if_some_never_move() -> None:
    codes = torch.randn(500, 4).double() @ torch.randn(4, 4).double() + 3
    codes[:, 2] = 1.5
    noise = torch.linalg.qr(torch.cat([torch.ones(100, 1).double(), torch.randn(100, 4).double()], 1))[0][:, 1:]
    white = noise * math.sqrt(99)  # of mean 0 and covariance I, exactly
    made = generators.coloured(white, codes)
    torch.testing.assert_close(made.mean(0), codes.mean(0))
    torch.testing.assert_close(made.T.cov(), codes.T.cov())


# ---- denoising -----------------------------------------------------------------------------------------------------


def test_score_is_the_gradient_of_log_p() -> None:
    mixture = denoising.smooth(toys.ring(), 0.3)
    assert mixture.std == pytest.approx(math.hypot(0.02, 0.3))
    x = (2 * torch.randn(50, 2)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    torch.testing.assert_close(denoising.score(mixture, x.detach()), gradient)


def test_a_smoothed_mixture_is_that_of_noisy_points() -> None:
    mixture = toys.Mixture(torch.tensor([[0.0, 0], [1, 0]]).double(), 0.2)
    sigma, x = 0.4, torch.tensor([[0.3, 0.2], [1.5, -0.4]]).double()
    line = torch.linspace(-3, 4, 281).double()
    plane = torch.cartesian_prod(line, line)
    noise = toys.Mixture(x, sigma)
    for k in range(len(x)):  # the convolution, point by point
        kernel = toys.Mixture(noise.means[k : k + 1], sigma)
        convolved = (mixture.log_prob(plane) + kernel.log_prob(plane)).logsumexp(0) + 2 * math.log(7 / 280)
        found = denoising.smooth(mixture, sigma).log_prob(x[k : k + 1])
        torch.testing.assert_close(found[0], convolved)


def test_the_truth_is_read_off_labelled_points_in_the_units_of_the_space() -> None:
    labels = torch.arange(4000) % 3
    means = torch.tensor([[40.0, 60], [200, 60], [120, 220]])
    points = (means[labels] + 9 * torch.randn(4000, 2)).round().to(torch.uint8).view(-1, 2, 1, 1)
    spec = DataSpec((2, 1, 1), 3, Space.parse("dequantized"))
    found = denoising.truth(Trained("ring", object(), spec, lambda split: (points, labels)), seed=0)
    torch.testing.assert_close(found.means, (means + 0.5) / 256, rtol=0, atol=0.005)
    assert found.std == pytest.approx(9 / 256, rel=0.03)


# ---- sparse codes --------------------------------------------------------------------------------------------------


def test_partial_sums_go_from_nothing_to_the_reconstruction() -> None:
    dictionary, code = torch.randn(9, 30).double(), torch.zeros(30).double()
    code[[3, 11, 20]] = torch.tensor([0.5, -2.0, 1.0]).double()
    model = SimpleNamespace(dictionary=dictionary, patches=SimpleNamespace(side=3))
    x = dictionary @ code + 0.1 * torch.randn(9).double()
    images = sparse.partial_sums(model, x, code)
    assert images.shape == (len(sparse.ADDED) + 1, 1, 3, 3)
    assert (images[0] == 0.5).all()
    unit = 2 * (images.flatten(1) - 0.5)  # up to one scale for all
    scale = unit[-1] @ x / (x @ x)
    torch.testing.assert_close(unit[-1], scale * x)
    torch.testing.assert_close(unit[1], scale * -2 * dictionary[:, 11])
    torch.testing.assert_close(unit[-2], scale * dictionary @ code)


# ---- completions ---------------------------------------------------------------------------------------------------


class Linear(PixelModel):
    """Every bit's log-odds are a sum over the bits before it, with weights of either sign and some size."""

    def __init__(self) -> None:
        super().__init__(SMALL)
        self.head = Softmax.of(SMALL)
        self.W = torch.nn.Parameter(4 * torch.randn(6, 6).double().triu(1))

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return ((x.flatten(1) - 0.5) @ self.W).view(-1, 1, 2, 3)


@torch.no_grad()
def test_choosing_among_draws_samples_the_posterior_of_what_is_hidden() -> None:
    """Two pixels of a 2x3 image are hidden: how often each of the four fillings is chosen, against p(x) among them."""
    model, draws, times = Linear(), 100, 2_000
    hidden = torch.tensor([[False, True, False], [True, False, False]])
    x = torch.tensor([1.0, 0, 1, 0, 1, 1]).double().view(1, 1, 2, 3)
    every = all_images((1, 2, 3), 2)
    every = every[((every == x) | hidden).flatten(1).all(1)]
    posterior = model.log_prob(every).softmax(0)
    proposal = model.log_probs(every)[:, 0][:, hidden].sum(1).softmax(0)
    assert (posterior - proposal).abs().max() > 0.1, "else choosing would have nothing to do"
    filled = completions.fill(model, x.repeat(times, 1, 1, 1), hidden, draws)
    for stack, p in ((filled.chosen, posterior), (filled.first, proposal)):
        found = torch.stack([(stack == each).flatten(1).all(1).double().mean() for each in every])
        assert abs(found.sum() - 1) < 1e-9
        torch.testing.assert_close(found, p, rtol=0, atol=4 * (0.25 / times) ** 0.5 + 2 / draws)
    assert (filled.effective <= draws + 1e-6).all()
    assert (filled.effective >= 1 - 1e-6).all()


def test_what_is_hidden_has_the_shape_that_its_name_says() -> None:
    assert completions.lower_half(4, 2).tolist() == [[False] * 2] * 2 + [[True] * 2] * 2
    assert completions.right_half(2, 4).tolist() == [[False, False, True, True]] * 2
    assert completions.hole(4, 4).tolist() == [[False] * 4, *[[False, True, True, False]] * 2, [False] * 4]


# ---- heads ---------------------------------------------------------------------------------------------------------


def test_a_valley_is_what_lies_between_two_modes() -> None:
    p = torch.rand(50, 7).softmax(1)
    p[0], p[1] = torch.arange(7.0), torch.tensor([0.4, 0, 0, 0.1, 0, 0, 0.5])
    for found, q in zip(heads.valleys(p), p, strict=True):
        depths = [min(q[: v + 1].max(), q[v:].max()) - q[v] for v in range(7)]
        assert found == max(depths)
    assert heads.valleys(p)[0] == 0 and heads.valleys(p)[1] == p[1, 0]
    depth = torch.zeros(3, 4, 5)
    depth[2, 3, 1], depth[0, 1, 4], depth[2, 0, 0] = 0.9, 0.5, 0.8
    assert heads.deepest(depth, 2) == [(2, 3, 1), (0, 1, 4)], "one in an image"


@pytest.mark.parametrize("likelihood", ["softmax", "logistic_mixture"])
@torch.no_grad()
def test_distributions_over_levels_sum_to_one_and_hold_the_likelihood(likelihood: str) -> None:
    spec = DataSpec((1, 3, 4), 0, Space.parse("levels(4)"))
    model: Any = build("pixelcnn", spec, features=2, blocks=0, head=2, likelihood=likelihood).double()
    x = torch.randint(4, (5, 1, 3, 4)).double() / 3
    p = heads.distributions(model, x, 4)
    torch.testing.assert_close(p.sum(1), torch.ones(5, 3, 4).double())
    of_x = p.gather(1, (x * 3).round().long())
    torch.testing.assert_close(of_x.log().flatten(1).sum(1), model.log_prob(x))


# ---- recurrences ---------------------------------------------------------------------------------------------------


def test_the_field_of_a_stack_of_convolutions_is_the_one_with_the_blind_spot() -> None:
    """3 x 3 mask A, then one 3 x 3 mask B: two rows up, where each row further up reaches one column further right."""
    model: Any = build("pixelcnn", DataSpec((1, 6, 7), 0, Space.parse("binary_fixed")), features=8, blocks=1, kernel=3)
    x = torch.rand(60, 1, 6, 7).round()
    field = recurrences.field_of(model.double(), x, 4, 3)
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[4, 1:3] = True
    expected[3, 1:5] = True  # not column 5: that needs two steps to the right with one step up
    expected[2, 1:6] = True
    assert torch.equal(field > 0, expected)
    halves = [recurrences.field_of(model, each, 4, 3) for each in x.split(30)]
    torch.testing.assert_close(field, (halves[0] + halves[1]) / 2)


def test_operations_are_counted_as_they_are_started() -> None:
    x = torch.ones(3, 4)
    assert recurrences.started(lambda: (x.T @ x[:, 0]).exp_().view(2, 2).sum()) == 3


# ---- places --------------------------------------------------------------------------------------------------------


def test_ink_is_counted_in_the_cell_that_it_lies_in() -> None:
    images = torch.zeros(3, 2, 6, 9, dtype=torch.uint8)
    images[0, 0, 0, 0], images[0, 1, 1, 2] = 100, 50  # both in the first cell, of 2 x 3 pixels
    images[1, :, 2, 5], images[1, 0, 4, 3] = 60, 40  # three quarters in the middle, a quarter below it
    found = places.ink_by_cell(images)
    torch.testing.assert_close(found[0], torch.eye(9).double()[0])
    torch.testing.assert_close(found[1], 0.75 * torch.eye(9).double()[4] + 0.25 * torch.eye(9).double()[7])
    assert (found[2] == 0).all(), "a black image is nowhere"


# ---- coherence -----------------------------------------------------------------------------------------------------


def test_errors_of_correlations_are_those_of_a_double_loop() -> None:
    drawn, real = torch.rand(40, 1, 3, 4).round(), torch.rand(60, 1, 3, 4).round()
    drawn[:, :, 0, 1] = drawn[:, :, 2, 3]
    real[:, :, 1, 1] = 0  # a pixel that is always black is left out
    found = coherence.errors(drawn, real)
    expected, count = torch.zeros(4).double(), torch.zeros(4).double()
    pixels = [(i, j) for i in range(3) for j in range(4) if (i, j) != (1, 1)]
    for i, j in pixels:
        for m, n in pixels:
            off = []
            for half in (0, 1):
                r, s = (torch.stack([x[half::2, 0, i, j], x[half::2, 0, m, n]]).corrcoef()[0, 1] for x in (drawn, real))
                off.append(r - s)
            distance = max(abs(i - m), abs(j - n))
            expected[distance] += off[0] * off[1]
            count[distance] += 1
    torch.testing.assert_close(found.squared, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pairs, count)
    assert found.root(1) == pytest.approx(math.sqrt(max(0, expected[1:].sum() / count[1:].sum())), rel=1e-3)


def test_noise_is_no_error_and_what_is_missing_is() -> None:
    """Images of one random bit: another draw of them is right, and independent pixels are off by the correlation."""
    bit, other = (torch.rand(n, 1, 1, 1).round().expand(-1, 1, 6, 6) for n in (4000, 4000))
    flipped = [torch.where(torch.rand(x.shape) < 0.25, 1 - x, x) for x in (bit, other)]  # correlation 1/4
    assert coherence.errors(flipped[0], flipped[1]).root(3) < 0.02
    found = coherence.errors(torch.rand(4000, 1, 6, 6).round(), flipped[1])
    assert found.root(3) == pytest.approx(0.25, abs=0.02)
    assert found.by_distance() == pytest.approx([0.25] * 5, abs=0.03)
