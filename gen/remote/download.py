"""Bringing one file here by as many attempts as it takes.

What arrives is appended to a partial file. An attempt that fails is followed by another one that continues where the
partial file ends, after waits that double from :data:`FIRST_WAIT` to :data:`LONGEST_WAIT` seconds and are shortened
at random by up to a half, so that many workers do not come back at once. A partial file is locked while it is
written; the lock is the kernel's (flock), so that a killed process leaves none behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit

from gen.errors import DataError, StoreError
from gen.files import fsync, writing
from gen.remote import object_store, web
from gen.remote.transport import CHUNK, WEB, Body, RefusedError, TransientError, scheme, shown

ATTEMPTS = 5
"""Attempts in a row that may fail."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds after the first failure, and at most. A server that asks for more gets up to twice the longest."""

FRUITFUL = 1 << 20
"""An attempt that brought this many new bytes has not failed, however it ended."""

Progress = Callable[[int, int], None]
"""Is told the bytes that are here, and the total; 0 where that is not known."""

Sleep = Callable[[float], object]

_T = TypeVar("_T")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_jitter = random.Random()  # of its own: waiting must not move the state of the global generator


def opened(url: str, start: int = 0, version: str | None = None) -> AbstractContextManager[Body]:
    """Open a file at a byte: one attempt.

    Args:
        url: of the file, or a path.
        start: the first byte wanted.
        version: of what was read before; if the file has another one by now, its body starts at 0.

    Raises:
        TransientError, RefusedError: while opening, and from :attr:`Body.read`.
    """
    return (web if scheme(url) in WEB else object_store).opened(url, start, version)


@dataclass(slots=True)
class Patience:
    """Counts the attempts in a row that failed, waits between them, and gives up.

    Attributes:
        url: what is attempted.
        attempts: how often in a row it may fail.
        sleep: how to wait.
    """

    url: str
    attempts: int = ATTEMPTS
    sleep: Sleep = time.sleep
    _failures: int = 0
    _started: float = field(default_factory=time.monotonic)

    def failed(self, problem: TransientError, *, fruitful: bool = False, remark: str = "") -> None:
        """Wait before the next attempt; after the last one raise :class:`DataError`, with the remark."""
        self._failures = 1 if fruitful else self._failures + 1
        if self._failures >= self.attempts:
            raise DataError(
                f"{shown(self.url)}: gave up after {self._failures} failed attempts in a row, in all "
                f"{time.monotonic() - self._started:.0f} s. The last one: {problem}. {remark}"
                "Check the connection and run the same command again."
            ) from problem
        wait = min(FIRST_WAIT * 2 ** (self._failures - 1), LONGEST_WAIT) * _jitter.uniform(0.5, 1.0)
        self.sleep(max(wait, min(problem.wait, 2 * LONGEST_WAIT)))

    def persist(self, attempt: Callable[[], _T]) -> _T:
        """The result of the first attempt that does not fail."""
        while True:
            try:
                return attempt()
            except RefusedError as problem:
                raise DataError(f"{shown(self.url)}: {problem}.") from problem
            except TransientError as problem:
                self.failed(problem)


def download(
    url: str,
    part: IO[bytes],
    *,
    sha256: str | None,
    bytes: int | None,
    attempts: int = ATTEMPTS,
    progress: Progress = lambda done, total: None,
    sleep: Sleep = time.sleep,
) -> str:
    """Append to a partial file until it is the file at ``url``, and check it.

    Args:
        url: of the file.
        part: opened unbuffered to append and read, and locked. It is emptied if the checksum is wrong.
        sha256: expected, in hex. Without it nothing could tell whether what ``part`` holds belongs to the file, so it
            starts from nothing; and ``http://`` is refused, as anybody on the way could change it.
        bytes: expected length.
        attempts, progress, sleep: see :func:`gen.remote.files.fetch`.

    Returns:
        The sha256 of the file.

    Raises:
        DataError: it cannot be had, is not what was expected, or does not fit on the disk.
    """
    if scheme(url) == "http" and sha256 is None and urlsplit(url).hostname not in _LOOPBACK:
        raise DataError(f"{shown(url)}: http:// is not protected on its way. Use https://, or state the sha256.")
    if sha256 is None:
        part.truncate(0)
    patience = Patience(url, attempts, sleep)
    for _ in range(2):  # a wrong checksum may be the fault of what lay here before, or of a cache on the way
        _fill(url, part, patience, bytes=bytes, trusted=sha256 is not None, progress=progress)
        part.seek(0)
        found = hashlib.file_digest(part, "sha256").hexdigest()  # type: ignore[arg-type]
        if sha256 is None or found == sha256.lower():
            return found
        part.truncate(0)
    raise DataError(
        f"{shown(url)}: the sha256 of what arrives is {found}, expected {sha256}; it was fetched twice. "
        "Either the file was changed where it lies, or another one is expected: compare with what its publisher states."
    )


