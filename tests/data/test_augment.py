"""Batches are augmented as a loop over samples would do it, and images and targets stay together."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gen.data.augment import Augment
from gen.errors import RecipeError

TEXTS = ("flip", "shift(1)", "shift(2)", "shift(2, reflect)", "shift(3, reflect)")


def batch(*shape: int) -> Tensor:
    """Random pixels, none of them zero."""
    return torch.randint(1, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@lru_cache
def origins(text: str, height: int, width: int) -> Tensor:
    """Everything a step may do, pixel by pixel: which pixel comes where, int64 (K, H, W), from 1; 0 is none."""
    places = 1 + torch.arange(height * width).view(height, width)
    if text == "flip":
        return torch.stack([places, places.flip(-1)])
    n, reflect = int(text[6]), "reflect" in text

    def origin(y: int, x: int) -> int:
        if reflect:
            y, x = (-p if p < 0 else 2 * last - p if p > last else p for p, last in ((y, height - 1), (x, width - 1)))
        return int(places[y, x]) if 0 <= y < height and 0 <= x < width else 0

    shifts = [(down, right) for down in range(-n, n + 1) for right in range(-n, n + 1)]
    return torch.tensor([[[origin(y + d, x + r) for x in range(width)] for y in range(height)] for d, r in shifts])


def candidates(text: str, image: Tensor) -> Tensor:
    """Everything a step may make of one image (..., H, W), (K, ..., H, W)."""
    flat = F.pad(image.flatten(-2), (1, 0))
    return flat[..., origins(text, *image.shape[-2:])].movedim(-3, 0)


def which(text: str, image: Tensor, result: Tensor) -> int:
    """The number of the one candidate that a result is."""
    (found,) = (candidates(text, image) == result).flatten(1).all(1).nonzero()
    return int(found)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("shape", [(40, 3, 5, 7), (40, 1, 6, 6), (40, 2, 3, 7, 5)])
def test_every_sample_is_what_a_loop_would_make_of_it(text, shape) -> None:
    """Also a clip: one draw for all of its frames."""
    images = batch(*shape)
    result, none = Augment.parse([text])(images)
    drawn = [which(text, image, changed) for image, changed in zip(images, result, strict=True)]
    assert len(set(drawn)) > 1, "all samples changed alike"
    assert (result.shape, result.dtype, none) == (images.shape, torch.uint8, None)


@pytest.mark.parametrize("text", TEXTS)
def test_targets_change_with_their_images(text) -> None:
    images, targets = batch(64, 3, 8, 8), batch(64, 1, 8, 8).flip(0)
    changed, together = Augment.parse([text])(images, targets)
    for k in range(64):
        assert which(text, images[k], changed[k]) == which(text, targets[k], together[k])


@given(st.lists(st.sampled_from(TEXTS), max_size=4), st.integers(0, 2**60))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_same_seed_gives_the_same_batch(texts, seed) -> None:
    augment, images = Augment.parse(texts), batch(8, 3, 6, 6)
    results = []
    for targets in (None, images[:, :1], images):
        torch.manual_seed(seed)
        results.append(augment(images, targets))
    assert all(torch.equal(changed, results[0][0]) for changed, _ in results), "targets took draws of their own"
    assert torch.equal(results[1][1], results[0][0][:, :1]) and torch.equal(results[2][1], results[0][0])
    assert torch.equal(images, batch(8, 3, 6, 6)), "the batch itself was changed"


def test_steps_follow_one_another() -> None:
    images = batch(32, 1, 6, 6)
    torch.manual_seed(3)
    together, _ = Augment.parse(["flip", "shift(2)"])(images)
    torch.manual_seed(3)
    flipped, _ = Augment.parse(["flip"])(images)
    shifted, _ = Augment.parse(["shift(2)"])(flipped)
    assert torch.equal(together, shifted)


@pytest.mark.parametrize(("text", "quantile"), [("flip", 10.8), ("shift(1)", 26.1), ("shift(2, reflect)", 51.2)])
def test_every_change_is_equally_likely(text, quantile) -> None:
    """Chi-square with 1, 8 and 24 degrees of freedom at p = 0.001."""
    torch.manual_seed(0)
    image = batch(1, 1, 5, 5)
    changed, _ = Augment.parse([text])(image.expand(20_000, -1, -1, -1))
    kinds = candidates(text, image[0])
    counts = Counter(row.numpy().tobytes() for row in changed)
    expected = 20_000 / len(kinds)
    assert counts.keys() == {kind.numpy().tobytes() for kind in kinds}
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < quantile


def test_nothing_declared_changes_nothing() -> None:
    images, targets = batch(4, 3, 5, 5), batch(4, 1, 5, 5)
    before = torch.get_rng_state()
    same, together = Augment.parse([])(images, targets)
    assert same is images and together is targets and torch.equal(torch.get_rng_state(), before)


def test_what_is_written_is_what_is_parsed() -> None:
    assert [str(step) for step in Augment.parse(TEXTS).steps] == list(TEXTS)
    assert Augment.parse([" shift(2,reflect)"]) == Augment.parse(["shift(2, reflect)"])


@pytest.mark.parametrize("text", ["", "flop", "flip(2)", "shift", "shift()", "shift(0)", "shift(-1)", "shift(2, edge)"])
def test_what_is_no_augmentation_is_refused(text) -> None:
    with pytest.raises(RecipeError, match=r"augment: found '.*allowed: flip, shift\(N\)"):
        Augment.parse(["flip", text])


def test_shifts_need_room_and_targets_of_the_same_size() -> None:
    with pytest.raises(RecipeError, match=r"shift\(5\) for images of 5 x 7"):
        Augment.parse(["shift(5)"])(batch(2, 1, 5, 7))
    with pytest.raises(RecipeError, match="targets of 10 x 14 with images of 5 x 7"):
        Augment.parse(["shift(2)"])(batch(2, 1, 5, 7), batch(2, 1, 10, 14))
    _, flipped = Augment.parse(["flip"])(batch(2, 1, 5, 7), batch(2, 1, 10, 14))
    assert flipped.shape == (2, 1, 10, 14)
