"""Digits with a colour, a size and a place, and a caption that says what is seen: text to image in its smallest form.

A digit is cut out, scaled, tinted and put somewhere on a black canvas. Everything else is measured from the finished
picture, never copied from what was asked of the painter: where its ink lies, how large it is, which colour it has.
The attributes are these numbers and the caption is made from them, so both are true of the pixels by construction,
and :func:`measure` and :func:`describe` tell in the same way whether a model draws what a caption asks for.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gen.data.sample import Collection, Pixels, Sample, Source
from gen.sources.common.glyphs import CLASSES, alphabet, outline, scaled
from gen.sources.common.synthetic import check, generated, generator

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")  # at a sixth of the circle of hues from each other
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")
_SMALL, _LARGE, _BETWEEN = (0.26, 0.32), (0.42, 0.48), 0.37  # longer side of a digit, as a share of the canvas
_HUES = 0.25  # how far a hue lies from that of its name at most, as a share of the way to the next name


class Measured(NamedTuple):
    """What is seen on a canvas.

    Attributes:
        x: centre of the ink from the left edge, 0, to the right one, 1.
        y: centre of the ink from the top, 0, to the bottom, 1.
        extent: longer side of the box around the ink, as a share of the canvas.
        ink: mean brightness of the canvas, 0 to 1, where a pixel is as bright as its brightest channel.
        red: of the colour of the ink: the mean of its pixels, the brightest channel being 1.
        green: likewise.
        blue: likewise.
    """

    x: float
    y: float
    extent: float
    ink: float
    red: float
    green: float
    blue: float


def captioned_digits(
    path: Path | None = None,
    *,
    size: int = 48,
    train: int = 10_000,
    validation: int = 1_000,
    test: int = 1_000,
    seed: int = 0,
) -> Collection:
    """Pictures, uint8 (size, size, 3), with captions such as "a small red three at the top left".

    The label is the digit; the attributes are those of :class:`Measured`. Two sizes, six colours and nine places are
    equally likely, which makes 1,080 captions with the ten digits.

    Args:
        path: the digits, MNIST or stored like it; the embedded ones if it is not given.
        size: side of the canvas in pixels, 32 or more.
        train: number of pictures to train on.
        validation: number of pictures to tune on.
        test: number of pictures to report on.
        seed: of everything random.

    Raises:
        DataError: an option is not possible, or the digits cannot be had.
    """
    check("captioned_digits", seed >= 0, f"seed: {seed}", "0 or more")
    check("captioned_digits", size >= 32, f"size: {size}", "32 or more: smaller digits cannot be read")
    glyphs = alphabet(path)
    sizes = {"train": train, "validation": validation, "test": test}
    glyphs.check(sizes)
    painter = Painter(glyphs.path, size, seed)
    source = Source(
        "captioned_digits",
        f"computed from {glyphs.source.name}: scaled, tinted, placed and described, seed {seed}",
        glyphs.source.licence,
        glyphs.source.citation,
    )
    return generated(
        source,
        sizes,
        painter.sample,
        label=painter.label,
        classes=CLASSES,
        attributes=Measured._fields,
        files=glyphs.files,
    )


def measure(canvas: Pixels) -> Measured:
    """What is seen on a canvas, uint8 (H, W, 3), with some ink on it."""
    bright = canvas.max(2).astype(np.float64)
    height, width = bright.shape
    top, bottom, left, right = outline(canvas.max(2))
    colour = canvas.sum((0, 1)) / canvas.sum((0, 1)).max()
    return Measured(
        float(bright.sum(0) @ (np.arange(width) + 0.5) / bright.sum() / width),
        float(bright.sum(1) @ (np.arange(height) + 0.5) / bright.sum() / height),
        max(bottom - top, right - left) / max(height, width),
        float(bright.mean() / 255),
        *colour.tolist(),
    )


def describe(digit: int, seen: Measured) -> str:
    """The caption of a picture of ``digit``: its size, the nearest of six hues, the third of the canvas it is in."""
    hue = colorsys.rgb_to_hsv(seen.red, seen.green, seen.blue)[0]
    colour = _COLOURS[round(hue * len(_COLOURS)) % len(_COLOURS)]
    place = f"{_ROWS[min(int(3 * seen.y), 2)]} {_COLUMNS[min(int(3 * seen.x), 2)]}".strip() or "centre"
    return f"a {'small' if seen.extent < _BETWEEN else 'large'} {colour} {_NUMBERS[digit]} at the {place}"


@dataclass(frozen=True, slots=True)
class Painter:
    """The options of :func:`captioned_digits`, and how a picture is drawn."""

    path: Path | None
    size: int
    seed: int

    def sample(self, split: str, k: int) -> Sample:
        """Picture ``k`` of a split."""
        rng, glyphs = generator(self.seed, split, k), alphabet(self.path)[split]
        row = int(rng.integers(len(glyphs.images)))
        digit = int(glyphs.labels[row])
        side = rng.uniform(*(_SMALL, _LARGE)[rng.integers(2)]) * self.size
        shape = scaled(glyphs.images[row], round(side))
        canvas = np.zeros((self.size, self.size, 3), np.uint8)
        top, left = (self._corner(rng, shape, axis) for axis in (0, 1))
        hue = (rng.integers(len(_COLOURS)) + rng.uniform(-_HUES, _HUES)) / len(_COLOURS)
        colour = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.8, 1.0), rng.uniform(0.8, 1.0))
        ink = (shape[..., None] * np.array(colour)).round().astype(np.uint8)
        canvas[top : top + len(ink), left : left + ink.shape[1]] = ink
        seen = measure(canvas)
        return Sample(
            canvas,
            label=digit,
            caption=describe(digit, seen),
            attributes=tuple(seen),
            origin=f"picture {k} of {split}: digit {row}",
        )

    def label(self, split: str, k: int) -> int:
        """Its digit."""
        labels = alphabet(self.path)[split].labels
        return int(labels[generator(self.seed, split, k).integers(len(labels))])

    def _corner(self, rng: np.random.Generator, shape: Pixels, axis: int) -> int:
        """Where the digit begins so that its ink is centred in a random third of the canvas, and all of it on it."""
        ink = shape.sum(1 - axis, dtype=np.float64)
        centre = ink @ (np.arange(len(ink)) + 0.5) / ink.sum()  # of the ink, from where the digit begins
        third = rng.integers(3) + np.array([0, 1])
        low, high = np.clip(third * self.size / 3 - centre, 0, self.size - len(ink))
        return int(rng.integers(np.ceil(low), np.floor(high) + 1))