def _fill(
    url: str, part: IO[bytes], patience: Patience, *, bytes: int | None, trusted: bool, progress: Progress
) -> None:
    """Append to ``part`` until it is as long as the file.

    Args:
        trusted: go on with what ``part`` holds even if the server does not say which version of the file it sends.
    """
    version: str | None = None
    have = furthest = part.seek(0, os.SEEK_END)
    while have != bytes:
        try:
            with opened(url, have if trusted or version else 0, version) as body:
                version = body.version
                if bytes is not None and body.total not in (None, bytes):
                    raise TransientError(f"the server offers {body.total:,} bytes, expected {bytes:,}")
                if body.start > have:
                    raise TransientError(f"the server goes on at byte {body.start:,}, not at {have:,}")
                have = part.truncate(body.start)
                total = body.total if bytes is None else bytes
                _check_room(part, 0 if total is None else total - have)
                while have != total and (chunk := body.read(CHUNK if total is None else total - have)):
                    _write(part, chunk)
                    have += len(chunk)
                    progress(have, total or 0)
                if total not in (None, have):
                    raise TransientError(f"the connection was closed after {have:,} of {total:,} bytes")
                return
        except RefusedError as problem:
            raise DataError(f"{shown(url)}: {problem}.") from problem
        except TransientError as problem:
            remark = f"{have:,} bytes are here; the next attempt goes on from there if the server can. "
            patience.failed(problem, fruitful=have - furthest >= FRUITFUL, remark=remark)
            furthest = max(furthest, have)


@contextmanager
def partial(path: Path, *, wait: bool = True) -> Iterator[IO[bytes] | None]:
    """A file for :func:`download`, kept from all other threads and processes; an empty one is removed afterwards.

    ``None`` if another one had it when it was asked for: with ``wait`` after that one is done, which has renamed or
    removed it, and otherwise at once.
    """
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.open("a+b", buffering=0)
    with part:
        if not lock(part, fcntl.LOCK_EX, wait=wait):
            yield None
            return
        try:
            yield part if is_at(part, path) else None
        finally:
            if is_at(part, path) and not path.stat().st_size:
                path.unlink()


def lock(file: IO[bytes], kind: int, *, wait: bool = True) -> bool:
    """Lock an open file, shared (``fcntl.LOCK_SH``) or alone (``LOCK_EX``), until it is closed; whether that worked."""
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def keep(path: Path, destination: Path) -> None:
    """Give a finished partial file its final name, once it is on the disk."""
    with disk(destination):
        fsync(path)
        path.replace(destination)
        fsync(destination.parent)


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn what a disk refuses into :class:`DataError`."""
    try:
        with writing(path):
            yield
    except StoreError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{path}: could not be written: {error.strerror}. Name another place.") from error


def _write(part: IO[bytes], chunk: bytes) -> None:
    rest = memoryview(chunk)
    with disk(Path(part.name)):
        while rest:  # an unbuffered file may take less than it was given
            rest = rest[part.write(rest) :]


def _check_room(part: IO[bytes], needed: int) -> None:
    """Say at once what would fail in an hour."""
    free = shutil.disk_usage(Path(part.name).parent).free
    if needed > free:
        raise DataError(
            f"{part.name}: needs another {needed:,} bytes, {free:,} are free there. Free some space (`df -h`), or "
            "name another place."
        )
