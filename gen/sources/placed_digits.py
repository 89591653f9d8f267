"""A digit in one of nine cells of a canvas: data whose class is a place.

The canvas is divided into 3 x 3 cells. One of them, each as often as any other, holds a digit of the size of the cell;
the others are black. The label is the cell, or the digit. A condition that says nothing about places can hardly say
where, which is what conditioning by location is for [1].

[1] van den Oord et al.: Conditional image generation with PixelCNN decoders. NeurIPS 2016, section 2.3
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gen.data.sample import Collection, Sample, Source
from gen.sources.common.glyphs import CLASSES, alphabet, scaled
from gen.sources.common.synthetic import check, generated, generator

SIDE = 3  # cells on a side
CELLS = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)
_LABELS = ("cell", "digit")


def placed_digits(
    path: Path | None = None,
    *,
    size: int = 24,
    label: Literal["cell", "digit"] = "cell",
    train: int = 4_000,
    validation: int = 500,
    test: int = 1_000,
    seed: int = 0,
) -> Collection:
    """Pictures, uint8 (size, size, 1), each with one digit.

    Args:
        path: the digits, MNIST or stored like it; the embedded ones if it is not given.
        size: side of the canvas in pixels, a multiple of 3 from 18. A digit is a pixel smaller than a third of it.
        label: what the class is: the ``cell``, 0 to 8 row by row, or the ``digit``.
        train: number of pictures to train on.
        validation: number of pictures to tune on.
        test: number of pictures to report on.
        seed: of everything random.

    Raises:
        DataError: an option is not possible, or the digits cannot be had.
    """
    check("placed_digits", seed >= 0, f"seed: {seed}", "0 or more")
    check("placed_digits", size >= 18 and size % SIDE == 0, f"size: {size}", "multiples of 3 from 18")
    check("placed_digits", label in _LABELS, f"label: {label}", " or ".join(_LABELS))
    glyphs = alphabet(path)
    sizes = {"train": train, "validation": validation, "test": test}
    glyphs.check(sizes)
    board = Board(glyphs.path, size, label, seed)
    source = Source(
        f"placed_digits ({label})",
        f"computed from {glyphs.source.name}: scaled, and placed in one of nine cells, seed {seed}",
        glyphs.source.licence,
        glyphs.source.citation,
    )
    return generated(
        source,
        sizes,
        board.sample,
        label=board.label_of,
        classes=CELLS if label == "cell" else CLASSES,
        files=glyphs.files,
    )


@dataclass(frozen=True, slots=True)
class Board:
    """The options of :func:`placed_digits`, and how a picture is drawn."""

    path: Path | None
    size: int
    label: Literal["cell", "digit"]
    seed: int

    def sample(self, split: str, k: int) -> Sample:
        """Picture ``k`` of a split."""
        row, cell = self._chosen(split, k)
        wide = self.size // SIDE
        ink = scaled(alphabet(self.path)[split].images[row], wide - 1)
        top, left = ((wide - length) // 2 + wide * at for length, at in zip(ink.shape, divmod(cell, SIDE), strict=True))
        canvas = np.zeros((self.size, self.size, 1), np.uint8)
        canvas[top : top + ink.shape[0], left : left + ink.shape[1], 0] = ink
        return Sample(canvas, label=self.label_of(split, k), origin=f"picture {k} of {split}: digit {row}")

    def label_of(self, split: str, k: int) -> int:
        """Its cell, or its digit."""
        row, cell = self._chosen(split, k)
        return cell if self.label == "cell" else int(alphabet(self.path)[split].labels[row])

    def _chosen(self, split: str, k: int) -> tuple[int, int]:
        """Which digit of the split it shows, and in which cell."""
        rng = generator(self.seed, split, k)
        return int(rng.integers(len(alphabet(self.path)[split].images))), int(rng.integers(SIDE**2))
