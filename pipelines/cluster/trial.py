"""One trial of a sweep, wherever it runs: trains in a thread, one measurement of the objective at a time.

The run directory is the truth. A trial that is started again first tells what its record holds already, and training
goes on from its newest checkpoint; so a trial may be stopped, killed or moved to another node at any moment.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from gen.data.manifest import manifest_digest
from gen.errors import PreemptedError, TrainingError
from gen.train import checkpoint
from gen.train.context import ProcessContext
from gen.train.events import EventLog, read
from pipelines.cluster.job import Job

POLL_S = 0.05
GRACE_S = 60.0


class Measured(NamedTuple):
    """The objective at one point of the clock."""

    images: int
    value: float


class Gate(ProcessContext):
    """The surroundings of a trial in this process: after each measurement it waits until it is let on.

    So a scheduler decides about a trial before the trial spends more images.
    """

    def __init__(self, budget: int) -> None:
        super().__init__()
        self.budget = budget
        self._passed = 0
        self._changed = threading.Condition()

    def report(self, images: int, metrics: Mapping[str, float]) -> None:
        """Wait here until :meth:`let_on` to these images, or until asked to stop. The end needs no leave."""
        with self._changed:
            self._changed.wait_for(lambda: images <= self._passed or images >= self.budget or self.stop.is_set())

    def let_on(self, images: int) -> None:
        """Training may go beyond the measurement at ``images``."""
        with self._changed:
            self._passed = max(self._passed, images)
            self._changed.notify_all()

    def end(self) -> None:
        """Ask training to save a checkpoint and end."""
        self.stop.set()
        with self._changed:
            self._changed.notify_all()


class Trial:
    """Steps through the measurements of one job.

    Args:
        job: with an examination that measures ``score``.
        score: the objective's name in the record of the run.
        train: trains the job, here or through workers of its own, until the end or until the gate's ``stop``.
    """

    def __init__(self, job: Job, score: str, train: Callable[[Job, Gate], None]) -> None:
        self.job, self.score = job, score
        self.gate = Gate(job.recipe.training.images)
        self._train = train
        self._log = job.directory / "events.jsonl"
        self._offset = 0
        self._told = 0
        self._known: deque[Measured] = deque()
        self._thread: threading.Thread | None = None
        self._outcome: list[BaseException] = []

    def step(self) -> Measured | None:
        """Train to the next measurement; ``None`` when training was stopped before there was one.

        The measurement at the end of the budget is told when the trained model has been written.

        Raises:
            GenError: training failed for good.
            Exception: it failed otherwise, and may be tried again.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
            self._thread.start()
        self.gate.let_on(self._told)
        while True:
            ended = not self._thread.is_alive()  # asked before reading: what it wrote last is read
            self._read()
            if self._known:
                measured = self._known.popleft()
                self._told = measured.images
                if measured.images >= self.gate.budget:
                    self._thread.join()
                    self._raise()
                return measured
            if ended:
                self._raise()
                return None
            self._thread.join(POLL_S)

    def _run(self) -> None:
        try:
            self._train(self.job, self.gate)
        except BaseException as error:
            self._outcome.append(error)

    def _raise(self) -> None:
        if self._outcome and not isinstance(self._outcome[0], PreemptedError):
            raise self._outcome[0]

    def _read(self) -> None:
        events, self._offset = read(self._log, self._offset)
        for event in events:
            if event["kind"] == "validation" and event["images"] > self._told:
                if self.score not in event["values"]:
                    raise TrainingError(
                        f"{self.job.recipe.name}: the objective {self.score} is not finite at {event['images']} images."
                    )
                self._known.append(Measured(event["images"], event["values"][self.score]))

    def stop(self) -> None:
        """End training, which saves a checkpoint, and wait for that."""
        self.gate.end()
        if self._thread is not None:
            self._thread.join(GRACE_S)

    # ---- population-based training ---------------------------------------------------------------------------------

    def give(self, directory: Path) -> None:
        """Copy the checkpoint of the last measurement to ``directory/checkpoint``, for whichever trial goes on from it.

        A measurement is recorded before its checkpoint is written, and may be told before that. Where there is none at
        a measurement, it is the newest that there is.

        Raises:
            TrainingError: there is none at all.
        """
        place, deadline = self.job.directory / "checkpoints", time.monotonic() + GRACE_S
        while not (found := checkpoint.saved(place)) or int(found[-1].name) < self._told:
            if self._thread is None or not self._thread.is_alive() or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        if not found:
            raise TrainingError(f"{place}: there is no checkpoint to go on from.")
        shutil.copytree(found[-1], directory / "checkpoint")

    def take(self, directory: Path) -> None:
        """Go on from what :meth:`give` left, with this trial's own recipe. Call it before the first step."""
        job = self.job
        belongs = checkpoint.identity(job.recipe, data=manifest_digest(job.data), code=job.code)
        taken = checkpoint.transplant(directory / "checkpoint", job.directory / "checkpoints", recipe=belongs)
        self._told = int(taken.name)
        log = EventLog(self._log)
        log.append("transplant", self._told)  # what is recorded after it is news, whatever was recorded before
        log.close()
        self._offset = self._log.stat().st_size
