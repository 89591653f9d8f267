"""Heads: normalised level by level and pixel by pixel, drawn as they say, and exact about what one channel tells."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.losses.heads import Head, Softmax, head_for
from gen.losses.levels import log_softmax_at
from gen.losses.mixtures import LogisticMixture
from tests.numerics.pixel_family import all_images

HEADS = [Softmax(1, 2), Softmax(1, 5), Softmax(3, 3), LogisticMixture(1, 256, 5), LogisticMixture(2, 6, 3)]
HEADS += [LogisticMixture(3, 4, 4), LogisticMixture(3, 2, 1)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def some_outputs(head: Head, count: int = 1) -> Tensor:
    """Far from uniform, (N, P)."""
    return torch.randn(count, head.outputs, dtype=torch.float64) * 1.5


def log_probs(head: Head, outputs: Tensor, pixels: Tensor) -> Tensor:
    """(N, P) or (1, P), (N, C) -> (N, C)."""
    outputs = outputs.expand(len(pixels), -1)
    return head.log_prob(outputs[..., None, None], pixels[..., None, None])[..., 0, 0]


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_all_pixels_sum_to_one_and_so_do_the_levels_of_each_channel(head):
    outputs, pixels = some_outputs(head), all_images((head.channels, 1, 1), head.levels)[..., 0, 0]
    log_p = log_probs(head, outputs, pixels)
    assert log_p.std() > 0.1
    assert abs(log_p.sum(1).exp().sum() - 1) <= 1e-9
    for c in range(head.channels):  # given any channels before it, and whatever those after it hold
        of_channel = pixels.clone()
        of_channel[:, c + 1 :] = 0.3
        p = log_probs(head, outputs, of_channel)[:, c].exp()
        p = p.view(head.levels**c, head.levels, -1)[..., 0]
        torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_the_softmax_and_its_gradient_are_those_of_cross_entropy(scale):
    logits = (scale * torch.randn(3, 2, 6, 4, 5, dtype=torch.float64)).requires_grad_()  # 7 levels, the first at 0
    levels = torch.randint(7, (3, 2, 4, 5))
    found = log_softmax_at(logits, levels)
    padded = F.pad(logits, (0, 0, 0, 0, 1, 0)).transpose(1, 2)
    expected = -F.cross_entropy(padded, levels, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(found)
    gradients = (torch.autograd.grad((each * weights).sum(), logits)[0] for each in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [-30.0, -8.0, 0.0, 8.0])
@pytest.mark.parametrize("where", [-40.0, -1.0, 0.3, 40.0])
def test_the_mixture_is_normalised_however_narrow_and_far_away_it_is(scale, where):
    head = LogisticMixture(1, 256, 2)
    outputs = torch.tensor([[0.0, where, scale, -2.0, where, scale]])
    log_p = log_probs(head, outputs, torch.arange(256.0)[:, None] / 255)
    assert log_p.isfinite().all()
    assert abs(log_p.double().exp().sum() - 1) <= 1e-4


def test_the_mixture_is_what_its_formula_says():
    """The joint probability of a pixel, written down independently, with differences of sigmoids."""
    head, levels = LogisticMixture(3, 4, 2), 4
    outputs = some_outputs(head)
    pixels = all_images((3, 1, 1), levels)[..., 0, 0]
    for pixel, found in zip(pixels, log_probs(head, outputs, pixels).sum(1), strict=True):
        expected, pi = 0.0, outputs.view(2, 10)[:, 0].softmax(0)
        for k in range(2):
            _, *means, s0, s1, s2, a, b, c = outputs.view(2, 10)[k].tolist()
            r, g, _ = (2 * pixel - 1).tolist()
            means[1] += math.tanh(a) * r
            means[2] += math.tanh(b) * r + math.tanh(c) * g
            p = float(pi[k])
            for value, mean, raw in zip((2 * pixel - 1).tolist(), means, (s0, s1, s2), strict=True):
                s = math.exp(math.log1p(math.exp(raw + 7)) - 7)
                upper = 1.0 if value > 0.999 else 1 / (1 + math.exp(-(value + 1 / 3 - mean) / s))
                lower = 0.0 if value < -0.999 else 1 / (1 + math.exp(-(value - 1 / 3 - mean) / s))
                p *= upper - lower
            expected += p
        assert found.exp().item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_draws_follow_the_probabilities(head):
    """Pearson's statistic over all values of a pixel, channel after channel drawn as when sampling, and the mean."""
    count, outputs, pixels = 40_000, some_outputs(head), all_images((head.channels, 1, 1), head.levels)[..., 0, 0]
    many, drawn = outputs.expand(count, -1), torch.full((count, head.channels), torch.nan, dtype=torch.float64)
    noise = torch.rand(count, head.channels, head.noise, dtype=torch.float64)
    for c in range(head.channels):
        drawn[:, c] = head.draw(many, drawn, c, noise[:, c])
    weights = head.levels ** torch.arange(head.channels).flip(0)
    index = ((drawn * (head.levels - 1)).round().long() * weights).sum(1)
    found = torch.bincount(index, minlength=len(pixels)).double()
    expected = log_probs(head, outputs, pixels).sum(1).exp() * count
    common = expected >= 5
    statistic = ((found - expected)[common].square() / expected[common]).sum()
    statistic += (found[~common].sum() - expected[~common].sum()).square() / expected[~common].sum().clamp(min=5)
    freedom = float(common.sum())
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)
    assert drawn[:, 0].mean() == pytest.approx(
        float(head.mean(outputs[..., None, None], pixels[:1, :, None, None])[0, 0]), abs=4 * 0.5 / math.sqrt(count)
    )


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_the_mean_is_that_of_the_conditional(head):
    outputs, pixel = some_outputs(head), torch.zeros(head.levels, head.channels, dtype=torch.float64)
    pixel[:] = torch.randint(head.levels, (head.channels,)) / (head.levels - 1)
    values = torch.arange(head.levels) / (head.levels - 1)
    for c in range(head.channels):
        each = pixel.clone()
        each[:, c] = values
        expected = (log_probs(head, outputs, each)[:, c].exp() * values).sum()
        found = head.mean(outputs[..., None, None], pixel[:1, :, None, None])[0, c]
        torch.testing.assert_close(found.flatten()[0], expected)


