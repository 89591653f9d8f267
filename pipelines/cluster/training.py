"""One job, in this process or through Ray Train.

``launch`` trains a job with as many workers as asked and as many restarts as allowed. Workers keep their checkpoints in
the run directory, not in Ray's storage, and resume from there however they were lost.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from gen.errors import GenError, PreemptedError, RecipeError, TrainingError
from gen.recipe import Recipe
from gen.train.context import ProcessContext, stop_on_signal
from pipelines.cluster.connection import connect
from pipelines.cluster.job import Job
from pipelines.lifeline import sole_writer
from pipelines.params import Resources

STOP_FILE = "stop"
STOP_POLL_S = 0.5
ORPHAN_WAIT_S = 60.0


def launch(job: Job, resources: Resources) -> Path:
    """Train a job to its end, from its newest checkpoint on.

    Returns:
        The directory of the trained model.

    Raises:
        PreemptedError: this process got SIGTERM or SIGINT; a checkpoint was saved.
        TrainingError: training cannot go on, or workers were lost more often than allowed.
    """
    if resources.span[1] == 0:
        context = ProcessContext()
        with stop_on_signal(context.stop):
            return train_here(job, context, threads=resources.threads)
    return _through_ray(job, resources)


def train_here(job: Job, context: ProcessContext, *, threads: int) -> Path:
    """Train a job in this process, as the only one that does; the directory of the trained model.

    A driver that was killed leaves its workers running for some seconds: this waits until they are gone.
    """
    torch.set_num_threads(threads)
    with sole_writer(job.directory, name="trainer.lock", wait=ORPHAN_WAIT_S):
        return job.fit(context)


# ---- inside a Ray worker -----------------------------------------------------------------------------------------


class RayContext:
    """The surroundings of a Ray Train worker."""

    def __init__(self, directory: Path) -> None:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        device = ray.train.torch.get_device()
        self.device = device if isinstance(device, torch.device) else device[0]
        self._report = ray.train.report
        self._stop_file = directory / STOP_FILE
        self._polled, self._stopping = 0.0, False

    def report(self, images: int, metrics: Mapping[str, float]) -> None:
        """Tell Ray Train; metrics are plain finite floats, which is all its controller can keep."""
        from gen.files import finite

        self._report({"images": images, **finite(metrics)})

    def stopping(self) -> bool:
        """Whether the driver left its stop file; looked up twice a second."""
        if time.monotonic() - self._polled > STOP_POLL_S:
            self._polled, self._stopping = time.monotonic(), self._stop_file.exists()
        return self._stopping


def _worker(config: dict[str, Any]) -> dict[str, str]:
    """What runs on every worker. An outcome that a retry cannot change is returned, not raised."""
    job: Job = config["job"]
    torch.set_num_threads(config["threads"])
    context = RayContext(job.directory)
    logging.getLogger("gen").setLevel(logging.WARNING)
    try:
        # A driver that was killed leaves its workers running for some seconds: wait until they are gone.
        lock = sole_writer(job.directory, name="trainer.lock", wait=ORPHAN_WAIT_S)
        with lock if context.rank == 0 else nullcontext():
            job.fit(context)
    except PreemptedError as outcome:
        return {"preempted": str(outcome)}
    except GenError as outcome:
        return {"error": str(outcome), "exit_code": str(outcome.exit_code)}
    return {}


# ---- the driver --------------------------------------------------------------------------------------------------


def _use_gpu(resources: Resources) -> bool:
    import ray

    found = ray.cluster_resources().get("GPU", 0) >= resources.span[0]
    if resources.gpu == "yes" and not found:
        raise TrainingError(
            f"resources.gpu: yes, but the cluster has {ray.cluster_resources().get('GPU', 0):g} GPU(s) for "
            f"{resources.span[0]} worker(s). Add GPUs, use fewer workers, or say gpu: auto."
        )
    return found and resources.gpu != "no"


def _through_ray(job: Job, resources: Resources) -> Path:
    high = resources.span[1]
    check_slices(job.recipe, high)
    stop = threading.Event()
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            train_with_workers(job, resources)
        except BaseException as error:
            outcome.append(error)

    ours = connect(resources, cpus=max(high, os.cpu_count() or 1))
    try:
        with stop_on_signal(stop):  # after connecting: Ray's own handler would abort the process three seconds later
            thread = threading.Thread(target=run, name="ray-train", daemon=True)
            thread.start()
            while thread.is_alive():
                if stop.is_set():
                    ask_to_stop(job)
                thread.join(STOP_POLL_S)
    finally:
        if ours:
            import ray

            ray.shutdown()
    if outcome:
        raise outcome[0]
    return job.directory / "final"


def check_slices(recipe: Recipe, workers: int) -> None:
    """Raise :class:`RecipeError` if a recipe's batch cannot be shared by so many workers."""
    if workers > recipe.training.slices:
        raise RecipeError(
            f"{recipe.name}: {workers} workers cannot share a batch of {recipe.training.slices} slice(s). "
            f"Set training.slices to a multiple of {workers} in the recipe, or use fewer workers."
        )


def ask_to_stop(job: Job) -> None:
    """Tell the workers of a job, wherever they are, to save a checkpoint and end."""
    (job.directory / STOP_FILE).touch()


def train_with_workers(job: Job, resources: Resources, *, cpus: float = 1) -> None:
    """Train a job through Ray Train, in a process that is connected to a cluster already.

    Args:
        job: what to train.
        resources: how many workers, with what.
        cpus: what each worker asks of Ray. Whoever runs several jobs beside small processes asks for a little less.

    Raises:
        PreemptedError: the job was asked to stop; a checkpoint was saved.
        TrainingError: training cannot go on, or workers were lost more often than allowed.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    low, high = resources.span
    (job.directory / STOP_FILE).unlink(missing_ok=True)
    storage = job.directory / "ray"
    shutil.rmtree(storage, ignore_errors=True)  # Ray's half-written state would block a resume; ours is elsewhere
    use_gpu = _use_gpu(resources)
    try:
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"job": job, "threads": resources.threads},
            scaling_config=ScalingConfig(
                num_workers=low if low == high else (low, high),
                use_gpu=use_gpu,
                resources_per_worker={"CPU": cpus, **({"GPU": 1} if use_gpu else {})},
            ),
            run_config=RunConfig(
                name=job.directory.name,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=resources.max_failures),
                worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(resources.threads)}},
            ),
        )
        answer: dict[str, str] = trainer.fit().return_value or {}
    except TrainingFailedError as error:
        first = next(iter(getattr(error, "worker_failures", {}).values()), error)
        raise TrainingError(
            f"{job.recipe.name}: workers were lost more often than resources.max_failures = {resources.max_failures} "
            f"allows. The last failure was: {first}\nCheckpoints are kept; the same command goes on from the newest."
        ) from error
    if "preempted" in answer:
        raise PreemptedError(answer["preempted"])
    if "error" in answer:
        problem = TrainingError(answer["error"])
        problem.exit_code = int(answer["exit_code"])
        raise problem
