"""Stacked MNIST: three random digits as the red, green and blue channel of one picture [1].

The label is the number that the three digits spell, so there are 1,000 equally likely modes with known names. A
classifier of single digits tells which of them a model draws: it counts the modes that collapsed.

[1] Metz, Poole, Pfau, Sohl-Dickstein: Unrolled generative adversarial networks. ICLR 2017, section 3.3.1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import Collection, Sample, Source
from gen.sources.common.glyphs import alphabet
from gen.sources.common.synthetic import check, generated, generator


def stacked_digits(
    path: Path | None = None,
    *,
    train: int = 20_000,
    validation: int = 1_000,
    test: int = 2_000,
    seed: int = 0,
) -> Collection:
    """Pictures, uint8 (28, 28, 3), labelled 0 to 999: 100 red + 10 green + blue.

    Args:
        path: the digits, MNIST or stored like it; the embedded ones if it is not given.
        train: number of pictures to train on.
        validation: number of pictures to tune on.
        test: number of pictures to report on.
        seed: of everything random.

    Raises:
        DataError: an option is not possible, or the digits cannot be had.
    """
    check("stacked_digits", seed >= 0, f"seed: {seed}", "0 or more")
    glyphs = alphabet(path)
    sizes = {"train": train, "validation": validation, "test": test}
    glyphs.check(sizes)
    stack = Stack(glyphs.path, seed)
    source = Source(
        "stacked_digits",
        f"computed from {glyphs.source.name}: three digits as red, green and blue, seed {seed}",
        glyphs.source.licence,
        "Metz, Poole, Pfau, Sohl-Dickstein: Unrolled generative adversarial networks. ICLR 2017",
    )
    return generated(
        source,
        sizes,
        stack.sample,
        label=stack.label,
        classes=[f"{mode:03d}" for mode in range(1000)],
        files=glyphs.files,
    )


@dataclass(frozen=True, slots=True)
class Stack:
    """The options of :func:`stacked_digits`, and how a picture is drawn."""

    path: Path | None
    seed: int

    def sample(self, split: str, k: int) -> Sample:
        """Picture ``k`` of a split."""
        rows = self._rows(split, k)
        channels = alphabet(self.path)[split].images[rows]
        return Sample(
            np.ascontiguousarray(np.moveaxis(channels, 0, -1)),
            label=self.label(split, k),
            origin=f"{split} {k}: digits {', '.join(map(str, rows))}",
        )

    def label(self, split: str, k: int) -> int:
        """Its mode, 0 to 999."""
        red, green, blue = alphabet(self.path)[split].labels[self._rows(split, k)].tolist()
        return 100 * red + 10 * green + blue

    def _rows(self, split: str, k: int) -> NDArray[np.int64]:
        """Which three digits it shows, (3,)."""
        return generator(self.seed, split, k).integers(len(alphabet(self.path)[split].images), size=3)
