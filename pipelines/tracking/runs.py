"""The runs whose directories are here, and what the server believes of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.files import read_json
from gen.train import events
from pipelines.layout import Layout
from pipelines.lifeline import held
from pipelines.tracking.forms import chunks
from pipelines.tracking.record import FILE, LOG, TRIAL, standing
from pipelines.tracking.server import answering, client, tracking_uri

LOCKS = ("writer.lock", "trainer.lock")  # of who drives it, and of who trains it
MARKS = (LOG, FILE, TRIAL, "recipe.json", "sweep.json")  # what makes a directory that of a run
IDS_PER_CALL, RUNS_PER_CALL = 100, 1000


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose directory is here.

    Attributes:
        name: its directory below ``runs/``.
        kind: ``run``, ``sweep`` or ``trial``.
        state: ``running``, ``interrupted`` (its process is gone, the same command goes on), ``waiting``, or how it
            ended: ``finished``, ``pruned``, ``failed``, ``killed``.
        alive: whether a process holds its directory.
        images: the clock.
        budget: where it ends; ``None`` if unknown.
        score: what was measured last on the validation split.
        started: seconds since the epoch; ``None`` if it has not begun.
        unsent: events that the server has not been told.
        run_id: the MLflow run; empty if there is none.
        status: what the server believes of it; empty if it was not asked, or does not know it.
    """

    name: str
    kind: str
    state: str
    alive: bool
    images: int
    budget: int | None
    score: tuple[str, float] | None
    started: float | None
    unsent: int
    run_id: str
    status: str = ""


def directories(layout: Layout) -> list[Path]:
    """Run directories, sweeps before their trials."""
    runs = layout.root / "runs"
    found = [*runs.glob("*/"), *runs.glob("sweeps/*/"), *runs.glob("sweeps/*/trials/*/")]
    return sorted(path for path in found if any((path / mark).exists() for mark in MARKS))


def alive(run_dir: Path) -> bool:
    """Whether a process holds a run directory."""
    return any(held(run_dir, name) for name in LOCKS)


def in_use(run_dir: Path) -> str:
    """Who keeps a run up to date, as a reason to leave it alone; empty if nobody does."""
    if alive(run_dir):
        return "its process is running"
    if (run_dir / TRIAL).exists() and alive(run_dir.parents[1]):
        return "its sweep is running"
    return ""


def local(layout: Layout, pattern: str = "*") -> list[Run]:
    """The runs here whose names match a pattern, as :mod:`fnmatch` understands it; the server is not asked."""
    uri = tracking_uri(layout.root)
    named = {str(path.relative_to(layout.root / "runs")): path for path in directories(layout)}
    return [_look(name, path, uri) for name, path in named.items() if fnmatch.fnmatch(name, pattern)]


def statuses(layout: Layout, run_ids: Sequence[str]) -> dict[str, str]:
    """What the server believes of some MLflow runs. Raises :class:`TrackingError`."""
    known: dict[str, str] = {}
    with answering(tracking_uri(layout.root)):
        for some in chunks(run_ids, IDS_PER_CALL):
            listed = ", ".join(f"'{run_id}'" for run_id in some)
            known |= {run.info.run_id: run.info.status for run in search(client(layout.root), f"run_id IN ({listed})")}
    return known


def _look(name: str, run_dir: Path, uri: str) -> Run:
    """What a run directory tells of itself."""
    log, _ = events.read(run_dir / LOG)
    told, living = standing(run_dir, uri), alive(run_dir)
    trial = read_json(run_dir / TRIAL) if (run_dir / TRIAL).exists() else None
    if living:
        state = "running"
    elif trial is not None:
        state = trial["state"] if trial["state"] != "running" else "interrupted"
    elif (log and log[-1]["kind"] == "end") or (run_dir / "final").exists():
        state = "finished"
    else:
        state = "failed" if told.word == "failed" else "interrupted"
    recipe = read_json(run_dir / "recipe.json") if (run_dir / "recipe.json").exists() else None
    measured = [event for event in log if event["kind"] in ("validation", "sweep") and event["values"]]
    return Run(
        name=name,
        kind="trial" if trial is not None else "sweep" if (run_dir / "sweep.json").exists() else "run",
        state=state,
        alive=living,
        images=log[-1]["images"] if log else 0,
        budget=None if recipe is None else recipe["training"]["images"],
        score=next(reversed(measured[-1]["values"].items())) if measured else None,
        started=log[0]["time"] if log else None,
        unsent=told.unsent,
        run_id=told.run_id,
    )


def search(connection: Any, which: str) -> Iterator[Any]:
    """MLflow's runs that a filter lets through, in all experiments."""
    experiments, token = [], None
    while True:
        page = connection.search_experiments(page_token=token)
        experiments += [each.experiment_id for each in page]
        if not (token := page.token):
            break
    while True:
        page = connection.search_runs(experiments, which, max_results=RUNS_PER_CALL, page_token=token)
        yield from page
        if not (token := page.token):
            return
