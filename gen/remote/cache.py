"""Shards that lie elsewhere, kept here in a directory that never outgrows its bound.

    cache = Cache(shards, Path("cache"), limit=10 << 30)
    cache.prefetch([3, 4, 5])
    with cache.pinned([3]) as (path,):  # fetched unless it is here, checked, and not evicted until the block ends
        ...

A shard is fetched when it is first needed, after those used longest ago have made room for it. Threads and processes
of one machine may share the directory; whoever wants a shard that another one is fetching waits for it. All of that
is agreed on by the kernel's locks on the files themselves (see :mod:`gen.remote.room`), so a killed process leaves
nothing to clean up, and the next one that wants the shard it was fetching goes on where it ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gen.errors import DataError
from gen.remote.download import ATTEMPTS, Sleep, download, is_at, keep, lock, partial
from gen.remote.room import Room, entry_name

LIMIT = 32 << 30
"""Bytes a cache holds unless told otherwise."""

PATIENCE = 60.0
"""Seconds to wait for others to let go of shards before saying that there is no room."""

_jitter = random.Random()  # of its own: waiting must not move the state of the global generator


@dataclass(frozen=True, slots=True)
class Shard:
    """A file that lies elsewhere.

    Attributes:
        name: what messages call it.
        url: where it is; see :mod:`gen.remote.files`.
        bytes: its length.
        sha256: its checksum in hex.
    """

    name: str
    url: str
    bytes: int
    sha256: str


def default_directory() -> Path:
    """Where shards are kept unless told otherwise: ``$XDG_CACHE_HOME/gen/shards``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gen" / "shards"


class _NoRoomError(Exception):
    """For now too much is in use. Says how much."""


