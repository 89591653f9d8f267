"""Line and dot charts as small inline SVGs.

Every colour is a CSS variable of the page, so that a chart follows the light and the dark scheme; lines differ by
dash as well as by colour, so that it can be read without colour and in print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Series = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 340.0, 176.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 14.0, 24.0
SETTLED = 0.08  # the share of the clock in which a loss falls too far to share an axis with what follows
POINTS = 240  # more than this cannot be told apart at the width of a chart


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of a dot chart.

    Attributes:
        label: on the left.
        value: where the dot stands; positive.
        text: the value as printed.
        note: small print beside it.
        low: where the row's own scale begins, positive, or ``None``.
        high: where it ends, or ``None``.
    """

    label: str
    value: float
    text: str
    note: str = ""
    low: float | None = None
    high: float | None = None


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within [low, high] for a logarithmic axis: evenly spaced ones where it is short."""
    if high / low < 4:
        return ticks(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1.0,) if high / low > 500 else (1.0, 2.0, 5.0)
    return [t for p in powers for m in steps if low <= (t := m * 10.0**p) <= high]


def short(value: float) -> str:
    """A tick's label: 1500 -> ``1.5k``, 2000000 -> ``2M``, 0.25 -> ``0.25``."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def thin(points: Series) -> Series:
    """At most :data:`POINTS` points: means over runs of neighbours, the last point kept as it is."""
    if len(points) <= POINTS:
        return points
    size = math.ceil((len(points) - 1) / (POINTS - 1))
    body = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    means = [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in body]
    return [*means, points[-1]]


def curve(title: str, lines: Mapping[str, Series]) -> Markup:
    """A line chart over images seen.

    Args:
        title: for readers who cannot see it.
        lines: at most two, e.g. ``train`` and ``validation``: points (images, value), at least one in all.

    The vertical axis fits what comes after the first few images; a start outside of it is cut off and written down.
    """
    drawn = {name: thin(points) for name, points in lines.items() if points}
    end = max(x for points in drawn.values() for x, _ in points) or 1.0
    every = [y for points in drawn.values() for _, y in points]
    settled = [y for points in drawn.values() for x, y in points if x >= SETTLED * end] or every
    low, high = min(settled), max(settled)
    pad = 0.06 * (high - low) or max(abs(high), 1.0) * 0.05
    low, high = low - pad, high + pad

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / end
        down = TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low)
        return round(across, 1), round(min(max(down, -1e4), 1e4), 1)

    parts = []
    for y in ticks(low, high):
        _, down = at(0, y)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, down, down)
        )
        parts.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
                LEFT - 6, down + 3.5, short(y)
            )
        )
    for x in ticks(0, end):
        across, _ = at(x, low)
        anchor = "end" if across > WIDTH - RIGHT - 12 else "middle"
        parts.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                across, HEIGHT - 8, anchor, short(x)
            )
        )
    inner, ends = [], []
    for (name, points), kind in zip(drawn.items(), ("first", "second"), strict=False):
        path = " ".join(f"{'M' if i == 0 else 'L'}{x} {y}" for i, (x, y) in enumerate(at(*p) for p in points))
        inner.append(Markup('<path class="line {}" d="{}"/>').format(kind, path))
        across, down = at(*points[-1])
        parts.append(Markup('<circle class="end {}" cx="{}" cy="{}" r="2.6"/>').format(kind, across, down))
        ends.append(f"{name} ends at {points[-1][1]:.4g}")
    box = (LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
    clip = Markup('<svg x="{0}" y="{1}" width="{2}" height="{3}" viewBox="{0} {1} {2} {3}">').format(*box)
    parts += [clip, *inner, Markup("</svg>")]  # an inner svg clips what runs out of it
    outside = [y for y in every if not low <= y <= high]
    if outside:
        start = max(outside, key=abs)
        text = f"{'↑' if start > high else '↓'} from {short(start)}"
        parts.append(_text("tick", at(SETTLED * end, low)[0] + 8, TOP + 6, text))
    return svg(f"{title} over {short(end)} images seen: {'; '.join(ends)}", WIDTH, HEIGHT, parts)


def dots(title: str, rows: Sequence[Dot], *, ends: tuple[str, str] = ("", "")) -> Markup:
    """Values on one logarithmic axis, each on a scale of its own if it has one.

    Args:
        title: for readers who cannot see it.
        rows: at least one.
        ends: what the ends of the rows' scales are called.
    """
    width, pitch, top = 720.0, 27.0, 26.0 if any(ends) else 6.0
    left = 26.0 + 7.0 * max(len(row.label) for row in rows)
    right = 30.0 + 6.6 * max(len(f"{row.text} {row.note}") for row in rows)
    values = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    low, high = min(values) / 1.04, max(values) * 1.04
    bottom = top + pitch * len(rows)

    def at(value: float) -> float:
        return round(left + (width - left - right) * math.log(value / low) / math.log(high / low), 1)

    parts = []
    for value in log_ticks(low, high):
        x = at(value)
        parts.append(Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, top, bottom))
        parts.append(_text("tick", x, bottom + 17, short(value), "middle"))
    for end, name, anchor in ((rows[0].low, ends[0], "start"), (rows[0].high, ends[1], "end")):
        if end is not None:
            parts.append(_text("tick", at(end), top - 10, name, anchor))
    for i, row in enumerate(rows):
        x, y = at(row.value), top + pitch * (i + 0.5)
        parts.append(_text("label", left - 16, y + 4, row.label, "end"))
        if row.low is not None and row.high is not None:
            span = (at(row.low), at(row.high), y, y - 5, y + 5)
            parts.append(Markup('<path class="scale" d="M{0} {2}H{1}M{0} {3}V{4}M{1} {3}V{4}"/>').format(*span))
        parts.append(Markup('<circle class="end first" cx="{}" cy="{}" r="4.5"/>').format(x, y))
        note = Markup(' <tspan class="note">{}</tspan>').format(row.note)
        parts.append(_text("label", width - right + 16, y + 4, escape(row.text) + note))
    return svg(
        f"{title}: " + "; ".join(f"{row.label} {row.text} {row.note}" for row in rows), width, bottom + 24, parts
    )


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def svg(description: str, width: float, height: float, parts: Sequence[Markup]) -> Markup:
    """The element around the parts, described for readers who cannot see it."""
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, description)
    return head + Markup("").join(parts) + Markup("</svg>")
