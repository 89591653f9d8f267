"""What all charts share: paper, ink, colours, and sheets of small images in labelled rows.

Drawn by matplotlib without a display, the same bytes from the same numbers. Colours are those of Okabe and Ito, which
differ to every eye, and of cividis; whatever differs in colour differs in width, dash or place as well.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

INK, FAINT, RULE, PAPER = "#222222", "#7a7a7a", "#d9d9d9", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
HUES = (BLUE, ORANGE, GREEN, PURPLE)
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
DPI = 144
RC = {
    "font.size": 10.0,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}
SIDE = 56  # pixels
GAP, APART = 6, 18  # pixels between small images, and more between groups of their rows


def nats(value: float, decimals: int = 2) -> str:
    """A number with a minus sign that is one."""
    return f"{value:,.{decimals}f}".replace("-", "−")


def percent(share: float, decimals: int = 0) -> str:
    """A share in words, ``12 %``, that no line breaks."""
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


@dataclass(slots=True)
class Drawing:
    """A figure on its way to a PNG.

    Attributes:
        figure: matplotlib's.
        png: its bytes, once the block of :func:`drawing` has ended.
    """

    figure: Any
    png: bytes = field(default=b"", init=False)

    def axes(self, left: float = 0.62, right: float = 0.12, top: float = 0.12, bottom: float = 0.5) -> Any:
        """Axes that leave so many inches at the edges."""
        width, height = self.figure.get_size_inches()
        return self.figure.add_axes(
            (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
        )


@contextmanager
def drawing(width: float, height: float) -> Iterator[Drawing]:
    """An empty figure, a PNG after the block; nothing in it says when it was made, or by which version.

    Args:
        width: inches.
        height: inches.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    content = io.BytesIO()
    with matplotlib.rc_context(RC):
        made = Drawing(Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER))
        FigureCanvasAgg(made.figure)  # no display, and none of pyplot's global state
        yield made
        made.figure.savefig(content, format="png", metadata={"Software": None})
    made.png = content.getvalue()


def rule(axes: Any, axis: str = "y") -> None:
    """Thin lines behind a chart."""
    axes.grid(axis=axis, color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def rows(groups: Sequence[Sequence[tuple[str, Tensor]]], *, heads: Sequence[str] = (), scale: int = 0) -> bytes:
    """Rows of small images, pixel by pixel, each row named on its left.

    Args:
        groups: of rows, with space between them; a row is a name and its images, (N, C, H, W), uint8 or floats in
            [0, 1], C of 1 or 3, all of one size.
        heads: names of the columns.
        scale: pixels of the PNG for a pixel of an image, each way; 0 makes images about :data:`SIDE` pixels wide.
    """
    from gen.evaluate.grids import to_uint8  # brings torchvision, which takes a second: only what draws waits for it

    flat = [row for group in groups for row in group]
    sides = flat[0][1].shape[2:]
    high, wide = (side * (scale or max(1, SIDE // max(sides))) for side in sides)
    longest = max(len(line) for name, _ in flat for line in name.split("\n"))
    left = 18 + 11 * longest if longest else GAP
    top = 34 if heads else GAP
    sheet_width = left + max(len(stack) for _, stack in flat) * (wide + GAP)
    sheet_height = top + len(flat) * (high + GAP) + (len(groups) - 1) * APART
    with drawing(sheet_width / DPI, sheet_height / DPI) as made:

        def text(x: float, y: float, words: str, **style: str) -> None:
            made.figure.text(x / sheet_width, 1 - y / sheet_height, words, fontsize=9, **style)

        y = top
        for group in groups:
            for name, stack in group:
                text(left - 12, y + high / 2, name, ha="right", va="center", color=INK)
                for column, pixels in enumerate(to_uint8(stack.detach()).movedim(1, -1)):
                    x = left + column * (wide + GAP)
                    box = (x / sheet_width, 1 - (y + high) / sheet_height, wide / sheet_width, high / sheet_height)
                    cell = made.figure.add_axes(box)
                    cell.set_axis_off()
                    cell.imshow(pixels.expand(-1, -1, 3).numpy(), interpolation="nearest", aspect="auto")
                y += high + GAP
            y += APART
        for column, head in enumerate(heads):
            text(left + column * (wide + GAP) + wide / 2, 8, head, ha="center", va="top", color=FAINT)
    return made.png
