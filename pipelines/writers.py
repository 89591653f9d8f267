"""Who writes the shards: this process, several, or the tasks of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from gen.errors import DataError, RecipeError

Task = TypeVar("Task")
Done = TypeVar("Done")
FEW = 8  # tasks that are done before other processes would have started


@contextmanager
def writers(
    processes: int | None = None,
) -> Iterator[Callable[[Callable[[Task], Done], Sequence[Task]], Iterable[Done]]]:
    """Something that does tasks and gives what comes of them, in their order.

    Args:
        processes: how many; 1 is this one. By default the cluster that ``RAY_ADDRESS`` names, or one for each core.
    """
    if processes is not None and processes < 1:
        raise RecipeError(f"--writers: found {processes}; it must be at least 1.")
    if processes is None and os.environ.get("RAY_ADDRESS"):
        from pipelines.cluster import tasks

        with tasks(os.environ["RAY_ADDRESS"]) as run:
            yield run
        return
    count = processes or len(os.sched_getaffinity(0))

    def run_here(function: Callable[[Task], Done], given: Sequence[Task]) -> Iterable[Done]:
        if count == 1 or (processes is None and len(given) <= FEW):
            return map(function, given)
        return _in_processes(function, given, min(count, len(given)))

    yield run_here


def _in_processes(function: Callable[[Task], Done], given: Sequence[Task], count: int) -> Iterator[Done]:
    # Forking a process that has threads may hang it; the fork server has none, and imports our code once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start)
    try:
        yield from pool.map(function, given)
    except BrokenProcessPool as problem:
        raise DataError(
            "a process that writes shards was ended from outside; most often, memory ran out. The same command goes on "
            "behind the finished shards; with fewer processes (`--writers 1`) it needs less memory."
        ) from problem
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Runs first in a writer: it shall end with the process that gives it tasks, and not before."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; whoever gives the tasks stops giving them
    # The kernel ends a child with its parent, but that is the fork server, which lives as long as its children do.
    threading.Thread(target=_leave, daemon=True, name="lifeline").start()


def _leave() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
