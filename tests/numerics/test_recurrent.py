"""Recurrences over images: front by front as pixel by pixel, and the fields that the figures of the paper show."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gen.errors import RecipeError
from gen.nets.diagonals import DiagonalLSTM
from gen.nets.recurrent import RecurrentBlock
from gen.nets.rows import RowLSTM
from gen.pixel_model import PixelModel
from gen.registry import build
from tests.numerics.pixel_family import DataSpec, Space


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


LAYERS = {
    "row": lambda colours: RowLSTM(6, colours),
    "diagonal": lambda colours: DiagonalLSTM(6, colours, 1),
    "both diagonals": lambda colours: DiagonalLSTM(6, colours, 2),
}


def randomised(layer: RecurrentBlock) -> RecurrentBlock:
    """In float64, with an initial state and biases that are not 0."""
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.5)
    return layer


def pixel_by_pixel(layer: RecurrentBlock, x: Tensor) -> Tensor:
    """The layer by its definition (equation 3 of the paper): over rows and columns, each pixel an LSTM's step."""
    _, _, height, width = x.shape
    maps = []
    for d in range(len(layer.input)):
        image = x.flip(3) if d else x
        states: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

        def state(i: int, j: int, d: int = d, states: Any = states) -> tuple[Tensor, Tensor]:
            outside = tuple(each.expand(len(x), -1) for each in layer.initial[d])
            return states.get((i, j), outside)

        for i, j in product(range(height), range(width)):
            own = image[:, :, i, j]
            left = image[:, :, i, j - 1] if j else torch.zeros_like(own)
            seen = torch.cat([left, own], 1) if isinstance(layer, RowLSTM) else own
            gates = seen @ (layer.input[d] * layer.mask) + layer.bias[d]
            for (a, b), weight in zip(layer.taps, layer.state[d], strict=True):
                gates = gates + state(i + a, j + b)[0] @ weight
            o, f, k, g = gates.chunk(4, 1)
            (a, b), *_ = layer.taps
            cell = f.sigmoid() * state(i + a, j + b)[1] + k.sigmoid() * g.tanh()
            states[i, j] = o.sigmoid() * cell.tanh(), cell
        hidden = torch.stack([states[i, j][0] for i, j in product(range(height), range(width))], 2)
        hidden = hidden.unflatten(2, (height, width))
        maps.append(F.pad(hidden.flip(3), (0, 0, 1, -1)) if d else hidden)
    return x + layer.up(sum(maps))


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("size", [(4, 5), (5, 3), (1, 4), (4, 1)])
def test_front_by_front_is_pixel_by_pixel(kind: str, colours: int, size: tuple[int, int]) -> None:
    """Values and all gradients, to 1e-10; those of the fronts are written out by hand."""
    layer = randomised(LAYERS[kind](colours))
    x = torch.randn(3, 12, *size).double().requires_grad_()
    weights = torch.randn(3, 12, *size).double()
    found, expected = layer(x), pixel_by_pixel(layer, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    wanted = [x, *layer.parameters()]
    by_fronts, by_pixels = (torch.autograd.grad((out * weights).sum(), wanted) for out in (found, expected))
    for ours, theirs in zip(by_fronts, by_pixels, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def field(model: PixelModel, shape: tuple[int, int, int], pixel: tuple[int, int]) -> set[tuple[int, int]]:
    """The pixels that inform a pixel's conditional: the gradient of its log-probability is not 0 in some image."""
    i, j = pixel
    x = torch.rand(64, *shape).double().requires_grad_()
    log_p = model.head.log_prob(model.outputs(x), x.detach().round())
    (gradient,) = torch.autograd.grad(log_p[:, :, i, j].sum(), x)
    return {(r, c) for r, c in gradient.abs().amax((0, 1)).nonzero().tolist()}


def made(name: str, shape: tuple[int, int, int], **hyper: Any) -> PixelModel:
    """In float64, with weights that let every path show."""
    model = build(name, DataSpec(shape, 0, Space.parse("binary_fixed")), **hyper).double()
    assert isinstance(model, PixelModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


SHAPE, PIXEL = (1, 7, 9), (5, 4)
NET = {"features": 8, "kernel": 3, "head": 16}
BEFORE = {(r, c) for r, c in product(range(7), range(9)) if (r, c) < PIXEL}


def test_a_row_lstm_sees_a_triangle() -> None:
    """One column more to each side with every row upwards, from what the first convolution and the layer reach."""
    found = field(made("row_lstm", SHAPE, layers=1, **NET), SHAPE, PIXEL)
    # The first convolution takes a pixel 1 up and 1 to each side, and the layer 1 to the left: 2 in the own row.
    expected = {(5, 3), (5, 2)}
    for up in range(1, 6):
        reach = range(PIXEL[1] - up - 2, PIXEL[1] + up + 1)
        expected |= {(PIXEL[0] - up, c) for c in reach if 0 <= c < 9}
    assert found == expected


@pytest.mark.parametrize("layers", [1, 2])
def test_a_diagonal_bilstm_sees_all_that_was_but_the_end_of_the_row_above(layers: int) -> None:
    """What the second LSTM knows of row i - 1 it knows from features that leave out the value of their own pixel."""
    assert field(made("diagonal_bilstm", SHAPE, layers=layers, **NET), SHAPE, PIXEL) == BEFORE - {(4, 8)}
    near = (5, 7)  # from here the first convolution reaches it
    assert (4, 8) in field(made("diagonal_bilstm", SHAPE, layers=layers, **NET), SHAPE, near)


def test_one_diagonal_sees_above_and_to_the_left() -> None:
    """And as far to the right as the first convolution, which looks one row up and one column to the right."""
    found = field(made("diagonal_bilstm", SHAPE, layers=1, directions=1, **NET), SHAPE, PIXEL)
    assert found == {(r, c) for r, c in BEFORE if c <= PIXEL[1] or (c == PIXEL[1] + 1 and r < PIXEL[0])}


def test_a_plain_lstm_sees_all_that_was() -> None:
    assert field(made("pixel_lstm", SHAPE, hidden=8), SHAPE, PIXEL) == BEFORE


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("row_lstm", {"features": 0}, r"hyper\.features: found 0, allowed positive multiples"),
        ("row_lstm", {"kernel": 4}, r"hyper\.kernel: found 4, allowed odd numbers"),
        ("diagonal_bilstm", {"layers": 0}, r"hyper\.layers: found 0"),
        ("diagonal_bilstm", {"directions": 3}, r"hyper\.directions: found 3, allowed 1 and 2"),
        ("pixel_lstm", {"hidden": 0}, r"hyper\.hidden: found 0"),
    ],
)
def test_sizes_that_make_no_net_are_refused(name: str, hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(name, DataSpec(SHAPE, 0, Space.parse("binary_fixed")), **hyper)
