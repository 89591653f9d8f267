"""Many jobs through Ray Tune: a sweep's trials, run, compared while they run, and stopped early.

Tune decides who runs where and who is stopped; what it knows is thrown away. The truth about a sweep is with whoever
steers it (:class:`pipelines.cluster.plan.Steering`), in the driver: it says which trial comes next, is told every
measurement, and can start again at any moment, because a trial that is started again tells what it had measured before
(see trial.py). So none of Tune's own pickled state is ever read.

A trial of one worker trains in the process that Tune gives it. One of several workers runs Ray Train from there: its
own process needs a sliver of a CPU and each worker a little less than a whole one, so what is promised always fits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gen.errors import RecipeError
from gen.train.context import stop_on_signal
from pipelines.cluster.connection import connect
from pipelines.cluster.plan import Past, Plan, Steering
from pipelines.cluster.tuning import tune_trials

POLL_S = 0.5


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
                tune_trials(plan, steering, stop, concurrent=concurrent, count=count, past=past)
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
def _cluster(plan: Plan) -> Iterator[int]:
    """A cluster for the plan; gives the number of trials it holds at a time."""
    cores = len(os.sched_getaffinity(0))
    asked = plan.concurrent or 1
    needed = plan.resources.threads if plan.workers < 2 else plan.workers
    ours = connect(plan.resources, cpus=max(cores, asked * needed))
    import ray

    try:
        yield min(filter(None, (capacity(plan, ray.nodes()), plan.concurrent)))
    finally:
        if ours:
            ray.shutdown()


def capacity(plan: Plan, nodes: Sequence[Mapping[str, Any]]) -> int:
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