@pytest.mark.parametrize("head", HEADS[3:], ids=str)
def test_a_lower_temperature_draws_closer_together(head):
    outputs, noise = some_outputs(head).expand(2000, -1), torch.rand(2000, head.noise, dtype=torch.float64)
    x = torch.zeros(2000, head.channels, dtype=torch.float64)
    spread = [head.draw(outputs, x, 0, noise, t).std() for t in (0.01, 0.5, 1.0)]
    assert spread[0] < spread[1] < spread[2]


def test_half_precision_is_widened():
    head = LogisticMixture(3, 256, 5)
    outputs, x = some_outputs(head, 4).bfloat16()[..., None, None], torch.rand(4, 3, 1, 1)
    assert torch.equal(head.log_prob(outputs, x), head.log_prob(outputs.float(), x))


def test_gradients_are_those_of_the_formula():
    head = LogisticMixture(2, 5, 2)
    outputs = some_outputs(head, 2)[..., None, None].requires_grad_()
    x = torch.tensor([[0.25, 0.0], [1.0, 0.75]], dtype=torch.float64)[..., None, None]
    assert torch.autograd.gradcheck(lambda o: head.log_prob(o, x), outputs)


def test_heads_by_name():
    def spec(channels: int, space: str) -> DataSpec:
        return DataSpec((channels, 4, 4), 0, Space.parse(space))

    assert head_for(spec(1, "binary_fixed"), "softmax", 5) == Softmax(1, 2)
    assert head_for(spec(3, "levels(256)"), "logistic_mixture", 5) == LogisticMixture(3, 256, 5)
    with pytest.raises(RecipeError, match=r"likelihood: found logistic_mixture for grey .*Use softmax"):
        head_for(spec(1, "binary_fixed"), "logistic_mixture", 5)
    with pytest.raises(RecipeError, match="components: found 0"):
        head_for(spec(1, "levels(4)"), "logistic_mixture", 0)
