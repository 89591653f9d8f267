"""Ray: the only file that imports it.

A job is a recipe, its shards and its run directory. ``launch`` trains it in this process (0 workers) or through Ray
Train, with as many workers as asked and as many restarts as allowed. Workers keep their checkpoints in the run
directory, not in Ray's storage, and resume from there however they were lost.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from gen.data.reading import Reading
from gen.errors import GenError, PreemptedError, TrainingError
from gen.recipe import Recipe
from gen.train.context import Context, ProcessContext, stop_on_signal
from gen.train.loop import fit
from pipelines.lifeline import sole_writer
from pipelines.params import Resources

T = TypeVar("T")
R = TypeVar("R")
STOP_FILE = "stop"
TASK_RETRIES = 3
STOP_POLL_S = 0.5
ORPHAN_WAIT_S = 60.0
LOCAL_OBJECT_STORE = 100 * 2**20
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the default of 2 s is added to the end of every fit
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # prints every line twice
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # the default of 15 gives the cores to anything else that wants them
}


@dataclass(frozen=True, slots=True)
class Job:
    """One training run.

    Attributes:
        recipe: what to train.
        data: absolute path of the shards.
        directory: absolute path of the run, on storage all workers share.
        code: digest of the code that trains.
        reading: how to read the shards.
    """

    recipe: Recipe
    data: Path
    directory: Path
    code: str
    reading: Reading = Reading()  # noqa: RUF009  # immutable

    def fit(self, context: Context) -> Path:
        """Train in this process; the directory of the trained model."""
        return fit(
            self.recipe,
            data=self.data,
            directory=self.directory,
            context=context,
            code=self.code,
            reading=self.reading,
        )


def launch(job: Job, resources: Resources) -> Path:
    """Train a job to its end, from its newest checkpoint on.

    Returns:
        The directory of the trained model.

    Raises:
        PreemptedError: this process got SIGTERM or SIGINT; a checkpoint was saved.
        TrainingError: training cannot go on, or workers were lost more often than allowed.
    """
    (job.directory / STOP_FILE).unlink(missing_ok=True)
    if resources.span[1] == 0:
        return _in_process(job, resources)
    return _through_ray(job, resources)


def _in_process(job: Job, resources: Resources) -> Path:
    torch.set_num_threads(resources.threads)
    context = ProcessContext()
    with stop_on_signal(context.stop), sole_writer(job.directory, name="trainer.lock", wait=ORPHAN_WAIT_S):
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


def _quiet_environment() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.train", "ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")


def connect(resources: Resources, *, cpus: int) -> bool:
    """Connect to the cluster at ``resources.address``, or start one on this machine with ``cpus`` logical CPUs.

    Returns:
        Whether the connection is new: then the caller ends it, and a local cluster with it.
    """
    _quiet_environment()
    import ray

    if ray.is_initialized():
        return False
    if resources.address == "local":
        # A head that died without cleaning up makes a plain init() hang; "local" always starts afresh.
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=LOCAL_OBJECT_STORE,
        )
    else:
        ray.init(address=resources.address, log_to_driver=False, logging_level=logging.ERROR)
    return True


@contextmanager
def tasks(address: str) -> Iterator[Callable[[Callable[[T], R], Sequence[T]], Iterable[R]]]:
    """Something that does tasks on a cluster and gives what comes of them, in their order.

    The nodes must have this project installed and share its files.

    Args:
        address: of the cluster.
    """
    new = connect(Resources(address=address), cpus=len(os.sched_getaffinity(0)))
    import ray

    def run(function: Callable[[T], R], given: Sequence[T]) -> Iterator[R]:
        remote = ray.remote(num_cpus=1, max_retries=TASK_RETRIES)(_task)
        pending: deque[Any] = deque()
        ahead = 2 * int(ray.cluster_resources().get("CPU", 1))  # enough to keep every core busy
        waiting = iter(given)
        while True:
            pending.extend(remote.remote(function, task) for task in islice(waiting, ahead - len(pending)))
            if not pending:
                return
            outcome = ray.get(pending.popleft())
            if isinstance(outcome, GenError):
                raise outcome
            yield outcome

    try:
        yield run
    finally:
        if new:
            ray.shutdown()


def _task(function: Callable[[T], R], task: T) -> R | GenError:
    """Runs on a node. An error that a retry cannot change is returned, not raised."""
    try:
        return function(task)
    except GenError as outcome:
        return outcome


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
    if high > job.recipe.training.slices:
        raise TrainingError(
            f"{job.recipe.name}: {high} workers cannot share a batch of {job.recipe.training.slices} slice(s). "
            f"Set training.slices to a multiple of {high} in the recipe, or use fewer workers."
        )
    stop = threading.Event()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = _fit_with_ray(job, resources)
        except BaseException as error:
            outcome["error"] = error

    ours = connect(resources, cpus=max(high, os.cpu_count() or 1))
    try:
        with stop_on_signal(stop):  # after connecting: Ray's own handler would abort the process three seconds later
            thread = threading.Thread(target=run, name="ray-train", daemon=True)
            thread.start()
            while thread.is_alive():
                if stop.is_set():
                    (job.directory / STOP_FILE).touch()
                thread.join(STOP_POLL_S)
    finally:
        if ours:
            import ray

            ray.shutdown()
    if "error" in outcome:
        raise outcome["error"]
    answer: dict[str, str] = outcome["result"] or {}
    if "preempted" in answer:
        raise PreemptedError(answer["preempted"])
    if "error" in answer:
        problem = TrainingError(answer["error"])
        problem.exit_code = int(answer["exit_code"])
        raise problem
    return job.directory / "final"


def _fit_with_ray(job: Job, resources: Resources) -> dict[str, str] | None:
    low, high = resources.span
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

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
                resources_per_worker={"CPU": 1, **({"GPU": 1} if use_gpu else {})},
            ),
            run_config=RunConfig(
                name=job.directory.name,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=resources.max_failures),
                worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(resources.threads)}},
            ),
        )
        result: dict[str, str] | None = trainer.fit().return_value
    except TrainingFailedError as error:
        first = next(iter(getattr(error, "worker_failures", {}).values()), error)
        raise TrainingError(
            f"{job.recipe.name}: workers were lost more often than resources.max_failures = {resources.max_failures} "
            f"allows. The last failure was: {first}\nCheckpoints are kept; the same command goes on from the newest."
        ) from error
    return result
