"""Every recipe of params.yaml, trained on real data as it stands there, against its gate and its theory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gen.data.spaces import Space
from gen.inference.ais import bracket, exact_log_z
from gen.inference.ppca import maximum_likelihood
from gen.inference.sparse import fista, kkt_violation
from gen.recipe import Recipe, Training
from gen.registry import build
from gen.store import load_model
from gen.train.context import ProcessContext
from gen.train.loop import fit
from pipelines import params
from tests.numerics.enumeration import states
from tests.project import ROOT
from tests.workshop import Trained, Workshop

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", params.load(ROOT / "params.yaml").recipes)
def test_gate(trained: Workshop, name: str) -> None:
    gate = trained(name).gate
    assert gate, "a recipe without a bar could not fail"
    assert all(bar["passed"] for bar in gate), gate


def test_factor_reaches_the_closed_form(trained: Workshop) -> None:
    """Within 1e-3 relative of the maximum of the likelihood, on what it was fitted to and on what it never saw."""
    found = trained("factor-digits")
    model = found.model.double()
    train, test = (found.images(split).double() for split in ("train", "test"))
    x = train.flatten(1)
    latents = model.encode(train[:1]).shape[1]
    W, sigma2 = maximum_likelihood(torch.cov(x.T, correction=0), latents)
    covariance = W @ W.T + sigma2 * torch.eye(x.shape[1], dtype=torch.float64)
    best = torch.distributions.MultivariateNormal(x.mean(0), covariance)
    with torch.no_grad():
        for images in (train, test):
            ours = model.likelihoods()["exact"].log_prob(images).mean()
            reference = best.log_prob(images.flatten(1)).mean()
            assert abs(ours - reference) <= 1e-3 * abs(reference)


@torch.no_grad()
def test_sparse_codes_are_optimal_and_sparse(trained: Workshop) -> None:
    found = trained("sparse-coding-digits")
    model = found.model
    patches = model.centred(model.patches.covering(found.images("test")))[0].double()
    dictionary = model.dictionary.double()
    codes = fista(patches, dictionary, model.penalty)
    assert kkt_violation(patches, dictionary, codes, model.penalty).max() <= 1e-3
    assert (codes == 0).double().mean() >= 0.8


def test_ais_meets_the_exact_partition_function(digits_shards, tmp_path) -> None:
    """An RBM with 16 hidden units, trained on digits: log Z by AIS within 0.05 nats of the sum over 2^16 states."""
    training = Training(images=35_000, batch=100)
    recipe = Recipe(
        name="rbm-16",
        model="rbm",
        dataset="digits",
        space="binary_dynamic",
        hyper={"hidden": 16},
        training=training,
    )
    rbm = load_model(fit(recipe, data=digits_shards, directory=tmp_path, context=ProcessContext())).model.rbm.double()
    with torch.no_grad():
        torch.manual_seed(0)
        exact = exact_log_z(rbm)
        h = states(16)
        p = (-rbm.hidden_free_energy(h) - exact).exp()
        # The reverse side asks for samples of the RBM. Gibbs chains may miss a mode, so they are drawn without.
        v = rbm.visible(h[torch.multinomial(p, 2_000, replacement=True)]).sample()
        low, high = bracket(rbm, v, 1_000)
    for estimate in (low, high):
        assert abs(estimate.value - exact) <= 0.05
    assert low.value - 3 * low.error <= exact <= high.value + 3 * high.error


def independent_pixels(found: Trained) -> float:
    """Test log-likelihood of independent Bernoulli pixels with the means of the training images, in nats."""
    mean = (found.pixels("train").double().mean(0) / 255).clamp(1e-3, 1 - 1e-3)
    x = found.images("test").double()
    return float((x * mean.log() + (1 - x) * (1 - mean).log()).flatten(1).sum(1).mean())


def test_rbm_beats_independent_pixels(trained: Workshop) -> None:
    found = trained("rbm-digits")
    assert found.scores["nats"] >= independent_pixels(found) + 60
    assert abs(found.scores["nats_ais"] - found.scores["nats_ais_reverse"]) <= 5, "the two estimates must agree"


def test_vae_bounds_are_in_order(trained: Workshop) -> None:
    scores = trained("vae-digits").scores
    assert scores["nats_elbo"] <= scores["nats_iwae_50"] <= scores["nats_iwae_500"]
    assert scores["nats_elbo"] >= -125


@pytest.mark.parametrize("name", ["dcgan-digits", "wgan-gp-digits"])
def test_gans_draw_all_ten_digits(trained: Workshop, name: str) -> None:
    scores = trained(name).scores
    assert scores["fid"] <= 0.35 * scores["fid_independent"]
    assert scores["fid_floor"] < scores["fid"], "better than real images: something leaks"
    assert scores["classes_present"] == 10
    assert scores["min_class_share"] >= 0.03


def test_pixelcnn_is_normalised_and_causal_after_training(digits_shards, tmp_path) -> None:
    """Trained on real digits cropped to 2x2 it still sums to one; and no pixel of a trained one sees its future."""
    spec_space = Space.parse("binary_dynamic")
    from gen.data.spaces import DataSpec

    torch.manual_seed(0)
    model = build("pixelcnn", DataSpec((1, 2, 2), 0, spec_space), features=4, blocks=2, kernel=3, head=8).double()
    states = torch.tensor(np.indices((2,) * 4).reshape(4, -1).T.copy(), dtype=torch.float64).view(-1, 1, 2, 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    from gen.model import Batch

    for _ in range(50):
        batch = states[torch.randint(len(states), (32,)).clamp(max=5)]
        optimizer.zero_grad()
        model.loss(Batch(batch))[0].backward()
        optimizer.step()
    with torch.no_grad():
        total = model.likelihoods()["exact"].log_prob(states).exp().sum()
    assert abs(total - 1) <= 1e-9


def test_pixelcnn_sees_no_future_pixel(trained: Workshop) -> None:
    found = trained("pixelcnn-digits")
    model, x = found.model.double(), found.images("test")[:1].double().requires_grad_()
    order = torch.arange(x[0].numel()).view(x.shape[1:])

    def influence(i: int) -> Tensor:
        row, column = divmod(i, x.shape[-1])
        logits = model.logits(x)[0, :, 0, row, column]
        return torch.autograd.grad(logits.sum(), x)[0][0].abs()

    for i in (0, 27, 28, 200, 391, 783):
        field = influence(i)
        assert field[order >= i].max() == 0
        assert i == 0 or field[order < i].max() > 0
