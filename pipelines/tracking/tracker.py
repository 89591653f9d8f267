"""Who calls the mirror: a thread beside training, and afterwards evaluation and ``gen sync``."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gen.errors import PreemptedError
from gen.files import finite
from gen.recipe import Recipe
from pipelines.layout import Layout
from pipelines.tracking.mirror import Mirror, speaking
from pipelines.tracking.provenance import Dataset, Description, provenance
from pipelines.tracking.record import Record, Status
from pipelines.tracking.server import TrackingError, reason, shown

POLL_S, LONGEST_PAUSE_S, SYSTEM_S = 1.0, 60.0, 10.0


class Tracker:
    """Follows the event log of one run in a thread of the driver process and keeps its MLflow run up to date.

    Nothing here raises or waits while training runs. What goes wrong is remembered in ``problem`` and tried again,
    ever more rarely; what could not be sent stays in the event log.

    Args:
        root: of the project.
        run_dir: where ``events.jsonl`` is, or will be.
        description: the run; if the directory has a run on this server already, it goes on.

    Attributes:
        problem: what is wrong now, in one line; ``None`` if all is well.
    """

    def __init__(self, root: Path, run_dir: Path, description: Description) -> None:
        self.problem: str | None = None
        self._mirror = Mirror(root, run_dir, description)
        self._stop = threading.Event()
        self._status: Status | None = None
        self._thread = threading.Thread(target=self._follow, name="tracker", daemon=True)
        self._thread.start()

    def finish(self, status: Status, *, deadline: float = 20.0) -> bool:
        """Send the rest and close the run; whether everything arrived within ``deadline`` seconds."""
        self._status = status
        self._stop.set()
        self._thread.join(deadline)
        if self._thread.is_alive():
            self.problem = self.problem or f"MLflow at {shown(self._mirror.uri)}: still sending after {deadline:g} s"
        return self.problem is None

    def _follow(self) -> None:
        mirror, pause, measured, opened = self._mirror, 0.0, time.monotonic(), False
        with ExitStack() as held:
            while True:
                stopping = self._stop.wait(pause)
                try:
                    if not opened:
                        held.enter_context(mirror)
                        opened = True
                    mirror.send(self._status if stopping else None)
                    if not stopping and time.monotonic() - measured >= SYSTEM_S:
                        measured = time.monotonic()
                        mirror.send_system()
                    self.problem, pause = None, POLL_S
                except Exception as error:  # whatever it is, training matters more
                    self.problem = f"MLflow at {shown(mirror.uri)}: {reason(error)}"
                    pause = min(max(2 * pause, POLL_S), LONGEST_PAUSE_S)
                if stopping:
                    return


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
    described = _description(layout, run_dir, recipe.as_dict(), data=data, code=code)
    tracker = Tracker(layout.root, run_dir, described)
    status: Status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except (PreemptedError, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)


def adopt(layout: Layout, run_dir: Path, meta: Mapping[str, Any]) -> None:
    """Describe a run that was trained elsewhere; whoever sends it next sends that too.

    Args:
        layout: of the project.
        run_dir: where its event log is, or will be.
        meta: of the model it became (``model.json``).
    """
    described = _description(layout, run_dir, meta["recipe"], data=meta["data"], code=meta["code"])
    tags = {**described.tags, "gen.trained": "elsewhere", "version.torch": meta["torch"]}
    with Record(layout.root, run_dir, replace(described, tags=tags)):
        pass


def _description(layout: Layout, run_dir: Path, recipe: Mapping[str, Any], *, data: str, code: str) -> Description:
    """Of a run that trains a recipe on the shards of its data set."""
    dataset = recipe["dataset"]
    return Description(
        experiment=dataset,
        run_name=recipe["name"],
        params=recipe,
        tags={**provenance(layout.root), "gen.code": code, "gen.run": run_dir.name},
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

    def relative(path: Path) -> str:
        return os.path.relpath(path, root)

    try:
        with speaking(Mirror(root, run_dir)) as mirror:
            mirror.record.evaluated(
                metrics=finite(metrics),
                pictures={name: relative(path) for name, path in pictures.items()},
                card=relative(card),
            )
            mirror.send(mirror.record.outcome)
    except TrackingError as error:
        return str(error)
    return None
