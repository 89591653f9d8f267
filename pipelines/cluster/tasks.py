"""Many small tasks on a cluster: what writing shards asks for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from gen.errors import GenError
from pipelines.cluster.connection import connect
from pipelines.params import Resources

T = TypeVar("T")
R = TypeVar("R")
TASK_RETRIES = 3


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
