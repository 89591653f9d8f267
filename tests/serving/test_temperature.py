"""Temperature, in each model's own sense: the identity at 1, and what the chapter says elsewhere."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from gen.data.spaces import DataSpec, Space
from gen.model import Samples
from gen.registry import build, entry, list_models
from tests.serving.running import SHAPE, model

SAMPLERS = [name for name in list_models() if issubclass(entry(name).cls, Samples)]
TINY = DataSpec((1, 1, 3), 0, Space.parse("binary_fixed"))


def drawn(made, count=64, seed=1, **options):
    torch.manual_seed(seed)
    with torch.no_grad():
        return made.sample(count, **options)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_is_the_model_itself(name):
    made = model(name)
    assert torch.equal(drawn(made, temperature=1.0), drawn(made))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_spread_as_it_rises(name):
    made = model(name)
    cold, warm, hot = (drawn(made, 256, temperature=t).flatten(1).var(0).sum() for t in (0.2, 1.0, 2.0))
    assert cold < 0.85 * warm
    assert warm < hot


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_of_a_gan_scales_the_noise(name):
    made = model(name)
    torch.manual_seed(1)
    z = torch.rand(5, made.latents) * 2 - 1 if name == "dcgan" else torch.randn(5, made.latents)
    with torch.no_grad():
        assert torch.equal(drawn(made, 5, temperature=0.25), made.generator(0.25 * z))


def test_of_the_factor_model_scales_every_deviation_from_the_mean():
    made = model("factor")
    mean = made.mean.detach().view(SHAPE)
    near, nearer = (drawn(made, 8, temperature=t) - mean for t in (0.02, 0.01))  # small: nothing is clamped
    torch.testing.assert_close(near, 2 * nearer, rtol=1e-3, atol=1e-6)


def test_of_a_vae_scales_the_prior_and_divides_the_log_odds():
    made = model("vae")
    torch.manual_seed(1)
    z = torch.empty(7, made.latents).normal_()
    with torch.no_grad():
        expected = torch.bernoulli(torch.sigmoid(made.decoder(0.5 * z) / 0.5)).view(-1, *SHAPE)
    assert torch.equal(drawn(made, 7, temperature=0.5), expected)


def test_of_a_pixelcnn_divides_the_logits():
    """The first pixel sees nothing but its bias: its frequencies are those of softmax(logits / T)."""
    torch.manual_seed(0)
    made = build("pixelcnn", DataSpec((1, 1, 1), 0, Space.parse("levels(4)")), features=4, blocks=0, head=6)
    for parameter in made.parameters():
        parameter.data += torch.randn_like(parameter)
    logits = made.logits(torch.zeros(1, 1, 1, 1)).detach().flatten()
    for temperature in (0.5, 3.0):
        x = (drawn(made, 20_000, temperature=temperature) * 3).round().long().flatten()
        frequency = x.bincount(minlength=4) / len(x)
        torch.testing.assert_close(frequency, F.softmax(logits / temperature, 0), rtol=0, atol=0.015)


def test_of_an_rbm_divides_the_energy():
    """Three pixels and two features: the frequencies of samples against the sum over all states of exp(-E / T)."""
    torch.manual_seed(0)
    made = build("rbm", TINY, hidden=2, chains=50, burn_in=40)
    for parameter in made.parameters():
        parameter.data += torch.randn_like(parameter)
    v, h = (torch.tensor([*itertools.product((0.0, 1.0), repeat=n)]) for n in (3, 2))
    energy = torch.stack([made.rbm.energy(v, each.expand(8, -1)) for each in h], 1).detach()
    for temperature in (0.5, 2.0):
        expected = torch.exp(-energy / temperature).sum(1)
        found = Counter(tuple(x) for x in drawn(made, 20_000, temperature=temperature).flatten(1).long().tolist())
        frequency = torch.tensor([found[tuple(x)] / 20_000 for x in v.long().tolist()])
        torch.testing.assert_close(frequency, expected / expected.sum(), rtol=0, atol=0.015)


def test_of_a_dbn_divides_the_energy_of_its_top_and_the_log_odds_below():
    """Strong weights and a low temperature: every unit takes the likelier value, on the top and all the way down."""
    torch.manual_seed(0)
    made = build("dbn", TINY, hidden=(4, 5), chains=20, burn_in=30)
    for parameter in made.parameters():
        parameter.data += torch.randn_like(parameter)
    made.top.fill_(1)
    x = drawn(made, 200, temperature=1e-3).flatten(1)
    torch.manual_seed(1)
    h = made._sample_top(200, 1e-3)
    likelier = (made.stack[0].visible_logits(h) > 0).to(h)
    assert torch.equal(x, likelier)
    top = made.stack[1]
    assert torch.equal(h, (top.visible_logits((top.hidden_logits(h) > 0).to(h)) > 0).to(h)), "chains rest in minima"
