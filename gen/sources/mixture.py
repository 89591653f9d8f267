"""Gaussian mixtures in the plane as a data set: the smallest pictures on which a model can lose modes.

A point is a picture of one pixel with two channels. Training, sampling and the counting of modes on it go through
the very pipeline that photos go through, while the truth is known: see :mod:`gen.data.toys`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gen.data import toys
from gen.data.sample import Collection, Sample, Source
from gen.sources.common.synthetic import check, generated, generator

_TRUTH = {"ring": toys.ring, "grid": toys.grid}
_CITATION = {
    "ring": "Metz, Poole, Pfau, Sohl-Dickstein: Unrolled generative adversarial networks. ICLR 2017",
    "grid": "Lin, Khetan, Fanti, Oh: PacGAN: The power of two samples in generative adversarial networks. NeurIPS 2018",
}
_MARGIN = 6  # standard deviations; a point lies further out with probability 4e-9, and is then moved to the edge


def mixture(
    *,
    shape: Literal["ring", "grid"],
    train: int = 10_000,
    validation: int = 1_000,
    test: int = 1_000,
    seed: int = 0,
) -> Collection:
    """Pictures, uint8 (1, 1, 2): x and y; labelled with the mode, all of which are equally likely.

    Level v of a channel stands for the coordinate (2 v / 255 - 1) R, with R the outermost mean plus six standard
    deviations: 2.12 for the ring, 4.3 for the grid. A step between levels is then 0.017 or 0.034, less than the
    standard deviation of 0.02 or 0.05, so that rounding does not merge what the mixture keeps apart. The attributes
    are the coordinates before rounding.

    Args:
        shape: 8 modes on a circle of radius 2, or 5 x 5 modes 2 apart.
        train: number of points to train on.
        validation: number of points to tune on.
        test: number of points to report on.
        seed: of everything random.

    Raises:
        DataError: an option is not possible.
    """
    check("mixture", seed >= 0, f"seed: {seed}", "0 or more")
    check("mixture", shape in _TRUTH, f"shape: {shape}", " or ".join(_TRUTH))
    truth = _TRUTH[shape]()
    means = truth.means.double().numpy().round(6)  # so that no last bit of a cosine differs between machines
    points = Points(means, truth.std, seed)
    return generated(
        Source(f"mixture ({shape})", f"computed: gen.data.toys.{shape}, seed {seed}", "none needed", _CITATION[shape]),
        {"train": train, "validation": validation, "test": test},
        points.sample,
        label=points.label,
        classes=[str(mode) for mode in range(len(truth.means))],
        attributes=("x", "y"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """A mixture, and how a point of it is drawn.

    Attributes:
        means: (K, 2).
        std: of every mode in both directions.
        seed: of everything random.
    """

    means: NDArray[np.float64]
    std: float
    seed: int

    @property
    def reach(self) -> float:
        """R: the levels 0 to 255 stand for the coordinates -R to R."""
        return float(np.abs(self.means).max()) + _MARGIN * self.std

    def sample(self, split: str, k: int) -> Sample:
        """Point ``k`` of a split."""
        rng = generator(self.seed, split, k)
        mode = int(rng.integers(len(self.means)))
        point = self.means[mode] + self.std * rng.standard_normal(2)
        levels = ((point / self.reach + 1) / 2 * 255).round().clip(0, 255).astype(np.uint8)
        x, y = point.tolist()
        return Sample(levels[None, None], label=mode, attributes=(x, y), origin=f"point {k} of {split}")

    def label(self, split: str, k: int) -> int:
        """Its mode."""
        return int(generator(self.seed, split, k).integers(len(self.means)))
