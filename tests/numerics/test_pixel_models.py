"""The autoregressive family, every member: normalised, causal to the last bit, and drawn alike by every sampler.

A new model gets all of these with its line in :mod:`tests.numerics.pixel_family`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from gen.inference.pixels import Canvas, ancestral, jacobi, naive
from gen.losses.heads import Head
from gen.pixel_model import PixelModel
from gen.registry import entry, list_models
from tests.numerics.pixel_family import FAMILY, Tiny, all_images, raster, some_images

ENUMERABLE = [(key, *each) for key, tiny in FAMILY.items() for each in tiny.enumerable]
LARGER = [(key, *each) for key, tiny in FAMILY.items() for each in tiny.larger]


def test_every_model_of_the_family_has_its_line() -> None:
    family = {name for name in list_models() if issubclass(entry(name).cls, PixelModel)}
    assert family == {tiny.name for tiny in FAMILY.values()}


@pytest.mark.parametrize(("key", "shape", "space"), ENUMERABLE)
@torch.no_grad()
def test_probabilities_of_all_images_sum_to_one(key: str, shape: Any, space: str) -> None:
    model, condition = FAMILY[key].model(shape, space), FAMILY[key].conditions(1)
    assert model.spec.space.levels is not None
    images = all_images(shape, model.spec.space.levels)
    log_p = model.log_prob(images, None if condition is None else condition.expand(len(images), *condition.shape[1:]))
    assert log_p.std() > 0.1
    assert abs(log_p.exp().sum() - 1) <= 1e-9


@pytest.mark.parametrize(("key", "shape", "space"), LARGER)
def test_no_value_informs_itself_or_those_before_it(key: str, shape: Any, space: str) -> None:
    """The gradient of a conditional with respect to every later value is exactly zero, and some earlier one's is not.

    What the network sees (x) and whose probability is asked for (value) are told apart, so that a value's own influence
    through the network shows.
    """
    tiny = FAMILY[key]
    model, order = tiny.model(shape, space), raster(shape)
    condition = tiny.conditions(4)
    x = some_images(shape, space, 4).requires_grad_()
    value = x.detach().clone().requires_grad_()
    log_p = model.head.log_prob(model.outputs(x, condition), value)
    informed = 0
    for place, (c, i, j) in enumerate(order):
        of_net, of_head = torch.autograd.grad(
            log_p[:, c, i, j].sum(), [x, value], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for c_later, i_later, j_later in order[place:]:
            assert (of_net[:, c_later, i_later, j_later] == 0).all(), ((c, i, j), (c_later, i_later, j_later))
        of_head[:, : c + 1, i, j] = 0  # the head may look at the pixel's earlier channels, and must at the value
        assert (of_head == 0).all()
        informed += bool((of_net != 0).any())
    assert informed >= len(order) - shape[0], "all but the first pixel should know something"


@pytest.mark.parametrize(("key", "shape", "space"), LARGER)
@torch.no_grad()
def test_every_sampler_draws_the_same_images(key: str, shape: Any, space: str) -> None:
    tiny = FAMILY[key]
    model, count = tiny.model(shape, space), 5
    condition, x = tiny.conditions(count), some_images(shape, space, count)

    def whole(x: Tensor, rows: Tensor) -> Tensor:
        return model.outputs(x, None if condition is None else condition[rows])

    for known in (torch.zeros_like(x).bool(), torch.rand_like(x) < 0.4):
        torch.manual_seed(2)
        canvas = Canvas.noisy(model.head, x, known, 0.8)
        expected = naive(whole, canvas)
        assert_same(model, jacobi(whole, canvas), expected)
        if (net := model.incremental(count, condition)) is not None:
            assert_same(model, ancestral(net, canvas), expected)
        torch.manual_seed(2)
        assert_same(model, model.draw(x, known, condition, 0.8), expected)
    assert expected.std() > 0.05


def assert_same(model: PixelModel, drawn: Tensor, expected: Tensor) -> None:
    """Levels are equal; real numbers may differ by what sums in another order differ by."""
    if model.spec.space.levels is None:
        torch.testing.assert_close(drawn, expected, rtol=1e-9, atol=1e-9)
    else:
        assert torch.equal(drawn, expected)


@dataclass
class Recording:
    """A head that remembers how probable what it draws is."""

    head: Head
    log_p: list[Tensor] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.head, name)

    def draw(self, outputs: Tensor, x: Tensor, channel: int, noise: Tensor, temperature: float = 1.0) -> Tensor:
        drawn = self.head.draw(outputs, x, channel, noise, temperature)
        pixel = x.clone()
        pixel[:, channel] = drawn
        self.log_p.append(self.head.log_prob(outputs[..., None, None], pixel[..., None, None])[:, channel, 0, 0])
        return drawn


@pytest.mark.parametrize(("key", "shape", "space"), LARGER)
@torch.no_grad()
def test_log_prob_is_the_sum_of_the_conditionals_used_while_sampling(key: str, shape: Any, space: str) -> None:
    tiny = FAMILY[key]
    model, count = tiny.model(shape, space), 5
    condition, blank = tiny.conditions(count), torch.zeros(count, *shape, dtype=torch.float64)
    head = Recording(model.head)
    canvas = Canvas.noisy(head, blank, blank.bool())
    if (net := model.incremental(count, condition)) is not None:
        drawn = ancestral(net, canvas)
    else:
        drawn = naive(lambda x, rows: model.outputs(x, condition), canvas)
    torch.testing.assert_close(sum(head.log_p), model.log_prob(drawn, condition), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("key", "shape", "space"), LARGER)
@torch.no_grad()
def test_completions_keep_the_known_and_never_read_the_unknown(key: str, shape: Any, space: str) -> None:
    tiny: Tiny = FAMILY[key]
    model, x = tiny.model(shape, space), some_images(shape, space, 6)
    condition, known = tiny.conditions(6), torch.rand(6, *shape) < 0.5
    torch.manual_seed(1)
    completed = model.draw(torch.where(known, x, torch.nan), known, condition, 1.0)
    assert torch.equal(completed[known], x[known])
    assert (completed[~known] != x[~known]).any()
    torch.manual_seed(1)
    assert torch.equal(model.draw(x, known, condition, 1.0), completed)
