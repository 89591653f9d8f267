"""Many jobs through Ray Tune: a sweep's trials, run, compared while they run, and stopped early.

Tune decides who runs where and who is stopped; what it knows is thrown away. The truth about a sweep is with whoever
steers it (:class:`Steering`), in the driver: it says which trial comes next, is told every measurement, and can start
again at any moment, because a trial that is started again tells what it had measured before (see trial.py). So none of
Tune's own pickled state is ever read.

A trial of one worker trains in the process that Tune gives it. One of several workers runs Ray Train from there: its
own process needs a sliver of a CPU and each worker a little less than a whole one, so what is promised always fits.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from gen.errors import GenError, RecipeError
from gen.train.context import stop_on_signal
from pipelines.cluster.connection import connect, quiet_environment
from pipelines.cluster.job import Job
from pipelines.cluster.training import ask_to_stop, train_here, train_with_workers
from pipelines.cluster.trial import Gate, Measured, Trial
from pipelines.params import Resources

Scheduler = Literal["asha", "median", "pbt", "none"]
Outcome = Literal["finished", "pruned", "failed", "killed"]
POLL_S = 0.5
SLIVER = 0.05  # CPUs of the process that drives a trial's workers
WORKER = 0.9  # CPUs of each of those workers
REDUCTION = 3  # ASHA keeps the best third at each rung
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # state that is never read
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that was stopped has nothing to say
    "TUNE_WARN_THRESHOLD_S": "1000",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How the trials of a sweep are run.

    Attributes:
        job: the job of a trial, from its number and its values; picklable.
        score: the objective's name in the record of a run.
        mode: whether more or less of it is better.
        every: images between two measurements.
        budget: images of a trial that is not stopped early.
        scheduler: who stops trials: see :func:`_scheduler`.
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


def run_trials(plan: Plan, steering: Steering, *, count: int, past: Sequence[Past] = ()) -> bool:
    """Run up to ``count`` trials to their ends.

    SIGTERM and SIGINT end all trials, each with a checkpoint saved.

    Returns:
        Whether the trials were stopped before that, by a signal or because ``idle`` said so.

    Raises:
        RecipeError: a trial needs more than the cluster has.
    """
    with _cluster(plan) as concurrent:
        stop = threading.Event()
        outcome: list[BaseException] = []

        def run() -> None:
            try:
                _tune(plan, steering, stop, concurrent=concurrent, count=count, past=past)
            except BaseException as error:
                outcome.append(error)

        with stop_on_signal(stop):
            thread = threading.Thread(target=run, name="ray-tune", daemon=True)
            thread.start()
            while thread.is_alive():
                thread.join(POLL_S)
        if outcome:
            raise outcome[0]
        return stop.is_set()


@contextmanager
def _cluster(plan: Plan) -> Any:
    """A cluster for the plan; gives the number of trials it holds at a time."""
    cores = len(os.sched_getaffinity(0))
    asked = plan.concurrent or 1
    needed = plan.resources.threads if plan.workers < 2 else plan.workers
    ours = connect(plan.resources, cpus=max(cores, asked * needed))
    import ray

    try:
        yield min(filter(None, (_capacity(plan, ray.nodes()), plan.concurrent)))
    finally:
        if ours:
            ray.shutdown()


def _capacity(plan: Plan, nodes: Sequence[Mapping[str, Any]]) -> int:
    """Trials that fit on the living nodes at a time.

    Workers of one trial may be on several nodes, but each is whole on one: so many slots there are.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = (sum(node.get(kind, 0) for node in alive) for kind in ("CPU", "GPU"))
    if plan.workers < 2:
        threads = plan.resources.threads
        fits = sum(int(node.get("CPU", 0) // threads) for node in alive)
        if plan.gpus:
            fits = min(fits, int(gpus / plan.gpus))
        needs = f"{threads} CPU(s) on one node and {plan.gpus:g} GPU(s)"
    else:
        fits = sum(int(node.get("CPU", 0)) for node in alive) // plan.workers
        if plan.resources.gpu == "yes":
            fits = min(fits, int(gpus // plan.workers))
        needs = f"{plan.workers} workers of one CPU{' and one GPU' if plan.resources.gpu == 'yes' else ''} each"
    if fits < 1:
        raise RecipeError(
            f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs on {len(alive)} node(s), and one trial needs {needs}. "
            "Add nodes, or ask for less with --workers-per-trial, --gpus-per-trial or resources.threads."
        )
    return fits


# ---- Tune --------------------------------------------------------------------------------------------------------


def _tune(
    plan: Plan, steering: Steering, stop: threading.Event, *, concurrent: int, count: int, past: Sequence[Past]
) -> None:
    """Ray Tune from here on; a function of its own, because Ray is imported late."""
    os.environ.update(ENVIRONMENT)
    quiet_environment()
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's error goes to the ledger, without a traceback
    random.seed(plan.seed)  # population-based training draws from both
    np.random.seed(plan.seed)  # noqa: NPY002
    scheduler = _scheduler(plan, synchronous=concurrent < count)
    _remember(scheduler, past)
    shutil.rmtree(plan.scratch, ignore_errors=True)
    several = plan.workers >= 2
    asks = {"CPU": SLIVER} if several else {"CPU": plan.resources.threads, "GPU": plan.gpus}
    trainable = tune.with_resources(tune.with_parameters(_trainable(), plan=plan), asks)
    tune.run(  # not Tuner, which pickles the steering
        trainable,
        name="tune",
        storage_path=str(plan.scratch),
        scheduler=scheduler,
        **_trials(plan, steering, count),
        max_concurrent_trials=None if plan.scheduler == "pbt" else concurrent,  # a population must be there as a whole
        max_failures=plan.resources.max_failures,
        stop=_stopper(steering, stop),
        callbacks=[_listener(steering, stop, plan.budget)],
        reuse_actors=not several,  # a trial in its own process is gone when the next one starts there
        trial_name_creator=lambda trial: str(trial.config["trial"]["number"]),
        trial_dirname_creator=lambda trial: trial.trial_id,
        raise_on_failed_trial=False,
        verbose=0,
    )


def _scheduler(plan: Plan, *, synchronous: bool) -> Any:
    """Who decides about running trials.

    ``asha`` (Li et al. 2020): at rungs ``every * 3^k`` a trial goes on if it is among the best third of those that got
    there. ``median`` (Golovin et al. 2017): a trial stops if its best is worse than the median of the others' means.
    ``pbt`` (Jaderberg et al. 2017): after ``every`` images the worst quarter go on from the weights of the best, with
    values changed a little. ``none``: every trial spends the whole budget.
    """
    from ray.tune.schedulers import (
        AsyncHyperBandScheduler,
        FIFOScheduler,
        MedianStoppingRule,
        PopulationBasedTraining,
    )

    common = {"time_attr": "images", "metric": "objective", "mode": plan.mode}
    match plan.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                **common, max_t=plan.budget, grace_period=plan.every, reduction_factor=REDUCTION
            )
        case "median":
            return MedianStoppingRule(**common, grace_period=plan.every)
        case "pbt":
            return PopulationBasedTraining(
                **common,
                perturbation_interval=plan.every,
                hyperparam_mutations={"trial": {"values": dict(plan.mutations)}},
                custom_explore_fn=lambda config: _tidied(config["trial"], plan.tidy),
                synch=synchronous,  # members that cannot all run at once take turns
            )
    return FIFOScheduler()


def _tidied(trial: Mapping[str, Any], tidy: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    return {"trial": {**trial, "values": dict(tidy(trial["values"]))}}


@dataclass(frozen=True, slots=True)
class _Stand:
    """In the place of a Tune trial of an earlier session."""

    trial_id: str


def _remember(scheduler: Any, past: Sequence[Past]) -> None:
    """Tell a scheduler that compares trials what earlier ones measured."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

    if not isinstance(scheduler, AsyncHyperBandScheduler | MedianStoppingRule):
        return
    for trial in past:
        stand = _Stand(f"past-{trial.number}")
        scheduler.on_trial_add(None, stand)
        for images, value in trial.curve:
            scheduler.on_trial_result(None, stand, {"images": images, "objective": value})
        if trial.curve:
            images, value = trial.curve[-1]
            scheduler.on_trial_complete(None, stand, {"images": images, "objective": value})


def _trials(plan: Plan, steering: Steering, count: int) -> dict[str, Any]:
    """The trials as Tune wants them: a population all at once, others one by one when there is room.

    A trial's configuration is ``{"trial": {"number": ..., "values": {...}}}``. The number becomes its name in Tune, and
    is read from there ever after: a member of a population takes over the whole configuration of a better one.
    """
    from ray import tune
    from ray.tune.search import Searcher

    def suggest() -> dict[str, Any] | None:
        found = steering.suggest()
        return None if found is None else {"number": found[0], "values": dict(found[1])}

    if plan.scheduler == "pbt":  # it takes no search algorithm
        return {"config": {"trial": tune.grid_search(list(islice(iter(suggest, None), count)))}}

    class Suggestions(Searcher):
        def suggest(self, trial_id: str) -> Any:
            trial = suggest()
            return Searcher.FINISHED if trial is None else {"trial": trial}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """The listener tells."""

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger knows."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the ledger knows."""

    return {"search_alg": Suggestions(), "num_samples": count}


def _stopper(steering: Steering, stop: threading.Event) -> Any:
    """What Tune asks whether to end everything."""
    from ray.tune import Stopper

    class Asked(Stopper):
        def __init__(self, asked: Callable[[], bool]) -> None:
            self.asked = asked

        def __getstate__(self) -> dict[str, Any]:  # Tune pickles it together with its own state
            return {}

        def __call__(self, trial_id: str, result: Any) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.asked()

    def asked() -> bool:
        if steering.idle():
            stop.set()
        return stop.is_set()

    return Asked(asked)


def _listener(steering: Steering, stop: threading.Event, budget: int) -> Any:
    """What Tune tells about its trials."""
    from ray.tune import Callback

    class Listener(Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            steering.started(int(str(trial)), trial.config["trial"]["values"])

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if "images" in result:
                steering.measured(int(str(trial)), result["images"], result["objective"])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            last = trial.last_result or {}
            if error := last.get("error"):
                outcome: Outcome = "failed"
            elif last.get("images", 0) >= budget:
                outcome = "finished"
            else:
                outcome = "killed" if stop.is_set() or last.get("stopped") else "pruned"
            steering.ended(int(str(trial)), outcome, error or "")

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            text = str(trial.get_error() or "its process was lost more often than allowed")
            steering.ended(int(str(trial)), "failed", text.strip().splitlines()[-1])

    return Listener()


def _trainable() -> type:
    """The class of which Tune makes one object a trial, on some node."""
    from ray import tune

    class TuneTrial(tune.Trainable):
        def setup(self, config: dict[str, Any], plan: Plan) -> None:
            self.plan = plan
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.cleanup()
            job = self.plan.job(int(self.trial_name), new_config["trial"]["values"])
            self.trial = Trial(job, self.plan.score, _trainer(self.plan))
            return True

        def step(self) -> dict[str, Any]:
            try:
                measured = self.trial.step()
            except GenError as error:  # what trying again cannot change
                return {"done": True, "error": str(error)}
            if measured is None:
                return {"done": True, "stopped": True}
            return {**_told(measured), "done": measured.images >= self.plan.budget}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            self.trial.give(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.trial.take(Path(checkpoint))

        def cleanup(self) -> None:
            if hasattr(self, "trial"):
                self.trial.stop()

    return TuneTrial


def _told(measured: Measured) -> dict[str, Any]:
    return {"images": measured.images, "objective": measured.value}


def _trainer(plan: Plan) -> Callable[[Job, Gate], None]:
    """How the job of a trial is trained, from the process Tune gave it."""
    if plan.workers < 2:
        threads = plan.resources.threads

        def train_alone(job: Job, gate: Gate) -> None:
            train_here(job, gate, threads=threads)

        return train_alone

    def train(job: Job, gate: Gate) -> None:
        over = threading.Event()

        def watch() -> None:  # again and again: a job that only just starts removes what an earlier session left
            while not over.wait(POLL_S):
                if gate.stop.is_set():
                    ask_to_stop(job)

        watcher = threading.Thread(target=watch, name="stop", daemon=True)
        watcher.start()
        try:
            train_with_workers(job, plan.resources, cpus=WORKER)
        finally:
            over.set()

    return train
