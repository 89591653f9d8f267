"""A sweep in MLflow: one run for the sweep, and below it one for every trial."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gen.files import digest, finite
from gen.recipe import Recipe
from gen.train.events import EventLog, read
from pipelines.layout import Layout
from pipelines.tracking.courier import Courier
from pipelines.tracking.forms import flat
from pipelines.tracking.mirror import Mirror
from pipelines.tracking.record import FILE, LOG, TRIAL_STATUS, Record, Status, standing
from pipelines.tracking.server import tracking_uri
from pipelines.tracking.tracker import describe, ending_as


class SweepTracker(Courier):
    """Keeps the runs of a sweep up to date, as :class:`pipelines.tracking.Tracker` does with one, all in one thread.

    The sweep's run follows an event log of the sweep's own; its clock is the images spent on all trials together. A
    trial's run follows the event log that its training writes, wherever that runs. How a trial ended is read in its
    ``trial.json``, so it makes no difference who closes its run: this tracker, the one of the resumed sweep, or
    ``gen runs reap``.

    Args:
        layout: of the project.
        directory: of the sweep; its trials are below ``trials/``.
        recipe: what is varied.
        facts: what is searched and how (``sweep.json``): the params of the sweep's run.
        data: digest of the manifest of the shards.
        code: digest of the code that decides what the models become.
    """

    def __init__(
        self, layout: Layout, directory: Path, *, recipe: Recipe, facts: Mapping[str, Any], data: str, code: str
    ) -> None:
        super().__init__(layout.root)
        self._root, self._directory, self._name = layout.root, directory, recipe.name
        described = describe(layout, directory, recipe.as_dict(), data=data, code=code)
        self._described = replace(described, run_name=f"sweep {recipe.name}", params=facts, document="sweep.json")
        events, _ = read(directory / LOG)
        self._images: int = events[-1]["images"] if events else 0
        self._said = next((event["values"] for event in reversed(events) if event["kind"] == "sweep"), None)
        self._log = EventLog(directory / LOG)
        self._log.append("start", self._images, resumed=self._images, pid=os.getpid())
        self._trials: dict[int, Mirror] = {}
        self._mirror = Mirror(layout.root, directory, self._described)
        self.follow(self._mirror, system=True)
        self._close_those("finished", "pruned")

    def trial_started(self, number: int, run_dir: Path, recipe: Recipe, values: Mapping[str, Any]) -> None:
        """A trial starts, or goes on, perhaps with other values: its run is RUNNING.

        Args:
            number: of the trial.
            run_dir: of its training.
            recipe: what it trains: the params of its run.
            values: what was varied: tags, so that the page can show those alone.
        """
        plain = recipe.as_dict()
        tags = {
            **self._described.tags,
            "gen.recipe": digest(plain)[:10],
            "gen.run": run_dir.name,
            "gen.sweep": self._directory.name,
            "gen.trial": str(number),
            **{f"gen.value.{key}": value for key, value in flat(values)},
        }
        described = replace(
            self._described,
            run_name=f"{self._name}/{number:04d}",
            params=plain,
            tags=tags,
            document="recipe.json",
            parent=os.path.relpath(self._directory, run_dir),
        )
        if not (run_dir / FILE).exists():  # at once: were this process killed now, another one must know of the trial
            with Record(self._root, run_dir, described):
                pass
        self._trials[number] = Mirror(self._root, run_dir, described)
        self.follow(self._trials[number])

    def trial_ended(self, number: int) -> None:
        """A trial is over; its ``trial.json`` says how."""
        if (mirror := self._trials.pop(number, None)) is not None:
            self.close(mirror)

    def progress(self, images: int, values: Mapping[str, float]) -> None:
        """How far the sweep is: metrics ``sweep/<name>`` of its run.

        Args:
            images: spent on all trials together.
            values: e.g. the best objective so far, the number of trials that are done.
        """
        kept = finite(values)
        if images > self._images or kept != self._said:  # a resumed sweep says again what it knew
            self._images, self._said = max(images, self._images), kept
            self._log.metrics("sweep", self._images, kept)

    def publish(self, files: Mapping[str, Path], *, metrics: Mapping[str, float], note: str) -> None:
        """Results for the sweep's run; they replace what was published before.

        Args:
            files: where they go among its artifacts (``trials.csv``, ``pictures/history.png``), and where they are.
            metrics: ``sweep/<name>``: the best objective, the cost in images and seconds.
            note: Markdown, shown as the description of the run.
        """
        named = {f"sweep/{name}": value for name, value in finite(metrics).items()}
        self.attach(self._mirror, "sweep", metrics=named, files=files, note=note)

    def finish(self, status: Status, *, deadline: float = 60.0) -> bool:
        """Close the run of the sweep, and those of all its trials: as they ended, whoever ran them.

        Args:
            status: how the sweep ended.
            deadline: seconds to wait for the server.

        Returns:
            Whether everything arrived.
        """
        for number in list(self._trials):
            self.trial_ended(number)
        self._close_those(*TRIAL_STATUS)
        if status == "FINISHED":
            self._log.append("end", self._images)
        self._log.close()
        self.close(self._mirror, status)
        return self.stop(deadline)

    def _close_those(self, *words: str) -> None:
        """Send what an earlier process left unsaid of trials that ended so."""
        uri = tracking_uri(self._root)
        mine = {mirror.run_dir for mirror in self._trials.values()}
        for run_dir in sorted(path.parent for path in (self._directory / "trials").glob(f"*/{FILE}")):
            known = standing(run_dir, uri)
            if run_dir not in mine and known.word in words and not known.complete:
                self.close(Mirror(self._root, run_dir))


@contextmanager
def track_sweep(
    layout: Layout, directory: Path, *, recipe: Recipe, facts: Mapping[str, Any], data: str, code: str
) -> Iterator[SweepTracker]:
    """Track what happens inside: the sweep's run ends as the block does. Arguments as :class:`SweepTracker`."""
    tracker = SweepTracker(layout, directory, recipe=recipe, facts=facts, data=data, code=code)
    with ending_as(tracker.finish):
        yield tracker
