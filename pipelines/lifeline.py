"""Stages that die with whoever started them, and run directories with one writer.

Killing ``dvc repro`` leaves its child running, and the next ``dvc repro`` would start a second writer on the same
paths. So a stage asks the kernel for a signal when its parent dies, watches the DVC process above the shell, and holds
a lock on what it writes.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from gen.errors import TrainingError
from gen.files import writing

PR_SET_PDEATHSIG = 1
GRACE_S = 30.0
POLL_S = 0.5
GLANCE_S = 0.2  # somebody who asks `held` is in the way no longer than this


class BusyError(TrainingError):
    """Another process is writing here."""

    exit_code = 75


def tie_to_parent() -> None:
    """End this process (SIGTERM, then SIGKILL after a grace period) when its parent or the DVC above it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    above = [psutil.Process().parent(), _dvc_above()]
    watched = [process for process in above if process is not None and process.pid != 1]
    if "DVC_ROOT" in os.environ:
        threading.Thread(target=_watch, args=(watched,), daemon=True, name="lifeline").start()


def _dvc_above() -> psutil.Process | None:
    for process in psutil.Process().parents():
        try:
            if any("dvc" in Path(word).name for word in process.cmdline()[:3]):
                return process
        except psutil.Error:
            continue
    return None


def _watch(processes: list[psutil.Process]) -> None:
    while all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def meeting_place() -> Path:
    """Where this user's processes on this machine meet, whatever project they work in: a directory for locks."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gen" / "locks"


@contextmanager
def sole_writer(directory: Path, *, wait: float = GLANCE_S, name: str = "writer.lock") -> Iterator[None]:
    """Hold the lock of a directory; the kernel lets go of it however this process ends.

    Args:
        directory: created if missing.
        wait: seconds to wait for another holder to leave.
        name: of the lock file.

    Raises:
        BusyError: another process holds it; the message says which.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
                    raise BusyError(
                        f"{directory}: another process is writing here: {holder or 'unknown'}. "
                        "Wait for it, or end it, then run the same command again."
                    ) from None
                time.sleep(GLANCE_S / 4)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()}: {' '.join(psutil.Process().cmdline())[:150]}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def held(directory: Path, name: str = "writer.lock") -> bool:
    """Whether a process holds a lock of a directory, on any machine if the file system shares locks."""
    try:
        handle = os.open(directory / name, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
