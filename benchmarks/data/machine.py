"""What the machine can do: bandwidths that no reader can exceed, and what it is."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "webdataset", "litdata")


def copy_rate(size: int = 1 << 28) -> float:
    """Bytes per second that one thread copies from memory to memory."""
    source = torch.ones(size, dtype=torch.uint8)
    target = torch.empty_like(source)
    return size / _seconds(lambda: target.copy_(source))


def gather_rate(images: torch.Tensor, batch: int) -> float:
    """Images per second that a bare ``index_select`` copies from random places, with the indices at hand."""
    order = torch.randperm(len(images)).split(batch)

    def gather() -> None:
        for rows in order:
            images.index_select(0, rows)

    return len(images) / _seconds(gather)


def _seconds(call: Callable[[], object], repeats: int = 5) -> float:
    def once() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def description() -> dict[str, object]:
    """The processor, its cores and the versions of what was compared."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
