"""Learning curves: what a run gained with the images it saw, and what it would gain with more.

Validation at a constant learning rate falls, after the first steps, much like a power law of the images seen,

    L(n) = floor + a n^-b,

which is fitted by least squares and continued. A floor seen from afar is a guess, so the other end is given too: the
gain of the last doubling of n, once more for every doubling to come. The truth is between the two while the net is
far from all that it can learn, and both are about this net and these settings, not about the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gen.studies.canvas import DASHES, HUES, drawing, rule
from gen.train import events

Curve = Sequence[tuple[int, float]]
"""Images seen, and minus log p of the validation images."""

EXPONENTS = np.linspace(0.1, 2.0, 191)  # b
FEWEST = 4  # points for three unknowns


def validation(run: Path, metric: str = "bits_per_dim") -> list[tuple[int, float]]:
    """A metric of the validation images as a run went on."""
    found, _ = events.read(run / "events.jsonl")
    return [(n, value) for n, value in events.series(found).get(f"val/{metric}", []) if n]


def continued(curve: Curve, images: int) -> dict[str, float] | None:
    """Where a curve would be after more images: by the power law, and by its last doubling. ``None`` for few points."""
    n, value = np.array([point for point in curve if point[0] >= curve[-1][0] / 8], dtype=float).T
    if len(n) < FEWEST:
        return None
    fits = [(np.stack([np.ones_like(n), n**-b], 1), b) for b in EXPONENTS]
    solved = [(np.linalg.lstsq(design, value, rcond=None), b) for design, b in fits]
    (coefficients, *_), b = min(solved, key=lambda fit: float(fit[0][1].sum()))
    floor, a = coefficients
    doubling = value[-1] - float(np.interp(n[-1] / 2, n, value))
    return {
        "images": images,
        "by_power_law": round(float(floor + a * images**-b), 3),
        "by_last_doubling": round(float(value[-1] + doubling * math.log2(images / n[-1])), 3),
    }


def picture(runs: Sequence[Mapping[str, Any]], published: Mapping[str, float]) -> bytes:
    """The curves of some runs on the same data, and the published numbers of their models as lines, as a PNG.

    Args:
        runs: as they are recorded, with a ``curve``.
        published: by recipe.
    """
    with drawing(7.2, 3.2) as made:
        axes = made.axes(left=0.62, right=2.7)
        for k, run in enumerate(runs):
            n, value = zip(*run["curve"], strict=True)
            style = {"color": HUES[k % len(HUES)], "linestyle": DASHES[k % len(DASHES)]}
            name = run["model"].rpartition("/")[2]
            if (number := published.get(run["recipe"])) is not None:
                name += f", published {number:.2f}"
                axes.axhline(number, linewidth=0.8, **style)
            axes.plot([each / 1000 for each in n], value, linewidth=1.6, marker="o", markersize=3, label=name, **style)
        axes.set(xlim=(0, None), xlabel="thousands of images seen", ylabel=f"{runs[0]['unit']}, validation")
        axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0)
        rule(axes)
    return made.png
