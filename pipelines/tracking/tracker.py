"""Who calls the mirror: training as it goes on, and afterwards evaluation and ``gen runs sync``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gen.errors import PreemptedError
from gen.files import digest, finite
from gen.recipe import Recipe
from pipelines.layout import Layout
from pipelines.tracking.courier import Courier
from pipelines.tracking.forms import accepted, table
from pipelines.tracking.mirror import Mirror, speaking
from pipelines.tracking.provenance import Dataset, Description, provenance
from pipelines.tracking.record import Record, Status
from pipelines.tracking.server import TrackingError


class Tracker(Courier):
    """Follows the event log of one run in a thread of the driver process and keeps its MLflow run up to date.

    Args:
        root: of the project.
        run_dir: where ``events.jsonl`` is, or will be.
        description: the run; if the directory has a run on this server already, it goes on.
    """

    def __init__(self, root: Path, run_dir: Path, description: Description) -> None:
        super().__init__(root)
        self._mirror = Mirror(root, run_dir, description)
        self.follow(self._mirror, system=True)

    def finish(self, status: Status, *, deadline: float = 20.0) -> bool:
        """Send the rest and close the run; whether everything arrived within ``deadline`` seconds."""
        self.close(self._mirror, status)
        return self.stop(deadline)


@contextmanager
def track_training(layout: Layout, run_dir: Path, recipe: Recipe, *, data: str, code: str) -> Iterator[Tracker]:
    """Track what happens inside: the run ends as the block does.

    Args:
        layout: of the project.
        run_dir: of the training.
        recipe: what is trained; its data set is the experiment.
        data: digest of the manifest of the shards.
        code: digest of the code that decides what the model becomes.
    """
    tracker = Tracker(layout.root, run_dir, describe(layout, run_dir, recipe.as_dict(), data=data, code=code))
    with ending_as(tracker.finish):
        yield tracker


@contextmanager
def ending_as(finish: Callable[[Status], object]) -> Iterator[None]:
    """Calls ``finish`` with how the block ended."""
    status: Status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (PreemptedError, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        finish(status)


def adopt(layout: Layout, run_dir: Path, meta: Mapping[str, Any]) -> None:
    """Describe a run that was trained elsewhere; whoever sends it next sends that too.

    Args:
        layout: of the project.
        run_dir: where its event log is, or will be.
        meta: of the model it became (``model.json``).
    """
    described = describe(layout, run_dir, meta["recipe"], data=meta["data"], code=meta["code"])
    tags = {**described.tags, "gen.trained": "elsewhere", "version.torch": meta["torch"]}
    with Record(layout.root, run_dir, replace(described, tags=tags)):
        pass


def describe(layout: Layout, run_dir: Path, recipe: Mapping[str, Any], *, data: str, code: str) -> Description:
    """Of a run that trains a recipe on the shards of its data set."""
    dataset = recipe["dataset"]
    return Description(
        experiment=dataset,
        run_name=recipe["name"],
        params=recipe,
        tags={
            **provenance(layout.root),
            "gen.recipe": digest(recipe)[:10],
            "gen.code": code,
            "gen.run": run_dir.name,
        },
        dataset=Dataset(name=dataset, digest=data, source=str(layout.shards(dataset).relative_to(layout.root))),
    )


def sync(root: Path, run_dir: Path) -> int:
    """Send what a run's server has not been told, and close the run; returns the number of events sent.

    Raises:
        BusyError: its training is running and sends them itself.
        TrackingError: the server cannot be reached.
    """
    with speaking(Mirror(root, run_dir)) as mirror:
        return mirror.send(mirror.record.outcome)


def log_evaluation(
    root: Path, run_dir: Path, metrics: Mapping[str, float], pictures: Mapping[str, Path], card: Path
) -> str | None:
    """Attach results to the MLflow run of a training: metrics ``eval/<name>``, also as its description, and files.

    They are written down first, so a server that is away gets them from :func:`sync`.

    Args:
        root: of the project.
        run_dir: of the training.
        metrics: results; those that are not finite are left out.
        pictures: by name; PNG files.
        card: a file with everything that was measured.

    Returns:
        What kept them from being sent, in one line; ``None`` if they were.
    """

    kept = finite(metrics)
    files = {f"evaluation/{accepted(name)}.png": path for name, path in pictures.items()}
    try:
        with speaking(Mirror(root, run_dir)) as mirror:
            mirror.record.attach(
                "evaluation",
                metrics={f"eval/{name}": value for name, value in kept.items()},
                files={**files, f"evaluation/{card.name}": card},
                note=table(kept),
            )
            mirror.send(mirror.record.outcome)
    except TrackingError as error:
        return str(error)
    return None
