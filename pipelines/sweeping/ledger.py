"""The ledger of a sweep: every trial, its values and what was measured, each in a file of its own.

    sweep.json               the facts that make it this sweep and no other
    trials/0007/trial.json   number, values, state, curve, images, seconds, error, history

It is the truth about a sweep; Ray Tune's own state is never read. A trial's values are written before it starts, and
every change of a trial is one file replaced as a whole: whoever is killed, whenever, leaves a ledger that opens and
holds everything it had said was done. Reading needs no lock; one process writes (see :func:`writing_ledger`).

What may follow what:

    waiting -> running -> finished | pruned | failed    for good
                       -> killed -> running             again, in another session
    running -> running                                  whoever ran it was killed
    waiting -> failed | killed                          it never came to run
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from gen.errors import StoreError
from gen.files import digest, read_json, write_json
from gen.recipe import difference
from pipelines.lifeline import sole_writer
from pipelines.sweeping.spaces import Objective
from pipelines.sweeping.trial import Change, State, Trial, place, read_trial

FOLLOWS: Mapping[State, tuple[State, ...]] = {
    "waiting": ("running", "failed", "killed"),
    "running": ("running", "finished", "pruned", "failed", "killed"),
    "finished": (),
    "pruned": (),
    "failed": (),
    "killed": ("running",),
}


class Spent(NamedTuple):
    """What a sweep has cost."""

    images: int
    seconds: float


class Ledger:
    """The trials of a sweep. Opening one reads all of it; changes need :func:`writing_ledger`.

    Args:
        directory: of the sweep.

    Raises:
        StoreError: no sweep, or a file that is damaged or belongs to something else; it names the file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts: Mapping[str, Any] = read_json(directory / "sweep.json")
        if not isinstance(self.facts, Mapping):
            raise StoreError(f"{directory / 'sweep.json'}: damaged, or not of a sweep: found {self.facts!r}.")
        self._trials: dict[int, Trial] = {}
        self._writable = False
        for path in sorted((directory / "trials").glob("*/trial.json")):
            trial = read_trial(path)
            self._trials[trial.number] = trial

    @property
    def trials(self) -> Mapping[int, Trial]:
        """By number, ascending."""
        return MappingProxyType(dict(sorted(self._trials.items())))

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    def place(self, number: int) -> Path:
        """The run directory of a trial."""
        return place(self.directory, number)

    @property
    def unused(self) -> int:
        """The first number without a trial."""
        return next(number for number in range(len(self._trials) + 1) if number not in self._trials)

    # ---- changes -------------------------------------------------------------------------------------------------

    def add(self, number: int, values: Mapping[str, Any]) -> Trial:
        """Record a trial before it starts. Its values stay, whatever a search would say next time."""
        if number in self._trials:
            raise StoreError(f"{self._path(number)}: there is a trial {number} already; a number is given once.")
        return self._put(Trial(number=number, values=dict(values)))

    def start(self, number: int) -> Trial:
        """A trial runs, or runs again."""
        return self._put(replace(self._next(number, "running"), error=""))

    def measured(self, number: int, images: int, value: float, *, seconds: float = 0.0) -> Trial:
        """The objective of a running trial.

        A trial that was interrupted tells again what it had measured: a measurement that is there stays as it is.

        Args:
            number: of the trial.
            images: on the trial's clock.
            value: NaN if it was not finite.
            seconds: worked since the trial was last heard of.
        """
        trial = self._running(number)
        seconds += trial.seconds
        if images <= trial.clock:
            return self._put(replace(trial, seconds=seconds)) if seconds != trial.seconds else trial
        done = trial.images + images - trial.clock
        return self._put(replace(trial, curve=(*trial.curve, (images, value)), images=done, seconds=seconds))

    def changed(self, number: int, images: int, values: Mapping[str, Any], donor: int | None = None) -> Trial:
        """A running trial goes on with other values, from weights of its donor's at ``images``.

        What it had measured beyond was of weights that are gone, and leaves the curve; what it had cost stays.
        """
        trial = self._running(number)
        curve = tuple(point for point in trial.curve if point[0] <= images)
        history = (*trial.history, Change(images, dict(values), donor))
        return self._put(replace(trial, values=dict(values), curve=curve, history=history))

    def ended(self, number: int, state: State, *, error: str = "", seconds: float = 0.0) -> Trial:
        """A trial ended, ``seconds`` after it was last heard of."""
        trial = self._next(number, state)
        return self._put(replace(trial, error=error, seconds=trial.seconds + seconds))

    def _running(self, number: int) -> Trial:
        trial = self._known(number)
        if trial.state != "running":
            raise StoreError(f"{self._path(number)}: the trial is {trial.state}; only a running one can be measured.")
        return trial

    def _next(self, number: int, state: State) -> Trial:
        trial = self._known(number)
        if state not in FOLLOWS[trial.state]:
            raise StoreError(
                f"{self._path(number)}: the trial is {trial.state} and cannot become {state}. "
                f"Allowed: {', '.join(FOLLOWS[trial.state]) or 'nothing, it is over'}."
            )
        return replace(trial, state=state)

    def _known(self, number: int) -> Trial:
        if number not in self._trials:
            raise StoreError(f"{self._path(number)}: there is no trial {number}. Add it before it starts.")
        return self._trials[number]

    def _put(self, trial: Trial) -> Trial:
        """Write, then believe: what is in memory is on the disk."""
        if not self._writable:
            raise StoreError(f"{self.directory}: opened for reading; changes need writing_ledger().")
        write_json(self._path(trial.number), trial.as_dict())
        self._trials[trial.number] = trial
        return trial

    def _path(self, number: int) -> Path:
        return self.place(number) / "trial.json"

    # ---- what came of it -----------------------------------------------------------------------------------------

    def best(self, objective: Objective) -> Trial | None:
        """The best trial so far; ``None`` before anything was measured.

        Trials that finished, which is to say that spent the whole budget, come before all others, by their last
        measurement. Without any, the others are compared by theirs, however early it was: running, killed and pruned
        ones. A trial that failed, or whose last measurement is missing or not finite, never is the best. Of equals the
        first one is.
        """
        measured = [t for t in self.trials.values() if t.state != "failed" and math.isfinite(t.value)]
        return min(measured, key=lambda t: (t.state != "finished", objective.loss(t.value), t.number), default=None)

    def spent(self) -> Spent:
        """What all trials have cost so far, however they ended."""
        trials = self._trials.values()
        return Spent(sum(t.images for t in trials), sum(t.seconds for t in trials))


@contextmanager
def writing_ledger(directory: Path, facts: Mapping[str, Any]) -> Iterator[Ledger]:
    """The ledger of a sweep, made if there is none, to be written by this process alone.

    Args:
        directory: of the sweep.
        facts: JSON-able; what makes it this sweep and no other.

    Raises:
        BusyError: another process writes it.
        StoreError: the directory belongs to another sweep; the message says in what they differ.
    """
    with sole_writer(directory):
        wanted = json.loads(json.dumps(facts))
        path = directory / "sweep.json"
        if not path.exists():
            write_json(path, wanted)
        ledger = Ledger(directory)
        if lines := difference(ledger.facts, wanted):
            raise StoreError(
                f"{path}: this directory belongs to another sweep:\n  " + "\n  ".join(lines) + "\n"
                "Put back what was changed, or move the directory away."
            )
        ledger._writable = True
        try:
            yield ledger
        finally:
            ledger._writable = False


def identity(facts: Mapping[str, Any]) -> str:
    """First 10 hex digits of a digest of the facts of a sweep: what its directory is named after."""
    return digest(json.loads(json.dumps(facts)))[:10]