class Cache:
    """Numbered shards, of which those in use and those used last are here. Threads may share it."""

    def __init__(
        self,
        shards: Sequence[Shard],
        directory: Path | None = None,
        *,
        limit: int = LIMIT,
        threads: int = 2,
        attempts: int = ATTEMPTS,
        sleep: Sleep = time.sleep,
    ) -> None:
        """Open a cache; what is there from earlier is used again.

        Args:
            shards: what it can be asked for.
            directory: created if it is not there; :func:`default_directory` if ``None``.
            limit: bytes that the files in it never exceed, those on their way included.
            threads: how many shards are prefetched at once.
            attempts: as for :func:`gen.remote.files.fetch`.
            sleep: as for :func:`gen.remote.files.fetch`.

        Raises:
            DataError: a shard is larger than the limit, or the directory cannot be written or holds other files.
        """
        self.directory, self.limit = directory or default_directory(), limit
        self._shards, self._attempts, self._sleep = tuple(shards), attempts, sleep
        self._entries = [entry_name(shard.name, shard.bytes, shard.sha256) for shard in shards]
        for number in range(len(self._shards)):
            self._check_fits([number])
        self._room = Room(self.directory, limit)
        self._checked: set[int] = set()  # compared with their checksums by this process
        self._checking: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()  # of what follows
        self._ahead: deque[int] = deque()
        self._named: tuple[int, ...] = ()
        self._threads, self._workers = threads, 0

    @contextmanager
    def pinned(self, numbers: Sequence[int]) -> Iterator[list[Path]]:
        """The files of some shards, whole and checked, which stay where they are until the block ends.

        Raises:
            DataError: one cannot be had, or they do not fit in the limit together with what others have pinned.
        """
        self._check_fits(numbers)
        with ExitStack() as pins:
            self._pin_all(list(dict.fromkeys(numbers)), pins)
            yield [self._path(number) for number in numbers]

    def prefetch(self, numbers: Sequence[int]) -> None:
        """Fetch shards in the background, in the order in which they will be used.

        Each is fetched if there is room for it beside the others that are named, and these are the last to be
        evicted. What an earlier call named and has not been begun is forgotten. A shard that cannot be had is left to
        :meth:`pinned`, which says why.
        """
        with self._guard:
            if self._named == tuple(numbers):
                return
            self._named, self._ahead = tuple(numbers), deque(numbers)
            while self._workers < min(self._threads, len(self._ahead)):
                self._workers += 1
                # A daemon: what it has begun may be abandoned at any time, and is continued by the next run.
                threading.Thread(target=self._fetch_ahead, name="gen-prefetch", daemon=True).start()

    def _fetch_ahead(self) -> None:
        """A thread's work: the next shard that was named, until there are none."""
        while True:
            with self._guard:
                if not self._ahead:
                    self._workers -= 1
                    return
                number = self._ahead.popleft()
            with suppress(DataError, _NoRoomError):
                pin = self._acquire(number, ahead=True)
                if pin is not None:
                    pin.close()

    def _pin_all(self, numbers: Sequence[int], pins: ExitStack) -> None:
        """Pin all of them, or none while there is no room: two that held one half each would wait for ever."""
        deadline: float | None = None
        while True:
            try:
                for number in numbers:
                    pin = self._acquire(number, ahead=False)
                    assert pin is not None, "only what is ahead of its use may be passed over"
                    pins.enter_context(pin)
            except _NoRoomError as problem:
                pins.close()
                deadline = deadline or time.monotonic() + PATIENCE
                if time.monotonic() > deadline:
                    names = ", ".join(self._shards[number].name for number in numbers)
                    raise DataError(
                        f"{self.directory}: no room for {names}: this cache may hold {self.limit:,} bytes, and for "
                        f"{PATIENCE:g} s {problem}. Raise its limit, or give each process a directory of its own."
                    ) from None
                time.sleep(_jitter.uniform(0.02, 0.1))
            else:
                return

    def _acquire(self, number: int, *, ahead: bool) -> IO[bytes] | None:
        """The file of a shard, locked so that it is not evicted; fetched if it is not here.

        Args:
            number: of the shard.
            ahead: of its use: pass over (``None``) what somebody else is fetching.

        Raises:
            DataError: it cannot be had.
            _NoRoomError: not now.
        """
        arriving = self._path(number, arriving=True)
        while True:
            if (pin := self._pin(number)) is not None:
                return pin
            with ExitStack() as held:
                with self._room.alone():
                    if self._path(number).exists():  # somebody was quicker
                        continue
                    part = held.enter_context(partial(arriving, wait=False))
                    if part is not None:
                        self._make_room(number, ahead=ahead)
                if part is not None:
                    self._fetch(number, part)
                    with self._room.alone():  # nobody evicts it between the two locks
                        keep(arriving, self._path(number))
                        fcntl.flock(part, fcntl.LOCK_UN)
                        if (pin := self._open(number)) is not None:
                            return pin
            if ahead:
                return None
            with partial(arriving):  # until whoever fetches it is done, or has failed
                pass

    def _fetch(self, number: int, part: IO[bytes]) -> None:
        shard = self._shards[number]
        download(shard.url, part, sha256=shard.sha256, bytes=shard.bytes, attempts=self._attempts, sleep=self._sleep)
        self._checked.add(number)

    def _make_room(self, number: int, *, ahead: bool) -> None:
        """Evict until all that is here or on its way fits, the shard ``number`` among it. To be called alone."""
        named = {self._entries[other] for other in self._named}
        kept = {self._entries[number]} | (named if ahead else set())
        if left := self._room.evict(kept=kept, last=named):
            raise _NoRoomError(f"{left - self._shards[number].bytes:,} bytes were being read or fetched")

    def _pin(self, number: int) -> IO[bytes] | None:
        """The file of a shard, locked against eviction, if it is here and sound; a damaged one is removed."""
        file = self._open(number)
        if file is None or self._is_sound(number, file):
            return file
        with file, self._room.alone():
            if is_at(file, self._path(number)):  # or somebody else has replaced it already
                self._path(number).unlink()
        return None

    def _open(self, number: int) -> IO[bytes] | None:
        """The file of a shard, locked against eviction and marked as just used, if it is here."""
        path = self._path(number)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        lock(file, fcntl.LOCK_SH)
        if not is_at(file, path):  # it was evicted just before it was locked
            file.close()
            return None
        now = time.time_ns()  # the kernel's own stamp is as coarse as its clock ticks
        os.utime(path, ns=(now, now))
        return file

    def _is_sound(self, number: int, file: IO[bytes]) -> bool:
        """Whether a file is the shard: by its length every time, by its checksum once in this process."""
        shard = self._shards[number]
        if os.fstat(file.fileno()).st_size != shard.bytes:
            return False
        with self._checking[number]:
            if number not in self._checked:
                found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                if found != shard.sha256.lower():
                    return False
                self._checked.add(number)
        return True

    def _check_fits(self, numbers: Sequence[int]) -> None:
        needed = sum(self._shards[number].bytes for number in set(numbers))
        if needed > self.limit:
            names = ", ".join(self._shards[number].name for number in numbers)
            raise DataError(
                f"{self.directory}: {names}: {needed:,} bytes are needed at once, but this cache may hold "
                f"{self.limit:,}. Raise its limit, or write smaller shards."
            )

    def _path(self, number: int, *, arriving: bool = False) -> Path:
        entry = self._entries[number]
        return self.directory / (f".{entry}.part" if arriving else entry)
