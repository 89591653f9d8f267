"""Pictures of a sweep: every trial across its dimensions, what mattered, and what was reached for how many images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gen.studies.canvas import BLUE, DASHES, FAINT, HUES, INK, PAPER, RULE
from pipelines.sweeping.canvas import Scale, better, figure, heading, number
from pipelines.sweeping.dimensions import Dimension
from pipelines.sweeping.importance import FOLDS, REPEATS, Importance, importance
from pipelines.sweeping.parallel import parallel, ticks_of, word
from pipelines.sweeping.spaces import Objective
from pipelines.sweeping.trial import Trial

ROW = 1.25  # inches of a dimension
GOLDEN = 0.618  # multiples of it, modulo 1, fall evenly
SPREAD = 0.07  # of an axis: dots of one choice lie next to each other
APART = 0.13  # of the height: two lines of text


def draw(
    directory: Path,
    title: str,
    trials: Sequence[Trial],
    dimensions: Sequence[Dimension],
    objective: Objective,
    *,
    best: Trial | None,
    default: Mapping[str, Any],
) -> dict[str, Path]:
    """All pictures of one sweep.

    Args:
        directory: where the files go.
        title: what was swept.
        trials: of the sweep.
        dimensions: what was varied.
        objective: what was looked for.
        best: the trial that is best (:meth:`pipelines.sweeping.ledger.Ledger.best`).
        default: the values of the recipe as it stands, by key.

    Returns:
        The files, by name.
    """
    files = {name: directory / f"{name}.png" for name in ("parallel", "importance", "history")}
    trials = [replace(trial, values={**default, **trial.values}) for trial in trials]
    parallel(files["parallel"], title, trials, dimensions, objective, best=best, default=default)
    importances(files["importance"], title, trials, dimensions, objective)
    history(files["history"], title, {"": trials}, objective)
    return files


def importances(
    path: Path, title: str, trials: Sequence[Trial], dimensions: Sequence[Dimension], objective: Objective
) -> Importance:
    """How much each dimension matters, beside the objective over its values; see :mod:`pipelines.sweeping.importance`.

    Args:
        path: of the PNG.
        title: what was swept.
        trials: of the sweep.
        dimensions: what was varied: the rows, the most important one first.
        objective: what was looked for.
    """
    found = importance(trials, dimensions, objective)
    compared = [trial for trial in trials if trial.number in set(found.trials)]
    values = {trial.number: dict(trial.curve)[found.images] for trial in compared}
    scale = Scale.of(list(values.values()), objective)
    rows = sorted(dimensions, key=lambda each: -found.share.get(each.key, (0.0, 0.0, 0.0))[1])
    height = ROW * len(rows) + 2.1
    with figure(path, 9.6, height) as made:
        heading(made, f"{title}: what mattered", _verdict(found, objective))
        grid = made.add_gridspec(
            len(rows), 2, left=0.2, right=0.97, top=1 - 1.3 / height, bottom=0.62 / height, hspace=0.55, wspace=0.24
        )
        for row, dimension in enumerate(rows):
            dots = made.add_subplot(grid[row, 1] if found.share else grid[row, :])
            _scatter(dots, dimension, compared, values, scale)
            if row == 0:
                dots.set_title(f"{objective.name} ({better(objective)}: up)", fontsize=9, color=FAINT, loc="left")
            if found.share:
                bars = made.add_subplot(grid[row, 0])
                _bar(bars, dimension, found, last=row == len(rows) - 1)
            _title(made, bars if found.share else dots, dimension)
    return found


def _verdict(found: Importance, objective: Objective) -> str:
    """What the picture can and cannot say, in two lines."""
    if not found.images:
        return "Nothing was measured."
    compared = f"{len(found.trials)} trials compared by {objective.name} after {number(found.images)} images"
    if len(found.trials) < found.needed:
        return f"{compared}: too few to tell what mattered.\nIt takes {found.needed}; the dots are what there is."
    if not found.share:
        return f"{compared}. A random forest cannot predict\nit from the values, so it cannot be told what mattered."
    return (
        f"{compared}. Bars: how much worse a random forest predicts their order\n"
        f"(R² {found.predicted:.2f} on trials it did not see) with a dimension shuffled; "
        f"mean, and 10th to 90th percentile of {REPEATS} x {FOLDS} folds."
    )


def _title(made: Any, axes: Any, dimension: Dimension) -> None:
    """The name of a row, on its left."""
    head, _, tail = dimension.key.rpartition(".")
    middle = (axes.get_position().y0 + axes.get_position().y1) / 2
    made.text(0.15, middle + 0.03 / made.get_figheight(), tail, ha="right", va="bottom", fontsize=11, weight="bold")
    made.text(0.15, middle - 0.03 / made.get_figheight(), head, ha="right", va="top", fontsize=8.5, color=FAINT)


def _bar(axes: Any, dimension: Dimension, found: Importance, *, last: bool) -> None:
    """The importance of one dimension."""
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.axvline(0, color=INK, linewidth=1.0)
    least = min(0.0, *(low for low, _, _ in found.share.values()))
    most = max(high for _, _, high in found.share.values())
    axes.set(ylim=(-0.5, 0.5), xlim=(least, 1.18 * most), yticks=[])
    if last:
        axes.set_xlabel("loss of R²", fontsize=9, color=FAINT)
        axes.tick_params(labelsize=8.5)
    else:
        axes.set_xticks([])
    low, mean, high = found.share[dimension.key]
    axes.barh(0, mean, height=0.5, color=BLUE)
    axes.plot([low, high], [0, 0], color=INK, linewidth=1.4)
    axes.text(max(high, 0.0) + 0.02 * most, 0, f"{max(mean, 0.0):.2f}", va="center", fontsize=9)


def _scatter(
    axes: Any, dimension: Dimension, trials: Sequence[Trial], values: Mapping[int, float], scale: Scale
) -> None:
    """The objective over the values of one dimension; better is up, as on the other pictures."""
    apart = 0.0 if dimension.kind in ("uniform", "loguniform") else SPREAD
    xs = [dimension.unit(trial.values.get(dimension.key)) for trial in trials]
    xs = [x + apart * (GOLDEN * place % 1 - 0.5) for place, x in enumerate(xs)]  # equal ones next to each other
    ys = [scale.place(values[trial.number]) for trial in trials]
    hues = [scale.colour(values[trial.number]) for trial in trials]
    axes.scatter(xs, ys, s=28, c=hues, linewidths=0.5, edgecolors=PAPER, zorder=3)
    marked, shown = ticks_of(dimension), scale.ticks()
    shown = shown[:: math.ceil(len(shown) / 3)]
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.12, 1.12))
    axes.set_xticks([dimension.unit(value) for value in marked], [word(value) for value in marked], fontsize=8.5)
    axes.set_yticks([scale.place(value) for value in shown], [number(value) for value in shown], fontsize=8.5)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def history(path: Path, title: str, sweeps: Mapping[str, Sequence[Trial]], objective: Objective) -> None:
    """The objective over the images spent, every trial's curve, and the best so far; several sweeps share the axes.

    Trials are laid end to end in the order of their numbers, which is that of their starts: what a sweep has spent is
    the same however many of its trials ran at a time.

    Args:
        path: of the PNG.
        title: what was swept.
        sweeps: by name; a single one may be called "".
        objective: what was looked for.
    """
    scale = Scale.of([value for trials in sweeps.values() for trial in trials for _, value in trial.curve], objective)
    ends: list[tuple[float, str, str]] = []
    with figure(path, 9.6, 4.8) as made:
        seen = "thin: one trial; thick: the best so far, of those that spent the whole budget once there is one"
        heading(made, f"{title}: what was reached for how many images", seen)
        axes = made.add_axes((0.085, 0.12, 0.72, 0.72))
        for (name, trials), hue, dash in zip(sweeps.items(), HUES, DASHES, strict=False):
            laid = _end_to_end(trials)
            for curve in laid.values():
                axes.plot(*zip(*curve, strict=True), color=hue, linewidth=0.8, alpha=0.5, marker="o", markersize=2.2)
            if best := _best_so_far(trials, laid, objective):
                spent = sum(trial.images for trial in trials)
                xs, ys = zip(*best, (spent, best[-1][1]), strict=True)
                axes.step(xs, ys, where="post", color=hue, linewidth=2.8, linestyle=dash, zorder=4)
                ends.append((ys[-1], f"{name}\n{number(ys[-1])} for {number(spent)} images".strip(), hue))
        axes.set_yscale("log" if scale.log else "linear")
        pad = 1.08 if scale.log else 0.05 * (scale.high - scale.low)
        axes.set_ylim(*((scale.low / pad, scale.high * pad) if scale.log else (scale.low - pad, scale.high + pad)))
        axes.set_yticks(scale.ticks(), [number(value) for value in scale.ticks()])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
        axes.set_xlim(left=0)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("images spent on all trials, laid end to end in the order of their starts")
        axes.set_ylabel(f"{objective.name} ({better(objective)})")
        _name(axes, ends)


def _name(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Texts on the right margin at the heights of their lines, as far as they do not overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    lowest = -math.inf
    for value, text, hue in sorted(ends, key=lambda end: to_axes.transform((0, end[0]))[1]):
        lowest = max(to_axes.transform((0, value))[1], lowest + APART)
        axes.text(1.015, lowest, text, color=hue, fontsize=9.5, weight="bold", va="center", transform=axes.transAxes)


def _end_to_end(trials: Sequence[Trial]) -> dict[int, list[tuple[int, float]]]:
    """Curves by number, on the images that the sweep has spent when each trial is run after those before it."""
    laid, spent = {}, 0
    for trial in sorted(trials, key=lambda each: each.number):
        curve = [(spent + images, value) for images, value in trial.curve if math.isfinite(value)]
        if curve:
            laid[trial.number] = curve
        spent += trial.images
    return laid


def _best_so_far(
    trials: Sequence[Trial], laid: Mapping[int, Sequence[tuple[int, float]]], objective: Objective
) -> list[tuple[int, float]]:
    """The value of the trial that would have been the best one then, by the ledger's rule."""
    best: list[tuple[int, float]] = []
    stands: dict[int, tuple[bool, float]] = {}
    for trial in sorted(trials, key=lambda each: each.number):
        for place, (images, value) in enumerate(laid.get(trial.number, ()) if trial.state != "failed" else ()):
            whole = trial.state == "finished" and place == len(laid[trial.number]) - 1
            stands[trial.number] = (not whole, objective.loss(value))
            _, loss = min(stands.values())
            best.append((images, objective.loss(loss)))
    return best
