"""Multi-scale PixelRNN: a chain rule in its own order, the small image first."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.pixels import Canvas, jacobi
from gen.models.autoregressive.multiscale_pixelrnn import MultiScalePixelRNN
from tests.numerics.pixel_family import all_images, some_images

CASES = [((1, 5, 6), "binary_fixed", 2), ((3, 4, 5), "levels(3)", 2), ((1, 7, 5), "levels(4)", 3)]


def tiny(shape: tuple[int, int, int], space: str, step: int) -> MultiScalePixelRNN:
    """In float64, with weights so large that no conditional is near uniform."""
    torch.manual_seed(0)
    spec = DataSpec(shape, 0, Space.parse(space))
    model = MultiScalePixelRNN(spec, step=step, features=6, layers=3, small_layers=3, kernel=3, head=6, maps=4).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(torch.randn_like(parameter), alpha=0.2)
    return model


def order(shape: tuple[int, int, int], step: int) -> list[tuple[int, int, int]]:
    """Indices (c, i, j) in the order of the chain rule: the small image in raster order, then the rest."""
    channels, height, width = shape
    pixels = sorted(product(range(height), range(width)), key=lambda at: (at[0] % step > 0 or at[1] % step > 0, at))
    return [(c, i, j) for i, j in pixels for c in range(channels)]


@torch.no_grad()
def in_order(model: MultiScalePixelRNN, canvas: Canvas) -> Tensor:
    """The definition: the whole network for every value."""
    x = torch.where(canvas.known, canvas.x, torch.zeros_like(canvas.x))
    drawn = torch.zeros_like(x)
    for c, i, j in order(model.spec.shape, model.step):
        outputs = model.outputs(drawn)[:, :, i, j]
        value = model.head.draw(outputs, drawn[:, :, i, j], c, canvas.noise[:, c, :, i, j], canvas.temperature)
        drawn[:, c, i, j] = torch.where(canvas.known[:, c, i, j], x[:, c, i, j], value)
    return drawn


@pytest.mark.parametrize(("shape", "space", "step"), CASES)
def test_no_value_informs_itself_or_those_before_it_in_the_models_order(shape, space, step):
    model, indices = tiny(shape, space, step), order(shape, step)
    x = some_images(shape, space, 3).requires_grad_()
    value = x.detach().clone()
    log_p, informed = model.head.log_prob(model.outputs(x), value), 0
    for place, (c, i, j) in enumerate(indices):
        (gradient,) = torch.autograd.grad(log_p[:, c, i, j].sum(), x, retain_graph=True)
        for later in indices[place:]:
            assert (gradient[:, later[0], later[1], later[2]] == 0).all(), ((c, i, j), later)
        informed += bool((gradient != 0).any())
    assert informed >= len(indices) - shape[0]


def test_the_rest_knows_small_pixels_below_and_to_the_right():
    model = tiny((1, 5, 6), "binary_fixed", 2)
    x = some_images((1, 5, 6), "binary_fixed", 3).requires_grad_()
    (gradient,) = torch.autograd.grad(model.outputs(x)[:, :, 1, 1].sum(), x)
    assert gradient[:, 0, 2, 4].abs().min() > 0


@torch.no_grad()
def test_the_marginal_of_the_small_image_is_its_own_networks():
    model, images = tiny((1, 3, 4), "binary_fixed", 2), all_images((1, 3, 4), 2)
    p = model.log_prob(images).exp()
    assert abs(p.sum() - 1) <= 1e-9
    small = model.subsampled(images).flatten(1)
    index = (small.long() * 2 ** torch.arange(4)).sum(1)
    marginal = torch.zeros(16, dtype=torch.float64).index_add(0, index, p)
    first = torch.stack([images[index == k][0] for k in range(16)])
    expected = model.subsampled(model.log_probs(first)).flatten(1).sum(1).exp()
    assert expected.std() > 0.01
    torch.testing.assert_close(marginal, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("shape", "space", "step"), CASES)
@torch.no_grad()
def test_every_sampler_draws_the_same_images(shape, space, step):
    model, x = tiny(shape, space, step), some_images(shape, space, 5)
    for known in (torch.zeros_like(x).bool(), torch.rand_like(x) < 0.4):
        torch.manual_seed(2)
        canvas = Canvas.noisy(model.head, x, known, 0.8)
        expected = in_order(model, canvas)
        torch.manual_seed(2)
        assert torch.equal(model.draw(x, known, None, 0.8), expected)
        assert torch.equal(jacobi(lambda x, rows: model.outputs(x), canvas), expected)
        torch.manual_seed(2)
        assert torch.equal(model.draw(torch.where(known, x, torch.nan), known, None, 0.8), expected)
        assert torch.equal(expected[known], x[known])
    assert expected.std() > 0.05


@pytest.mark.parametrize("step", [1, 6])
def test_a_small_image_that_is_none_is_refused(step):
    with pytest.raises(RecipeError, match=f"hyper.step: found {step}, allowed from 2 to 5 "):
        tiny((1, 5, 6), "binary_fixed", step)
