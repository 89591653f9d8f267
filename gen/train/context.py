"""What the loop knows of its surroundings: who it is, whom to tell, when to stop.

Three back ends: this process (also under ``torchrun``), Ray Train and Ray Tune; the latter two live in
``pipelines/cluster.py``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import torch
import torch.distributed as dist


class Context(Protocol):
    """The surroundings of one worker.

    Attributes:
        rank: of this worker.
        world: number of workers.
        device: where this worker computes.
    """

    rank: int
    world: int
    device: torch.device

    def report(self, images: int, metrics: Mapping[str, float]) -> None:
        """Take note of training and validation metrics: called by every rank after each validation."""

    def stopping(self) -> bool:
        """Whether this worker was asked to save a checkpoint and end."""


class ProcessContext:
    """This process, alone or as one of ``torchrun``'s; ends early once :attr:`stop` is set."""

    def __init__(self, *, rank: int = 0, world: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.world = rank, world
        self.device = device or default_device(int(os.environ.get("LOCAL_RANK", str(rank))))
        self.stop = threading.Event()

    def report(self, images: int, metrics: Mapping[str, float]) -> None:
        """Nobody else to tell: the event log has it."""

    def stopping(self) -> bool:
        """Whether :attr:`stop` is set."""
        return self.stop.is_set()


def default_device(local_rank: int = 0) -> torch.device:
    """A GPU if there is one for this worker, otherwise the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu")


@contextmanager
def torchrun() -> Iterator[ProcessContext]:
    """The context ``torchrun`` set up in the environment: joins and leaves the process group."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    context = ProcessContext(rank=rank, world=world)
    if world > 1:
        if context.device.type == "cuda":
            torch.cuda.set_device(context.device)
        dist.init_process_group("nccl" if context.device.type == "cuda" else "gloo")
    try:
        yield context
    finally:
        if world > 1:
            dist.destroy_process_group()


@contextmanager
def stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop`` (main thread only): training saves a checkpoint and ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
