"""Times of steps, on two clocks."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

Times = dict[str, list[float]]
"""Seconds a step, ``wall`` and ``cpu``, of every window."""


def timed(loop: Iterator[Tensor], turns: int) -> tuple[float, float]:
    """Wall and CPU seconds of so many turns of a loop, and a look at the loss at their end."""
    wall, cpu = time.perf_counter(), time.process_time()
    *_, total = itertools.islice(loop, turns)
    if not torch.isfinite(total):
        raise ArithmeticError("the other loop diverged: its times mean nothing")
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each call, in every round: all meet the same neighbours."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, call in ways.items():
            start = clock()
            call()
            seconds[way].append(clock() - start)
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of ratios, not the ratio of medians: what ran side by side met the same neighbours."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def milliseconds(times: Times) -> dict[str, float]:
    """Medians over windows."""
    return {clock: round(1e3 * statistics.median(values), 3) for clock, values in times.items()}


def all_milliseconds(times: Times) -> dict[str, list[float]]:
    """Every window."""
    return {clock: [round(1e3 * value, 3) for value in values] for clock, values in times.items()}
