"""What a sweep asks of a cluster, and what it is asked and told while its trials run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.cluster.job import Job
from pipelines.params import Resources

Scheduler = Literal["asha", "median", "pbt", "none"]
Outcome = Literal["finished", "pruned", "failed", "killed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How the trials of a sweep are run.

    Attributes:
        job: the job of a trial, from its number and its values; picklable.
        score: the objective's name in the record of a run.
        mode: whether more or less of it is better.
        every: images between two measurements.
        budget: images of a trial that is not stopped early.
        scheduler: who stops trials: see :func:`pipelines.cluster.schedulers.make_scheduler`.
        mutations: what population-based training may change: by key a list to choose from, or what draws a value.
        tidy: brings values that it changed back into their ranges.
        seed: of the scheduler.
        resources: of one trial: workers, threads, retries, and the cluster's address.
        gpus: GPUs of a trial of one worker; may be a fraction.
        concurrent: trials at a time; ``None`` for as many as the cluster holds.
        scratch: directory for what Tune keeps while it runs; emptied before.
    """

    job: Callable[[int, Mapping[str, Any]], Job]
    score: str
    mode: Literal["min", "max"]
    every: int
    budget: int
    scheduler: Scheduler
    mutations: Mapping[str, Sequence[Any] | Callable[[], Any]]
    tidy: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    seed: int
    resources: Resources
    gpus: float
    concurrent: int | None
    scratch: Path

    @property
    def workers(self) -> int:
        """Of one trial."""
        return self.resources.span[1]


@dataclass(frozen=True, slots=True)
class Past:
    """A trial that ended in an earlier session: schedulers compare new ones with it."""

    number: int
    curve: Sequence[tuple[int, float]]


class Steering(Protocol):
    """Who knows the sweep; called in the driver alone, by one thread."""

    def suggest(self) -> tuple[int, Mapping[str, Any]] | None:
        """The next trial that should run, by number and values; ``None`` when there is none."""
        ...

    def started(self, number: int, values: Mapping[str, Any]) -> None:
        """A trial runs, or runs again; its values may be others than before (population-based training)."""
        ...

    def measured(self, number: int, images: int, value: float) -> None:
        """The objective of a trial; may be told again after a restart."""
        ...

    def ended(self, number: int, outcome: Outcome, error: str) -> None:
        """A trial ended. ``killed`` ones may be started again in another session."""
        ...

    def idle(self) -> bool:
        """Called about ten times a second; whether all trials should stop now."""
        ...
