"""Dead leaves: discs of all sizes that cover each other, the simplest model of what is seen in a natural image [1].

Opaque discs lie on each other until nothing shines through; every disc has one shade. With radii distributed as
r^-3 the picture has no scale of its own: shrunk pictures have the statistics of pictures, as photos do, and with
them their heavy-tailed gradients, their power spectrum and their edges. Nothing in it is Gaussian, and all of it is
known.

Here the pile is looked at from above and built downwards: a leaf is seen only where no leaf was before it, so the
picture is done when its last point is covered, and is an exact sample of the infinite pile [2].

[1] Lee, Mumford, Huang: Occlusion models for natural images: a statistical study of a scale-invariant dead leaves
    model. International Journal of Computer Vision 41, 2001
[2] Kendall, Thoennes: Perfect simulation in stochastic geometry. Pattern Recognition 32, 1999
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import Collection, Sample, Source
from gen.sources.common.synthetic import check, generated, generator

_FINE = 4  # points per pixel in each direction, of which a pixel is the mean
_BATCH = 128  # leaves between two looks at whether all is covered; part of what a seed means


def dead_leaves(
    *,
    size: int = 64,
    colour: bool = False,
    r_min: float = 1.0,
    r_max: float = 64.0,
    train: int = 10_000,
    validation: int = 1_000,
    test: int = 1_000,
    seed: int = 0,
) -> Collection:
    """Pictures, uint8 (size, size, 1) or (size, size, 3), without labels.

    Args:
        size: side of a picture in pixels.
        colour: shades are uniform in RGB; otherwise uniform greys.
        r_min: radius of the smallest leaf in pixels. The smaller, the truer the invariance to scale at single pixels;
            the time for a picture grows with (size / r_min)^2.
        r_max: radius of the largest leaf in pixels.
        train: number of pictures to train on.
        validation: number of pictures to tune on.
        test: number of pictures to report on.
        seed: of everything random.

    Raises:
        DataError: an option is not possible.
    """
    check("dead_leaves", seed >= 0, f"seed: {seed}", "0 or more")
    check("dead_leaves", size >= 1, f"size: {size}", "1 or more")
    smallest = 1 / _FINE
    check(
        "dead_leaves",
        smallest <= r_min < r_max < math.inf,
        f"r_min: {r_min:g} and r_max: {r_max:g}",
        f"{smallest:g} <= r_min < r_max, in pixels",
    )
    pile = Pile(size, 3 if colour else 1, r_min, r_max, seed)
    source = Source(
        "dead_leaves",
        f"computed: {'colour' if colour else 'grey'}, radii r^-3 from {r_min:g} to {r_max:g} pixels, seed {seed}",
        "none needed",
        "Lee, Mumford, Huang: Occlusion models for natural images. IJCV 41, 2001",
    )
    return generated(source, {"train": train, "validation": validation, "test": test}, pile.sample)


@dataclass(frozen=True, slots=True)
class Pile:
    """The options of :func:`dead_leaves`, and how a picture is drawn."""

    size: int
    channels: int
    r_min: float
    r_max: float
    seed: int

    def sample(self, split: str, k: int) -> Sample:
        """Picture ``k`` of a split."""
        rng = generator(self.seed, split, k)
        leaf = self.leaves(rng)
        shades = rng.integers(0, 256, (leaf.max() + 1, self.channels))
        points = shades[leaf].reshape(self.size, _FINE, self.size, _FINE, self.channels)
        return Sample(points.mean((1, 3)).round().astype(np.uint8), origin=f"picture {k} of {split}")

    def leaves(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Which leaf is seen at each point, counted from the top of the pile; (4 size, 4 size)."""
        side = self.size * _FINE
        at = (np.arange(side) + 0.5) / _FINE
        seen = np.full((side, side), -1)
        leaf = 0
        while (seen < 0).any():
            radii = self.radii(rng, _BATCH)
            centres = rng.uniform(-radii[:, None], self.size + radii[:, None], (_BATCH, 2))
            # the points from `low` up to but not including `high` are within a radius of the centre in that direction
            low = np.ceil((centres - radii[:, None]) * _FINE - 0.5).clip(0, side).astype(int)
            high = np.floor((centres + radii[:, None]) * _FINE + 0.5).clip(0, side).astype(int)
            for (y, x), r, (top, left), (bottom, right) in zip(centres, radii, low, high, strict=True):
                box = seen[top:bottom, left:right]
                inside = (at[top:bottom, None] - y) ** 2 + (at[left:right] - x) ** 2 <= r * r
                box[inside & (box < 0)] = leaf
                leaf += 1
        return seen

    def radii(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Radii of leaves that reach the picture, (count,).

        Radii of all leaves have density ~ r^-3, and those of radius r reach a picture of side S if their centre is in
        a square of side S + 2r about it. So what reaches it has density ~ r^-3 (S + 2r)^2 = S^2 r^-3 + 4S r^-2 +
        4 r^-1: a mixture of three power laws, each drawn by inverting its distribution function.
        """
        a, b = self.r_min, self.r_max
        weights = np.array([self.size**2 * (a**-2 - b**-2) / 2, 4 * self.size * (1 / a - 1 / b), 4 * math.log(b / a)])
        law, u = rng.choice(3, count, p=weights / weights.sum()), rng.random(count)
        cube, square, first = (a**-2 - u * (a**-2 - b**-2)) ** -0.5, 1 / (1 / a - u * (1 / a - 1 / b)), a * (b / a) ** u
        return np.choose(law, [cube, square, first])
