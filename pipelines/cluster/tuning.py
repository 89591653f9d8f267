"""Trials as Ray Tune sees them: one object a trial, and who is asked and told.

Ray is imported by the functions that need it, after its environment has been set.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gen.errors import GenError
from pipelines.cluster.connection import quiet_environment
from pipelines.cluster.job import Job
from pipelines.cluster.plan import Outcome, Past, Plan, Steering
from pipelines.cluster.schedulers import make_scheduler
from pipelines.cluster.training import ask_to_stop, train_here, train_with_workers
from pipelines.cluster.trial import Gate, Trial

POLL_S = 0.5
SLIVER = 0.05  # CPUs of the process that drives a trial's workers
WORKER = 0.9  # CPUs of each of those workers
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # state that is never read
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that was stopped has nothing to say
    "TUNE_WARN_THRESHOLD_S": "1000",
}


def tune_trials(
    plan: Plan, steering: Steering, stop: threading.Event, *, concurrent: int, count: int, past: Sequence[Past]
) -> None:
    """Run trials until there are none left or ``stop`` is set.

    Args:
        plan: of the sweep.
        steering: who knows the sweep.
        stop: ends all trials; set when ``steering.idle()`` says so.
        concurrent: trials at a time.
        count: trials at most.
        past: trials that ended in earlier sessions.
    """
    os.environ.update(ENVIRONMENT)
    quiet_environment()
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's error goes to the ledger, without a traceback
    random.seed(plan.seed)  # population-based training draws from both
    np.random.seed(plan.seed)  # noqa: NPY002
    shutil.rmtree(plan.scratch, ignore_errors=True)
    several = plan.workers >= 2
    asks = {"CPU": SLIVER} if several else {"CPU": plan.resources.threads, "GPU": plan.gpus}
    trainable = tune.with_resources(tune.with_parameters(_trainable(), plan=plan), asks)
    tune.run(  # not Tuner, which pickles the steering
        trainable,
        name="tune",
        storage_path=str(plan.scratch),
        scheduler=make_scheduler(plan, past=past, synchronous=concurrent < count),
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
            done = measured.images >= self.plan.budget
            return {"images": measured.images, "objective": measured.value, "done": done}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            self.trial.give(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.trial.take(Path(checkpoint))

        def cleanup(self) -> None:
            if hasattr(self, "trial"):
                self.trial.stop()

    return TuneTrial


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
