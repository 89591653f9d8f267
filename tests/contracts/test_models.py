"""The contract, over every registered model. A new model gets all of these by registering."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gen.data.reader import open_split
from gen.errors import RecipeError
from gen.model import (
    Batch,
    Completes,
    Denoises,
    Encodes,
    GenerativeModel,
    Infers,
    Pictures,
    Predicts,
    Progress,
    Samples,
    Scores,
)
from gen.registry import build, entry, list_models
from gen.train.optim import make_optimizer
from tests.toys import SPEC, TOY_HYPER, toy_data, toy_spec, toy_specs

MODELS = list_models()
BUDGET = 64


@pytest.fixture
def images(name: str, toy_shards: Path) -> tuple[Tensor, Tensor]:
    """Of the kind that the model of the test takes: images, or videos."""
    pixels, labels, *_ = open_split(toy_data(name, toy_shards), "train").batch(torch.arange(64).mul(3).numpy())
    assert labels is not None
    return pixels, labels


def built(name: str, images: tuple[Tensor, Tensor], dtype: torch.dtype = torch.float64) -> GenerativeModel:
    torch.manual_seed(0)
    spec = toy_spec(name)
    model = build(name, spec, **TOY_HYPER[name]).to(dtype)
    model.initialize(spec.space.encode(images[0]).to(dtype))
    return model


def batches(model: GenerativeModel, images: tuple[Tensor, Tensor], dtype: torch.dtype) -> Iterator[Batch]:
    pixels, labels = images
    while True:
        chosen = torch.randint(len(pixels), (8,))
        yield Batch(model.spec.space.encode(pixels[chosen]).to(dtype), labels[chosen])


def passes(model: GenerativeModel, images: tuple[Tensor, Tensor], dtype: torch.dtype = torch.float64):
    """Carry out the whole toy budget; yields (progress, update) while gradients of the update are in place."""
    groups = model.groups()
    optimizers = {name: make_optimizer(o, groups[name]) for name, o in model.optimizers().items()}
    source = batches(model, images, dtype)
    for step in range(BUDGET // 8):
        torch.manual_seed(step)
        progress = Progress(step, step * 8, BUDGET)
        for update in model.updates(source, progress):
            optimizers[update.group].zero_grad(set_to_none=True)
            update.loss.backward(inputs=groups[update.group])
            yield progress, update
            optimizers[update.group].step()


@pytest.mark.parametrize("name", MODELS)
def test_has_a_toy_size_and_a_summary(name: str) -> None:
    assert name in TOY_HYPER, f"add a line for {name} to tests/toys.py"
    assert ":" in entry(name).summary, "the first line of a chapter reads `Name: what it is`"


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_a_group_and_gets_a_gradient(name: str, images: tuple[Tensor, Tensor]) -> None:
    model = built(name, images)
    groups = model.groups()
    assert set(model.optimizers()) == set(groups)
    grouped = {id(p) for parameters in groups.values() for p in parameters}
    assert {id(p) for p in model.parameters()} == grouped, "a parameter in no group would never train"
    moved: set[int] = set()
    for _, update in passes(model, images):
        moved |= {id(p) for p in groups[update.group] if p.grad is not None and p.grad.abs().sum() > 0}
    silent = [n for n, p in model.named_parameters() if id(p) not in moved]
    assert not silent, f"no gradient ever reached {silent}"


@pytest.mark.parametrize("name", MODELS)
def test_losses_are_finite_scalars_and_metrics_are_detached(name: str, images: tuple[Tensor, Tensor]) -> None:
    seen = 0
    for _, update in passes(built(name, images), images):
        assert update.loss.shape == () and torch.isfinite(update.loss) and update.loss.requires_grad
        for metric, value in update.metrics.items():
            assert value.shape == () and torch.isfinite(value) and not value.requires_grad, metric
        seen += 1
    assert seen >= BUDGET // 8


@pytest.mark.parametrize("name", MODELS)
def test_gradient_mode_does_not_leak_from_updates(name: str, images: tuple[Tensor, Tensor]) -> None:
    for _ in passes(built(name, images), images):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("name", MODELS)
def test_what_follows_a_yield_is_idempotent(name: str, images: tuple[Tensor, Tensor]) -> None:
    """Slices share a process: the code after a yield runs once a slice. Doing it twice must change nothing."""
    model = built(name, images)
    source = batches(model, images, torch.float64)
    torch.manual_seed(0)
    first, second = (model.updates(source, Progress(0, 0, BUDGET)) for _ in range(2))
    groups = model.groups()
    optimizers = {g: make_optimizer(o, groups[g]) for g, o in model.optimizers().items()}
    while True:
        state = torch.get_rng_state()
        update = next(first, None)
        after_one = copy.deepcopy(dict(model.named_parameters()))
        torch.set_rng_state(state)
        again = next(second, None)
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(parameter, after_one[key], rtol=0, atol=1e-12)
        if update is None or again is None:
            assert update is None and again is None
            break
        assert update.group == again.group
        optimizers[update.group].zero_grad(set_to_none=True)
        update.loss.backward(inputs=groups[update.group])
        optimizers[update.group].step()


@pytest.mark.parametrize("name", MODELS)
def test_randomness_comes_from_the_default_generator(name: str, images: tuple[Tensor, Tensor]) -> None:
    """Equal seeds give equal training, whatever state other generators are in."""
    results = []
    for _ in range(2):
        model = built(name, images)
        for _ in passes(model, images):
            pass
        results.append(model.state_dict())
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_state_round_trip(name: str, images: tuple[Tensor, Tensor]) -> None:
    """A fresh model with the trained one's state is the trained one: nothing lives outside parameters and buffers."""
    model = built(name, images)
    for _ in passes(model, images):
        pass
    fresh = build(name, model.spec, **TOY_HYPER[name]).double()
    fresh.load_state_dict(model.state_dict())
    source = batches(model, images, torch.float64)
    torch.manual_seed(1)
    batch = next(source)
    answers = []
    for candidate in (model.eval(), fresh.eval()):
        torch.manual_seed(2)
        answers.append(candidate.validate(batch))
    assert answers[0].keys() == answers[1].keys()
    for key, value in answers[0].items():
        torch.testing.assert_close(answers[1][key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_capabilities_keep_their_shapes_and_spaces(name: str, images: tuple[Tensor, Tensor]) -> None:
    model = built(name, images, torch.float32).eval()
    space = model.spec.space
    x = space.encode(images[0][:5])
    assert any(isinstance(model, c) for c in (Samples, Scores, Encodes, Predicts)), (
        "a model must be able to do something"
    )
    before = copy.deepcopy(model.state_dict())
    if isinstance(model, Samples):
        torch.manual_seed(0)
        drawn = model.sample(5)
        assert drawn.shape == (5, *model.spec.shape) and torch.isfinite(drawn).all()
        if space.levels is not None:
            torch.testing.assert_close(drawn, (drawn * (space.levels - 1)).round() / (space.levels - 1))
        torch.manual_seed(0)
        torch.testing.assert_close(model.sample(5), drawn, rtol=0, atol=0)
    if isinstance(model, Scores):
        for estimator, likelihood in model.likelihoods().items():
            value = likelihood.log_prob(x)
            assert value.shape == (5,) and torch.isfinite(value).all(), estimator
            assert space.levels is None or likelihood.kind == "estimate" or (value <= 1e-6).all(), "p(x) <= 1"
    if isinstance(model, Encodes):
        code = model.encode(x)
        assert code.shape[0] == 5 and code.ndim == 2
        assert model.decode(code).shape == x.shape
    if isinstance(model, Predicts):
        context = x[:, :, : model.given()]
        torch.manual_seed(0)
        predicted = model.predict(context, 3)
        assert predicted.shape == (5, x.shape[1], 3, *x.shape[3:]) and torch.isfinite(predicted).all()
        torch.manual_seed(0)
        torch.testing.assert_close(model.predict(context, 3), predicted, rtol=0, atol=0)
        log_p = model.frame_log_probs(x)
        assert log_p.shape == (5, x.shape[2] - model.given()) and torch.isfinite(log_p).all()
    if isinstance(model, Completes):
        known = torch.rand_like(x) < 0.5
        filled = model.complete(x, known)
        assert torch.equal(filled[known], x[known])
    if isinstance(model, Infers):
        means, kl = model.latent_units(x)
        assert means.shape == kl.shape and means.shape[0] == 5 and means.ndim == 2
        assert torch.isfinite(means).all() and (kl >= -1e-5).all(), "a divergence is not negative"
    if isinstance(model, Denoises):
        corrupted = model.corrupt(x)
        assert corrupted.shape == model.denoise(corrupted).shape == x.shape
        assert not torch.equal(corrupted, x)
    if isinstance(model, Pictures):
        for picture in model.pictures().values():
            assert picture.ndim == 4 and picture.min() >= 0 and picture.max() <= 1
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), f"using the model changed {key}"


@pytest.mark.parametrize("name", MODELS)
def test_refuses_a_space_its_objective_is_not_meant_for(name: str) -> None:
    for kind, spec in toy_specs(name).items():
        if kind in entry(name).cls.spaces:
            build(name, spec, **TOY_HYPER[name])
        else:
            with pytest.raises(RecipeError, match=r"does not live in .* Allowed: "):
                build(name, spec, **TOY_HYPER[name])


def test_unknown_models_and_hyper_parameters_are_named() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'pixelcnn'"):
        build("pixelcn", SPEC["binary_dynamic"])
    with pytest.raises(RecipeError, match=r"hyper.latent: .* Did you mean 'latents'"):
        build("vae", SPEC["binary_dynamic"], latent=3)
