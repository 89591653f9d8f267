"""Video pixel network: causal in time, rows, columns and colours, normalised, and drawn alike by every sampler."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.pixels import Canvas, naive
from gen.model import Predicts
from gen.models.autoregressive.video_pixel_network import VideoPixelNetwork
from gen.nets.video import ConvLSTM
from gen.registry import build
from tests.numerics.pixel_family import all_images

GREY, COLOUR = ((1, 3, 4), "binary_fixed"), ((3, 2, 3), "levels(3)")
KINDS = ("dependent", "independent")


def small(shape: tuple[int, int, int], space: str, frames: int, **hyper: Any) -> VideoPixelNetwork:
    """In float64, with weights so large that no conditional is near uniform."""
    torch.manual_seed(0)
    spec = DataSpec(shape, 0, Space.parse(space), frames)
    sizes = {"features": 6, "encoder": 1, "states": 4, "decoder": 1}
    model = build("video_pixel_network", spec, **{**sizes, **hyper}).double().eval()
    assert isinstance(model, VideoPixelNetwork) and isinstance(model, Predicts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(torch.randn_like(parameter), alpha=0.2)
    return model


def videos(shape: tuple[int, int, int], space: str, frames: int, count: int) -> Tensor:
    """Random ones, float64."""
    channels, height, width = shape
    levels = Space.parse(space).levels
    assert levels is not None
    return torch.randint(levels, (count, channels, frames, height, width)).double() / (levels - 1)


@pytest.mark.parametrize("pixels", KINDS)
@pytest.mark.parametrize(("shape", "space"), [GREY, COLOUR])
def test_no_value_informs_itself_or_those_before_it(shape: tuple[int, int, int], space: str, pixels: str) -> None:
    """The gradient of a conditional with respect to every later value is exactly zero, in all frames to come.

    What the network sees (x) and whose probability is asked for (value) are told apart, so that a value's own influence
    through the network shows.
    """
    frames, (channels, height, width) = 4, shape
    model = small(shape, space, frames, context=2, pixels=pixels)
    x = videos(shape, space, frames, 3).requires_grad_()
    seen = {"past": False, "frame": False}
    past, _ = model.past(x[:, :, :-1])
    value = x.detach()[:, :, 2:].transpose(1, 2).flatten(0, 1)
    outputs = model.decode(x[:, :, 2:].transpose(1, 2).flatten(0, 1), past[:, 1:].flatten(0, 1))
    log_p = model.head.log_prob(outputs, value).unflatten(0, (3, 2)).transpose(1, 2)  # (B, C, 2, H, W)
    order = [(t, i, j, c) for t, i, j, c in product(range(2), range(height), range(width), range(channels))]
    for place, (t, i, j, c) in enumerate(order):
        (gradient,) = torch.autograd.grad(log_p[:, c, t, i, j].sum(), x, retain_graph=True)
        for later_t, later_i, later_j, later_c in order[place:]:
            assert (gradient[:, later_c, later_t + 2, later_i, later_j] == 0).all()
        seen["past"] |= bool((gradient[:, :, :2] != 0).any())
        within = bool((gradient[:, :, t + 2] != 0).any())
        assert not within or pixels == "dependent", "the baseline's pixels know nothing of their own frame"
        seen["frame"] |= within
        if t:
            assert (gradient[:, :, 2] != 0).any(), "a frame informs the next one"
    assert seen == {"past": True, "frame": pixels == "dependent"}


@pytest.mark.parametrize("pixels", KINDS)
@torch.no_grad()
def test_probabilities_of_all_continuations_sum_to_one(pixels: str) -> None:
    shape, space = (1, 2, 2), "binary_fixed"
    model = small(shape, space, 3, context=1, pixels=pixels)
    follow = all_images((1, 2, 4), 2).view(256, 1, 2, 2, 2)
    for first in videos(shape, space, 1, 3):
        log_p = model.frame_log_probs(torch.cat([first.expand(256, -1, -1, -1, -1), follow], 2))
        assert log_p.shape == (256, 2) and log_p.std() > 0.1
        assert abs(log_p.sum(1).exp().sum() - 1) <= 1e-9
    colours = small((3, 1, 2), "levels(2)", 2, context=1, pixels=pixels)
    follow = all_images((3, 1, 2), 2)[:, :, None]
    first = videos((3, 1, 2), "levels(2)", 1, 1).expand(len(follow), -1, -1, -1, -1)
    assert abs(colours.frame_log_probs(torch.cat([first, follow], 2)).exp().sum() - 1) <= 1e-9


@pytest.mark.parametrize("pixels", KINDS)
@pytest.mark.parametrize(("shape", "space"), [GREY, COLOUR])
@torch.no_grad()
def test_predictions_are_what_the_naive_sampler_draws(shape: tuple[int, int, int], space: str, pixels: str) -> None:
    """Pixel by pixel, with the whole network on the whole video for every value."""
    model, context = small(shape, space, 5, context=2, pixels=pixels), videos(shape, space, 2, 4)
    torch.manual_seed(3)
    predicted = model.predict(context, 3)
    torch.manual_seed(3)
    expected = context
    for _ in range(3):
        before = expected
        blank = torch.zeros_like(before[:, :, 0])

        def outputs(x: Tensor, rows: Tensor, before: Tensor = before) -> Tensor:
            past, _ = model.past(before)
            return model.decode(x, past[:, -1])

        drawn = naive(outputs, Canvas.noisy(model.head, blank, blank.bool()))
        expected = torch.cat([before, drawn[:, :, None]], 2)
    assert torch.equal(predicted, expected[:, :, 2:])
    assert predicted.std() > 0.05


@torch.no_grad()
def test_the_lstm_goes_on_from_its_state() -> None:
    """In one go, frame by frame, and by the equations at one pixel, whose neighbours are padding."""
    torch.manual_seed(0)
    lstm, x = ConvLSTM(3, 2).double(), torch.randn(2, 4, 3, 5, 6).double()
    whole, last = lstm(x)
    state, said = None, []
    for frame in x.split(1, 1):
        out, state = lstm(frame, state)
        said.append(out)
    torch.testing.assert_close(torch.cat(said, 1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)

    x = torch.randn(1, 3, 3, 1, 1).double()
    whole, _ = lstm(x)
    w_x, w_h, bias = lstm.from_input.weight[:, :, 1, 1], lstm.from_state.weight[:, :, 1, 1], lstm.from_input.bias
    h = c = torch.zeros(2).double()
    for t in range(3):
        i, f, o, g = (w_x @ x[0, t, :, 0, 0] + w_h @ h + bias).view(4, 2)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(whole[0, t, :, 0, 0], h, rtol=0, atol=1e-12)


def test_what_cannot_be_is_named() -> None:
    for hyper, frames, message in (
        ({}, None, r"dataset: found images; .* needs videos"),
        ({"context": 4}, 4, r"hyper\.context: found 4 of the 4 frames of a video, allowed 1 to 3"),
        ({"features": 4}, 8, r"hyper\.features: found 4, allowed positive multiples of the image's 3 channels. Use 6"),
        ({"states": 0}, 8, r"hyper\.states: found 0, allowed 1 and more"),
    ):
        with pytest.raises(RecipeError, match=message):
            build("video_pixel_network", DataSpec((3, 4, 4), 0, Space.parse("levels(2)"), frames), **hyper)
