"""What the pictures of a sweep share beyond the canvas of the studies: headings, and the axis of the objective."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.files import write_bytes
from gen.studies.canvas import FAINT, drawing
from pipelines.reporting.figures import ticks
from pipelines.sweeping.spaces import Objective

PALEST = 0.88  # of cividis, whose yellow end is lost on paper
WIDE = 4.0  # values further apart than this factor get a logarithmic axis


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis of an objective, with the better end at 1.

    Attributes:
        low: least value.
        high: greatest value.
        log: whether it is logarithmic.
        flipped: whether less is better.
    """

    low: float
    high: float
    log: bool
    flipped: bool

    @classmethod
    def of(cls, values: Sequence[float], objective: Objective) -> Scale:
        """The scale that holds these values, of which those that are not finite do not count."""
        finite = [value for value in values if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        log = low > 0 and high / low > WIDE
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(low, high, log, objective.direction == "minimize")

    def place(self, value: float) -> float:
        """Where a value stands, from 0 (worst) to 1 (best)."""
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        place = (value - low) / (high - low)
        return 1 - place if self.flipped else place

    def ticks(self) -> list[float]:
        """Round values, four at least where there are so many."""
        if not self.log:
            return ticks(self.low, self.high, 5)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
        for heads in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
            found = [head * 10.0**power for power in powers for head in heads]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) >= 4:
                break
        return found

    def colour(self, value: float) -> Any:
        """Dark for the best, pale for the worst."""
        return self.at(self.place(value))

    @staticmethod
    def at(place: float) -> Any:
        """The colour at a place."""
        from matplotlib import colormaps

        return colormaps["cividis"](PALEST * (1 - place))


def better(objective: Objective) -> str:
    """Which way is better, in words."""
    return "lower is better" if objective.direction == "minimize" else "higher is better"


def number(value: float) -> str:
    """A value as short as it stays readable: ``0.0002``, ``6.214``, ``65.4k``, ``2.2M``, ``2e-07``."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if 0.9995 * size <= abs(value) < 999.5 * size:  # 999,999 is 1M
            return f"{value / size:.3g}{suffix}"
    text = f"{value:.4g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """An empty figure, written as PNG after the block, whole or not at all.

    Args:
        path: of the file; nothing in it says when it was made, or by which version.
        width: inches.
        height: inches.
    """
    with drawing(width, height) as made:
        yield made.figure
    write_bytes(path, made.png)


def heading(made: Any, title: str, text: str) -> None:
    """The title of a figure, and what is to be seen, below it."""
    height = made.get_figheight()
    made.text(0.02, 1 - 0.16 / height, title, fontsize=13, weight="bold", va="top")
    made.text(0.02, 1 - 0.46 / height, text, fontsize=9.5, color=FAINT, va="top", linespacing=1.35)
