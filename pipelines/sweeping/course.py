"""The course of a sweep: what Ray Tune asks and is told, written down as it happens, tracked and shown."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from pipelines.cluster.plan import Outcome
from pipelines.sweeping.ledger import Ledger
from pipelines.sweeping.making import Making
from pipelines.sweeping.search import Search
from pipelines.sweeping.table import LiveTable
from pipelines.sweeping.trial import OVER
from pipelines.tracking.sweeps import SweepTracker


class Course:
    """Steers the trials (see :class:`pipelines.cluster.plan.Steering`).

    Args:
        ledger: the truth.
        search: who proposes trials.
        making: their jobs.
        tracker: MLflow.
        table: the terminal.
        trials: how many there are to be in all.
        seconds: for this session; ``None`` for as many as it takes.
    """

    def __init__(
        self,
        ledger: Ledger,
        search: Search,
        making: Making,
        tracker: SweepTracker,
        table: LiveTable,
        *,
        trials: int,
        seconds: float | None,
    ) -> None:
        self.ledger, self.search, self.making = ledger, search, making
        self.tracker, self.table, self.trials = tracker, table, trials
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.heard: dict[int, float] = {}
        self.waiting = deque(trial for trial in ledger.trials.values() if trial.state not in OVER)
        for trial in ledger.trials.values():
            search.told(trial.number, trial.values, trial.curve, trial.state)
        self._show()

    @property
    def left(self) -> int:
        """Trials that are not over, of those there are and those there may be."""
        return self.trials - sum(trial.state in OVER for trial in self.ledger.trials.values())

    @property
    def late(self) -> bool:
        """Whether the time is used up."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def suggest(self) -> tuple[int, Mapping[str, Any]] | None:
        """See Steering: those that were interrupted, then new ones."""
        if self.waiting:
            trial = self.waiting.popleft()
            return trial.number, trial.values
        number = self.ledger.unused
        values = self.search.suggest(number) if number < self.trials else None
        if values is None:
            return None
        self.ledger.add(number, values)
        self._tell(number)
        return number, values

    def started(self, number: int, values: Mapping[str, Any]) -> None:
        """See Steering."""
        trial = self.ledger.start(number)
        if dict(values) != dict(trial.values):
            self.ledger.changed(number, trial.clock, values)
        self.heard[number] = time.monotonic()
        self.tracker.trial_started(number, self.ledger.place(number), self.making.recipe_of(values), values)
        self._tell(number)

    def measured(self, number: int, images: int, value: float) -> None:
        """See Steering."""
        self.ledger.measured(number, images, value, seconds=self._since(number))
        self._tell(number)

    def ended(self, number: int, outcome: Outcome, error: str) -> None:
        """See Steering."""
        self.ledger.ended(number, outcome, error=error, seconds=self._since(number))
        self.tracker.trial_ended(number)
        self._tell(number)

    def idle(self) -> bool:
        """See Steering."""
        self.table.refresh()
        return self.late

    def close(self, why: str) -> None:
        """Write down that the trials which still run were stopped: they may go on in another session."""
        for number, trial in self.ledger.trials.items():
            if trial.state == "running":
                self.ended(number, "killed", why)

    def _since(self, number: int) -> float:
        """Seconds since a trial was last heard of."""
        now = time.monotonic()
        before = self.heard.get(number, now)
        self.heard[number] = now
        return now - before

    def _tell(self, number: int) -> None:
        """Tell everybody who wants to know how a trial stands."""
        trial = self.ledger[number]
        self.search.told(number, trial.values, trial.curve, trial.state)
        self._show()

    def _show(self) -> None:
        """How the sweep stands."""
        best, spent = self.ledger.best(self.making.sweep.objective), self.ledger.spent()
        ended = sum(each.state in OVER for each in self.ledger.trials.values())
        self.tracker.progress(spent.images, {"ended": float(ended), **({} if best is None else {"best": best.value})})
        self.table.update(self.ledger.trials, best=best, spent=spent)
