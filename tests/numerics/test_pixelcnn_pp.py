"""PixelCNN++: two streams that see all before a pixel, at any size; how layers start; pieces that equal the whole."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.pixels import Canvas, ancestral, naive
from gen.losses.heads import Softmax
from gen.losses.mixtures import LogisticMixture
from gen.models.autoregressive.pixelcnn_pp import PixelCNNpp
from gen.nets.shifted import NormedConv2d, TwoStreams
from gen.nets.shifted_steps import StreamsByPixel


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def model(shape: tuple[int, int, int] = (1, 6, 6), space: str = "levels(8)", **hyper: Any) -> PixelCNNpp:
    """Initialised by random images, in float64."""
    spec = DataSpec(shape, 0, Space.parse(space))
    made = PixelCNNpp(spec, **{"features": 4, "scales": 2, "components": 2, **hyper}).double()
    made.initialize(torch.rand(20, *shape, dtype=torch.float64))
    return made


def streams(scales: int, resnets: int = 1, channels: int = 2) -> TwoStreams:
    net = TwoStreams(channels, 5, features=4, resnets=resnets, scales=scales, dropout=0.0).double()
    net.initialize(torch.randn(20, channels, 9, 9, dtype=torch.float64))
    return net


@pytest.mark.parametrize(
    ("height", "width", "scales"), [(1, 1, 1), (4, 4, 3), (5, 7, 3), (7, 6, 2), (3, 5, 1), (9, 4, 3)]
)
@torch.no_grad()
def test_pieces_equal_the_whole_at_every_size(height, width, scales):
    net, x = streams(scales, resnets=2), torch.randn(3, 2, height, width, dtype=torch.float64)
    expected, steps = net(x), StreamsByPixel(net, torch.zeros_like(x), lambda x: x)
    assert expected.shape == (3, 5, height, width)
    for i, j in product(range(height), range(width)):
        for values in (torch.randn(3, 2, dtype=torch.float64), x[:, :, i, j]):  # what is written last counts
            torch.testing.assert_close(steps.read(i, j), expected[:, :, i, j], rtol=1e-11, atol=1e-11)
            steps.write(i, j, values)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_a_pixel_sees_everything_before_it_and_nothing_else(scales):
    """No blind spot: with scales enough, the last pixel's outputs depend on every pixel before it."""
    net, x = streams(scales, resnets=2), torch.randn(4, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    for i, j in ((7, 7), (5, 2), (4, 4)):
        (gradient,) = torch.autograd.grad(net(x)[:, :, i, j].sum(), x)
        seen = (gradient != 0).any(0).any(0)
        before = torch.arange(64).view(8, 8) < 8 * i + j
        assert not seen[~before].any()
        if scales > 1:
            assert seen[before].all()


def test_weights_are_normalised():
    conv = NormedConv2d(3, 5, (2, 3))
    torch.testing.assert_close(conv.kernel(), conv.weight)  # as they were drawn
    with torch.no_grad():
        conv.weight.mul_(7.0)
        conv.gain.copy_(torch.arange(1.0, 6.0).view(5, 1, 1, 1))
    torch.testing.assert_close(conv.kernel().flatten(1).norm(dim=1), torch.arange(1.0, 6.0))
    torch.testing.assert_close(F.cosine_similarity(conv.kernel().flatten(1), conv.weight.flatten(1)), torch.ones(5))


def test_the_first_images_set_mean_and_deviation_of_every_layer():
    net = TwoStreams(1, 4, features=6, resnets=2, scales=2, dropout=0.0).double()
    x = torch.randn(10, 1, 8, 8, dtype=torch.float64)
    net.initialize(x)
    seen = []

    def look(layer: nn.Module, inputs: Any, features: torch.Tensor) -> None:
        deviation, mean = torch.std_mean(features, (0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-9)
        torch.testing.assert_close(deviation, torch.full_like(mean, layer.start), rtol=1e-9, atol=0)  # type: ignore[arg-type]
        seen.append(layer)

    convs = [each for each in net.modules() if isinstance(each, NormedConv2d)]
    for conv in convs:
        conv.register_forward_hook(look)
    net(x)
    assert len(seen) == len(convs) and {conv.start for conv in convs} == {0.1, 1.0}


def test_what_does_not_vary_is_not_blown_up():
    net = streams(2)
    net.initialize(torch.zeros(4, 2, 8, 8, dtype=torch.float64))
    assert all(p.isfinite().all() for p in net.parameters())
    assert net(torch.randn(4, 2, 8, 8, dtype=torch.float64)).abs().max() < 1e4


@torch.no_grad()
def test_features_are_dropped_in_training_only():
    made, x = model(dropout=0.5), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    made.train()
    assert not torch.equal(made.outputs(x), made.outputs(x))
    made.eval()
    assert torch.equal(made.outputs(x), made.outputs(x))


@torch.no_grad()
def test_images_drawn_from_pieces_are_those_of_the_naive_loop_at_several_scales():
    made = model((3, 9, 7), "levels(32)", scales=3, resnets=2).eval()
    blank = torch.zeros(6, 3, 9, 7, dtype=torch.float64)
    canvas = Canvas.noisy(made.head, blank, blank.bool())
    net = made.incremental(6)
    assert torch.equal(ancestral(net, canvas), naive(lambda x, rows: made.outputs(x), canvas))


def test_bits_have_one_probability_and_all_else_a_mixture():
    assert model(space="binary_fixed").head == Softmax(1, 2)
    assert model((3, 6, 6), "levels(2)").head == LogisticMixture(3, 2, 2)
    assert model(space="levels(8)", components=7).head == LogisticMixture(1, 8, 7)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"scales": 4}, r"hyper.scales: found 4, .* 2 halvings\. Use 3"),
        ({"dropout": 1.0}, "hyper.dropout: found 1.0"),
        ({"components": 0}, "hyper.components: found 0"),
        ({"resnets": 0}, "hyper.resnets: found 0"),
    ],
)
def test_what_is_not_possible_is_refused(hyper, message):
    with pytest.raises(RecipeError, match=message):
        model(**hyper)
