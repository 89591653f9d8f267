"""What a sweep found, where people look for it: ``sweeps/<recipe>/``, MLflow and the end of the command."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from gen.files import atomic_directory, finite
from gen.recipe import Recipe
from pipelines.layout import Layout
from pipelines.sweeping import pictures
from pipelines.sweeping.best import Best, write_best
from pipelines.sweeping.ledger import Ledger
from pipelines.sweeping.spaces import Sweep
from pipelines.sweeping.trial import State, Trial
from pipelines.tracking.sweeps import SweepTracker


class Result(TypedDict):
    """The end of ``gen sweep``, JSON-able.

    Attributes:
        recipe: its name.
        directory: of the sweep.
        objective: what was looked for, as params.yaml has it.
        best: the best trial: ``trial``, ``value``, ``values``; ``None`` if none was measured.
        default: what the recipe as it stands reached, if it is among the trials.
        trials: numbers of trials by state.
        images: spent on all of them.
        seconds: worked by all of them.
        text: the same in words.
    """

    recipe: str
    directory: str
    objective: Mapping[str, str]
    best: Mapping[str, Any] | None
    default: float | None
    trials: Mapping[State, int]
    images: int
    seconds: float
    text: str


def publish(
    layout: Layout, ledger: Ledger, sweep: Sweep, recipe: Recipe, tracker: SweepTracker, *, default: Mapping[str, Any]
) -> Result:
    """Write ``sweeps/<recipe>``, all at once, and send it to the sweep's run.

    Args:
        layout: where things lie.
        ledger: of the sweep.
        sweep: what was varied and looked for.
        recipe: what was varied.
        tracker: of the sweep.
        default: the recipe's own values at the keys of the sweep.
    """
    trials, best = list(ledger.trials.values()), ledger.best(sweep.objective)
    result = _result(ledger, sweep, best)
    destination = layout.sweep(recipe.name)
    with atomic_directory(destination) as staging:
        shutil.copy2(ledger.directory / "sweep.json", staging)
        _write_table(staging / "trials.csv", trials, sweep)
        if best is not None:
            write_best(staging / "best.yaml", Best.of(ledger.facts, best))
            (staging / "pictures").mkdir()
            pictures.draw(
                staging / "pictures", recipe.name, trials, sweep.dimensions, sweep.objective, best=best, default=default
            )
    files = {str(path.relative_to(destination)): path for path in sorted(destination.rglob("*.*"))}
    numbers = {"images": float(result["images"]), "seconds": result["seconds"], "trials": float(len(trials))}
    if best is not None:
        numbers["best"] = best.value
    tracker.publish(files, metrics=finite(numbers), note=f"```\n{result['text']}\n```")
    return result


def _result(ledger: Ledger, sweep: Sweep, best: Trial | None) -> Result:
    trials, spent = ledger.trials, ledger.spent()
    states = [trial.state for trial in trials.values()]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    base = next((trial for trial in trials.values() if not trial.values and trial.state == "finished"), None)
    name = sweep.objective.name
    lines = [
        f"{sweep.recipe}: {', '.join(f'{count} {state}' for state, count in counts.items())}; "
        f"{spent.images:,} images, {spent.seconds:,.0f} s"
    ]
    if best is None:
        lines.append(f"no trial measured {name}")
    else:
        stated = ", ".join(f"{key} {value}" for key, value in best.values.items()) or "the recipe as it stands"
        lines.append(f"best: trial {best.number}, {name} {best.value:.5g}  ({stated})")
        if base is not None and base.number != best.number:
            lines.append(f"the recipe as it stands: {name} {base.value:.5g}")
        if best.values:
            lines.append(f"`gen adopt {sweep.recipe}` puts it into params.yaml")
    return Result(
        recipe=sweep.recipe,
        directory=str(ledger.directory),
        objective=sweep.objective.as_dict(),
        best=None if best is None else {"trial": best.number, "value": best.value, "values": dict(best.values)},
        default=None if base is None else base.value,
        trials=counts,
        images=spent.images,
        seconds=round(spent.seconds, 1),
        text="\n".join(lines),
    )


def _write_table(path: Path, trials: Sequence[Trial], sweep: Sweep) -> None:
    """One row a trial; a value that is the recipe's own is left empty."""
    columns = ["trial", "state", sweep.objective.name, "images", "seconds", *sweep.space, "error"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for trial in trials:
            facts = {"trial": trial.number, "state": trial.state, sweep.objective.name: trial.value}
            cost = {"images": trial.images, "seconds": round(trial.seconds, 1), "error": trial.error}
            writer.writerow({**facts, **cost, **trial.values})
