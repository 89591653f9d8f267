"""How rates are measured: contenders take turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import psutil

WARM_BATCHES = 4  # not counted, and as many again for each worker: what workers had ready when the clock starts


class Rate(NamedTuple):
    """Samples per second of wall-clock time, and per second of CPU time in this process and its children."""

    wall: float
    cpu: float


def in_turns(measure: Mapping[str, Callable[[], Rate]], rounds: int) -> dict[str, Rate]:
    """The median over the rounds of what each gives."""
    found: dict[str, list[Rate]] = {name: [] for name in measure}
    for _ in range(rounds):
        for name, once in measure.items():
            found[name].append(once())
    return {name: Rate(*map(statistics.median, zip(*rates, strict=True))) for name, rates in found.items()}


def read_rate(batches: Iterable[Any], seconds: float, workers: int) -> Rate:
    """How fast one pass, or as much of it as can be read in so many seconds, goes once it is under way."""
    iterator = iter(batches)
    for _ in range(WARM_BATCHES * (1 + workers)):
        next(iterator)
    gc.collect()
    count, cpu, start = 0, cpu_seconds(), time.perf_counter()
    for batch in iterator:
        count += len(batch["label"] if isinstance(batch, dict) else batch[1])
        if (wall := time.perf_counter() - start) > seconds:
            break
    return Rate(count / wall, count / (cpu_seconds() - cpu))


def call_rate(samples: int, call: Callable[[], Any]) -> Rate:
    """How fast a call deals with so many samples."""
    gc.collect()
    cpu, start = cpu_seconds(), time.perf_counter()
    call()
    wall = time.perf_counter() - start
    return Rate(samples / wall, samples / (cpu_seconds() - cpu))


def cpu_seconds() -> float:
    """CPU time of this process, to the microsecond, and of its children, to 10 ms; those that ended are included."""
    total = time.process_time()
    ended = psutil.Process().cpu_times()
    total += ended.children_user + ended.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            pass
    return total
