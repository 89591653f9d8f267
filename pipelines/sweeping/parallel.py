"""Every trial of a sweep across all that was varied: parallel coordinates, with the objective as the last axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gen.studies.canvas import FAINT, INK, ORANGE, PAPER
from pipelines.reporting.figures import log_ticks, ticks
from pipelines.sweeping.canvas import Scale, better, figure, heading, number
from pipelines.sweeping.dimensions import Dimension, canonical
from pipelines.sweeping.spaces import Objective
from pipelines.sweeping.trial import Trial

SPREAD = 0.022  # of an axis, to either side: lines through one choice lie next to each other
BEYOND = 0.06  # of an axis: where a recipe's own value beyond the range is drawn
PER_AXIS, HEIGHT, NARROWEST = 1.75, 5.4, 8.6  # inches
GRADIENT = 128  # steps of colour on the last axis

OWN: dict[str, Any] = {"color": ORANGE, "linewidth": 2.0, "linestyle": (0, (4, 1.6)), "marker": "o", "markersize": 4.5}
FAILED: dict[str, Any] = {"color": FAINT, "linewidth": 0.9, "linestyle": (0, (1, 1.6))}


def parallel(
    path: Path,
    title: str,
    trials: Sequence[Trial],
    dimensions: Sequence[Dimension],
    objective: Objective,
    *,
    best: Trial | None,
    default: Mapping[str, Any],
) -> None:
    """Draw it. Better is up and dark.

    Args:
        path: of the PNG.
        title: what was swept.
        trials: of the sweep, with a value for every dimension.
        dimensions: what was varied: the axes, from left to right.
        objective: what was looked for: the last axis.
        best: the trial that is best.
        default: the values of the recipe as it stands.
    """
    scale = Scale.of([trial.value for trial in trials], objective)
    last, own = len(dimensions), _is(default, dimensions)
    first = None if best is None else best.number
    ranked = sorted(
        trials, key=lambda trial: (trial.number == first, own(trial), trial.state == "finished", -trial.number)
    )
    places = _places(ranked, dimensions)
    with figure(path, max(PER_AXIS * (last + 1) + 1.6, NARROWEST), HEIGHT) as made:
        heading(made, title, f"{len(trials)} trials, one line each; on the last axis, higher and darker is better")
        axes = made.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set(xlim=(-0.62, last + 0.78), ylim=(-0.2, 1.42))
        for order, trial in enumerate(ranked):
            xs, ys = list(range(last)), places[trial.number]
            if math.isfinite(trial.value):
                xs, ys = [*xs, last], [*ys, scale.place(trial.value)]
            axes.plot(
                xs,
                ys,
                zorder=2 + order / len(ranked),
                **_style(trial, scale, best=trial.number == first, own=own(trial)),
            )
        if default and not any(map(own, trials)):
            axes.plot(range(last), [_clipped(each.unit(default[each.key])) for each in dimensions], zorder=4, **OWN)
        for x, dimension in enumerate(dimensions):
            _axis(axes, x, dimension)
        _objective_axis(axes, last, scale, objective)
        if best is not None:
            _label(
                axes, last + 0.4, scale.place(best.value), f"{number(best.value)}\ntrial {best.number}", weight="bold"
            )
        _legend(axes, trials, best=best, default=default)


def _style(trial: Trial, scale: Scale, *, best: bool, own: bool) -> dict[str, Any]:
    from matplotlib import patheffects

    if own and not best:
        return OWN
    if not math.isfinite(trial.value) or trial.state == "failed":
        return FAILED
    colour = scale.colour(trial.value)
    if best:
        halo = [patheffects.withStroke(linewidth=7.5, foreground=PAPER)]
        style = {"color": colour, "linewidth": 4.5, "solid_capstyle": "round", "path_effects": halo}
        return {**style, **({"marker": "o", "markerfacecolor": ORANGE, "markersize": 7} if own else {})}
    finished = trial.state == "finished"
    return {"color": colour, "linewidth": 1.9 if finished else 0.8, "alpha": 0.95 if finished else 0.75}


def _is(default: Mapping[str, Any], dimensions: Sequence[Dimension]) -> Any:
    """Whether a trial is the recipe as it stands."""
    keys = [each.key for each in dimensions]
    wanted = [canonical(default[key]) for key in keys] if default else None

    def own(trial: Trial) -> bool:
        return wanted is not None and [canonical(trial.values[key]) for key in keys] == wanted

    return own


def _places(trials: Sequence[Trial], dimensions: Sequence[Dimension]) -> dict[int, list[float]]:
    """Heights of every trial on the axes; those with the same choice fan out a little."""
    places: dict[int, list[float]] = {trial.number: [] for trial in trials}
    for dimension in dimensions:
        same: dict[str, list[Trial]] = {}
        for trial in trials:
            same.setdefault(canonical(trial.values[dimension.key]), []).append(trial)
        for group in same.values():
            fan = SPREAD * (dimension.kind not in ("uniform", "loguniform"))
            offsets = np.linspace(-fan, fan, len(group)) if len(group) > 1 else [0.0]
            for trial, offset in zip(group, offsets, strict=True):
                places[trial.number].append(_clipped(dimension.unit(trial.values[dimension.key])) + float(offset))
    return places


def _clipped(place: float) -> float:
    """A place that is drawn: beyond the ends stays near them, what is none of the choices breaks the line."""
    return min(max(place, -BEYOND), 1 + BEYOND)


def _axis(axes: Any, x: int, dimension: Dimension) -> None:
    """One vertical axis with its ticks and its name."""
    axes.plot([x, x], [0, 1], color=INK, linewidth=1.0, zorder=5)
    head, _, tail = dimension.key.rpartition(".")
    scale = {"loguniform": ", log"}.get(dimension.kind, "")
    axes.text(x, 1.115, tail, ha="center", va="bottom", fontsize=11, weight="bold")
    axes.text(x, 1.075, f"{head}{scale}", ha="center", va="bottom", fontsize=8.5, color=FAINT)
    for value in ticks_of(dimension):
        place = dimension.unit(value)
        axes.plot([x - 0.02, x], [place, place], color=INK, linewidth=1.0, zorder=5)
        _label(axes, x - 0.035, place, word(value), ha="right")


def ticks_of(dimension: Dimension) -> Sequence[Any]:
    """Values that an axis names."""
    low, high = dimension.given[0], dimension.given[-1]
    match dimension.kind:
        case "uniform":
            return ticks(low, high, 5)
        case "loguniform":
            return log_ticks(low, high)
        case "int":
            return sorted({round(value) for value in ticks(low, high, 6)})
    return dimension.given


def word(value: Any) -> str:
    """A value as params.yaml would have it, but short."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(word, value)) + "]"
    return number(value) if isinstance(value, int | float) else str(value)


