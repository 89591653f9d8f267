"""The digits that computed data sets are composed of.

A split is composed of the digits of the split of the same name alone: nothing of a test digit is ever trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen.data.sample import Pixels, Source
from gen.errors import DataError
from gen.sources.arrays import arrays
from gen.sources.digits import digits

CLASSES = tuple("0123456789")
_INK = 0.25  # a pixel of at least this share of the highest brightness is inside the outline; fainter ones blur it


@dataclass(frozen=True, slots=True, eq=False)
class Glyphs:
    """The digits of a split.

    Attributes:
        images: uint8 (N, H, W), bright ink on 0.
        labels: int64 (N,), 0 to 9.
    """

    images: Pixels
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Alphabet:
    """The digits of all splits.

    Attributes:
        source: where they come from.
        splits: by name.
        files: they are read from.
        path: absolute, so that processes elsewhere find it; see :func:`alphabet`.
    """

    source: Source
    splits: Mapping[str, Glyphs]
    files: tuple[Path, ...]
    path: Path | None

    def __getitem__(self, split: str) -> Glyphs:
        """Those of a split; raises :class:`DataError` if there are none."""
        if split not in self.splits:
            raise DataError(
                f"{self.source.name}: found digits for {', '.join(self.splits)}, none for '{split}'. Set "
                f"`{split}: 0` under `options` in params.yaml, or give digits that have this split."
            )
        return self.splits[split]

    def check(self, sizes: Mapping[str, int]) -> None:
        """Raise :class:`DataError` unless there are digits for every split of more than 0 samples."""
        for split, size in sizes.items():
            if size:
                self[split]

    @property
    def side(self) -> int:
        """The longest side of a digit's picture, in pixels."""
        return max(max(glyphs.images.shape[1:]) for glyphs in self.splits.values())


@lru_cache(maxsize=4)
def alphabet(path: Path | None) -> Alphabet:
    """The digits, read once in every process.

    Args:
        path: MNIST, or what is stored like it, for :func:`gen.sources.arrays.arrays`; the embedded
            :func:`gen.sources.digits.digits` if ``None``.

    Raises:
        DataError: they cannot be read, or are not grey pictures with ten classes, or one of them is black.
    """
    collection = digits() if path is None else arrays(path)
    splits = {}
    for name, split in collection.splits.items():
        first = split.samples[0].image
        shape = first.shape if isinstance(first, np.ndarray) else ()
        if split.labels is None or len(collection.classes) != len(CLASSES) or len(shape) != 3 or shape[2] != 1:
            raise DataError(
                f"{path}: found {f'arrays {shape}' if shape else 'image files'} and {len(collection.classes)} classes; "
                f"allowed are arrays (H, W, 1) and {len(CLASSES)} classes, as in MNIST. Give such a path, or none for "
                "the embedded digits."
            )
        images = np.stack([np.asarray(split.samples[k].image)[..., 0] for k in range(len(split))])
        if len(blank := np.flatnonzero(~images.any((1, 2)))):
            raise DataError(f"{path}: {name}: found a picture without ink, number {blank[0]}. Leave it out.")
        splits[name] = Glyphs(images, split.labels)
    return Alphabet(collection.source, splits, collection.files, None if path is None else path.absolute())


def scaled(glyph: Pixels, side: int) -> Pixels:
    """The ink of a digit (H, W) cut out, and scaled so that its longer side is ``side`` pixels."""
    top, bottom, left, right = outline(glyph)
    cut = Image.fromarray(glyph[top:bottom, left:right])
    scale = side / max(cut.size)
    return np.asarray(cut.resize([max(1, round(scale * length)) for length in cut.size], Image.Resampling.BICUBIC))


def outline(bright: Pixels) -> tuple[int, int, int, int]:
    """The box around the ink of a picture (H, W): its slices are top:bottom and left:right."""
    inside = bright >= _INK * bright.max()
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
