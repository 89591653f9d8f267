"""The spatial LSTM against a double loop over pixels, and what of an image reaches a pixel."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.nets.spatial_lstm import SpatialLSTM, Walk, skew, unskew
from gen.registry import build
from tests.numerics.pixel_family import some_images

SIZES = [(4, 6), (6, 4), (5, 5), (1, 4), (4, 1)]


def by_pixel(layer: SpatialLSTM, x: Tensor) -> Tensor:
    """The equations of the paper, one pixel after the other: (H, W, B, D) -> (H, W, B, h)."""
    height, width, batch, _ = x.shape
    n = layer.hidden
    W = torch.cat([layer.input.weight, layer.state.T], 1)  # of (x, h_left, h_above)
    h: dict[tuple[int, int], Tensor] = {}
    c: dict[tuple[int, int], Tensor] = {}
    outside = x.new_zeros(batch, n)
    for i, j in product(range(height), range(width)):
        left, above = (i, j - 1), (i - 1, j)
        seen = torch.cat([x[i, j], h.get(left, outside), h.get(above, outside)], 1)
        g, o, w, f_row, f_col = (seen @ W.T + layer.input.bias).split(n, 1)
        c[i, j] = g.tanh() * w.sigmoid()
        c[i, j] = c[i, j] + c.get(left, outside) * f_col.sigmoid() + c.get(above, outside) * f_row.sigmoid()
        h[i, j] = (c[i, j] * o.sigmoid()).tanh()
    return torch.stack([torch.stack([h[i, j] for j in range(width)]) for i in range(height)])


def layer_and_input(height: int, width: int) -> tuple[SpatialLSTM, Tensor]:
    torch.manual_seed(0)
    layer = SpatialLSTM(3, 5).double()
    torch.nn.init.normal_(layer.input.bias)
    return layer, torch.randn(height, width, 2, 3, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_fronts_equal_a_loop_over_pixels(height: int, width: int) -> None:
    layer, x = layer_and_input(height, width)
    wrt = [x, *layer.parameters()]
    found, expected = layer(x), by_pixel(layer, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    upstream = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, wrt, upstream), torch.autograd.grad(expected, wrt, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), SIZES)
@torch.no_grad()
def test_a_walk_equals_the_fronts_and_may_repeat_a_pixel(height: int, width: int) -> None:
    layer, x = layer_and_input(height, width)
    expected, walk = layer(x), Walk(layer, 2, width)
    for i, j in product(range(height), range(width)):
        walk(torch.randn_like(x[i, j]), i, j)
        torch.testing.assert_close(walk(x[i, j], i, j), expected[i, j], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_skewed_image_has_its_antidiagonals_as_columns(height: int, width: int) -> None:
    x = torch.randn(height, width, 2)
    skewed = skew(x)
    assert skewed.shape == (height, height + width - 1, 2)
    for i, t in product(range(height), range(height + width - 1)):
        inside = 0 <= t - i < width
        assert torch.equal(skewed[i, t], x[i, t - i] if inside else torch.zeros(2))
    assert torch.equal(unskew(skewed), x)
    assert torch.equal(unskew(torch.where(skewed == 0, torch.nan, skewed)), x), "corners are left behind"


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("neighbourhood", [3, 5])
def test_the_field_is_all_that_is_above_and_left_with_the_neighbourhood_around_it(
    layers: int, neighbourhood: int
) -> None:
    """Nothing is lost above, to the left, or in between: a pixel sees every (a, b) with a < i and b <= j + k // 2, and
    its own row up to itself. Without a layer, it sees its neighbourhood."""
    height, width, half = 7, 8, neighbourhood // 2
    torch.manual_seed(0)
    model = build(
        "spatial_lstm",
        DataSpec((1, height, width), 0, Space.parse("dequantized")),
        hidden=4,
        layers=layers,
        neighbourhood=neighbourhood,
    ).double()
    model.initialize(some_images((1, height, width), "dequantized", 50))
    x = some_images((1, height, width), "dequantized", 3).requires_grad_()
    outputs = model.outputs(x)
    for i, j in product(range(height), range(width)):
        (gradient,) = torch.autograd.grad(outputs[:, :, i, j].square().sum(), x, retain_graph=True)
        a, b = torch.arange(height)[:, None], torch.arange(width)
        field = ((a < i) & (b <= j + half)) | ((a == i) & (b < j))
        if not layers:
            field &= (a >= i - half) & (b >= j - half)
        assert torch.equal((gradient != 0).any(0)[0], field), (i, j)


@torch.no_grad()
def test_the_preconditioner_whitens_and_predicts() -> None:
    """What linear regression explains is explained before training, and the rest has a deviation of 1."""
    torch.manual_seed(0)
    x = 0.3 + 0.1 * torch.randn(400, 1, 9, 9, dtype=torch.float64)
    for i, j in product(range(9), range(9)):
        x[:, :, i, j] += 0.4 * (x[:, :, i - 1, j] - 0.3 if i else 0) + 0.5 * (x[:, :, i, j - 1] - 0.3 if j else 0)
    model = build("spatial_lstm", DataSpec((1, 9, 9), 0, Space.parse("dequantized"))).double()
    model.initialize(x)
    white = (model.neighbours(x) @ model.whitening).flatten(0, 2)
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(12).double(), rtol=0, atol=0.05)
    # The prediction depends on the neighbours to the left and above as they do on it, and on no other.
    weights = model.whitening @ model.prediction
    expected = torch.zeros(12).double()
    expected[7], expected[11] = 0.4, 0.5  # rows of five above, then two to the left
    torch.testing.assert_close(weights, expected, rtol=0, atol=0.03)
    assert abs(model.deviation - 0.1) < 0.005


def test_shapes_and_spaces_it_is_not_for_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"images of one channel, found 3\. Use"):
        build("spatial_lstm", DataSpec((3, 4, 4), 0, Space.parse("dequantized")))
    grey = DataSpec((1, 4, 4), 0, Space.parse("dequantized"))
    with pytest.raises(RecipeError, match=r"hyper\.likelihood: found 'softmax', but 'dequantized' is continuous"):
        build("spatial_lstm", grey, likelihood="softmax")
    with pytest.raises(RecipeError, match=r"hyper\.neighbourhood: found 4, allowed odd numbers from 3\. Use 5\."):
        build("spatial_lstm", grey, neighbourhood=4)