def _objective_axis(axes: Any, x: int, scale: Scale, objective: Objective) -> None:
    """The last axis, in the colours of the lines."""
    for low, high in pairwise(np.linspace(0, 1, GRADIENT + 1)):
        axes.fill_between([x, x + 0.05], low, high, color=scale.at((low + high) / 2), linewidth=0, zorder=5)
    axes.text(x + 0.02, 1.115, objective.name, ha="center", va="bottom", fontsize=11, weight="bold")
    axes.text(
        x + 0.02,
        1.075,
        better(objective) + (", log" if scale.log else ""),
        ha="center",
        va="bottom",
        fontsize=8.5,
        color=FAINT,
    )
    for value in scale.ticks():
        place = scale.place(value)
        axes.plot([x + 0.05, x + 0.07], [place, place], color=INK, linewidth=1.0, zorder=5)
        _label(axes, x + 0.085, place, number(value))


def _label(axes: Any, x: float, y: float, text: str, *, ha: str = "left", weight: str = "normal") -> None:
    box = {"boxstyle": "round,pad=0.18", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.82}
    axes.text(x, y, text, ha=ha, va="center", fontsize=8.5, weight=weight, zorder=7, bbox=box)


def _legend(axes: Any, trials: Sequence[Trial], *, best: Trial | None, default: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    counts = {state: sum(trial.state == state for trial in trials) for state in ("finished", "pruned", "failed")}
    others = len(trials) - sum(counts.values())
    entries: list[tuple[Any, dict[str, Any], str]] = [
        (best is not None, {"color": INK, "linewidth": 4.5}, "best"),
        (counts["finished"], {"color": INK, "linewidth": 1.9}, f"finished ({counts['finished']})"),
        (counts["pruned"], {"color": INK, "linewidth": 0.8}, f"pruned ({counts['pruned']}), at its last measurement"),
        (others, {"color": INK, "linewidth": 0.8}, f"not over ({others})"),
        (counts["failed"], FAILED, f"failed ({counts['failed']})"),
        (default, OWN, "the recipe as it stands"),
    ]
    handles = [Line2D([], [], label=label, **style) for shown, style, label in entries if shown]
    axes.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9, handlelength=2.8)
