"""A directory of files that together never outgrow a bound, shared by the threads and processes of one machine.

    SHA-BYTES-NAME          a file; a shared lock on it (flock) keeps it from being evicted
    .SHA-BYTES-NAME.part    the same file on its way: locked by whoever writes it
    .lock                   held while room is made, so that two do not count on the same room

Each entry counts with the length in its name, also while it is on its way, so that what has been begun will fit. Locks
are the kernel's: a killed process leaves none, and what it left of a file is evicted like any other.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gen.errors import DataError
from gen.remote.download import disk, lock

_ENTRY = re.compile(r"[0-9a-f]{16}-(\d+)-.+")
_NAME_LENGTH = 100  # of the end of a name that is kept for those who look into the directory


def entry_name(name: str, size: int, sha256: str) -> str:
    """What a file is called in a room. Files of two data sets with equal names do not meet."""
    return f"{sha256[:16]}-{size}-{name.rpartition('/')[2][-_NAME_LENGTH:]}"


@dataclass(slots=True)
class _Entry:
    """A file, or what is here of it.

    Attributes:
        bytes: of the whole file.
        used: when it was last used, in ns.
        paths: the file, its partial file, or for a moment both.
    """

    bytes: int
    used: int = 0
    paths: list[Path] = field(default_factory=list)


class Room:
    """A bounded directory. See the module."""

    def __init__(self, directory: Path, limit: int) -> None:
        """Open a directory; it is created, or evicted from until it fits.

        Raises:
            DataError: it cannot be written, or holds files that are not of a room.
        """
        self.directory, self.limit = directory, limit
        with disk(directory):
            directory.mkdir(parents=True, exist_ok=True)
        strangers = [path for path in directory.iterdir() if path.name[0] != "." and not _ENTRY.fullmatch(path.name)]
        if strangers:
            raise DataError(f"{strangers[0]}: found in a directory for fetched shards. Name an empty directory.")
        with self.alone():
            self.evict()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one thread of one process makes room, or gives a file its name, at a time."""
        with disk(self.directory):
            file = (self.directory / ".lock").open("ab")
        with file:
            lock(file, fcntl.LOCK_EX)
            yield

    def evict(self, *, kept: Collection[str] = (), last: Collection[str] = ()) -> int:
        """Remove what was used longest ago and is not locked, until the rest fits. To be called :meth:`alone`.

        Args:
            kept: names of entries that stay.
            last: names of entries that go only after all others.

        Returns:
            0, or if it does not fit the bytes of all that could not be removed.
        """
        entries = self._entries()
        total = sum(entry.bytes for entry in entries.values())
        for name in sorted(entries, key=lambda name: (name in last, entries[name].used)):
            if total <= self.limit:
                return 0
            if name not in kept and _remove(entries[name].paths):
                total -= entries[name].bytes
        return 0 if total <= self.limit else total

    def _entries(self) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        for path in self.directory.iterdir():
            name = path.name[1:].removesuffix(".part") if path.name[0] == "." else path.name
            if (match := _ENTRY.fullmatch(name)) is None:
                continue
            entry = entries.setdefault(name, _Entry(int(match[1])))
            entry.paths.append(path)
            try:
                entry.used = max(entry.used, path.stat().st_mtime_ns)
            except FileNotFoundError:  # an empty partial file goes without asking
                entry.paths.pop()
        return entries


def _remove(paths: list[Path]) -> bool:
    """Remove files unless one of them is locked."""
    with ExitStack() as files:
        for path in paths:
            try:
                file = files.enter_context(path.open("r+b"))
            except FileNotFoundError:
                continue
            if not lock(file, fcntl.LOCK_EX, wait=False):
                return False
        for path in paths:
            path.unlink(missing_ok=True)
    return True
