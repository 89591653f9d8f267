"""The bytes of a split's tars, wherever they lie: mapped into memory, or fetched into a bounded cache."""

from __future__ import annotations

import errno
import mmap
import os
import resource
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gen.data.index import REMEDY
from gen.errors import DataError
from gen.remote.cache import Cache

Span = tuple[int, int, int]
"""Number of the shard, first byte, byte after the last."""


class Tars(Protocol):
    """Random access to the bytes of numbered tars. Several threads may read at once."""

    def read(self, spans: Sequence[Span]) -> bytearray:
        """The bytes of the spans, one after the other. Raises :class:`DataError` where a tar cannot be read."""
        ...

    def expect(self, shards: Sequence[int]) -> None:
        """Be told which tars will be needed soon."""
        ...


class MappedTars:
    """Tars of a local disk, all of them mapped; Python keeps a file descriptor for each map."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._maps = [_map(path) for path in paths]
        self._bytes = [memoryview(mapped) for mapped in self._maps]

    def read(self, spans: Sequence[Span]) -> bytearray:
        """See :meth:`Tars.read`."""
        for shard in {shard for shard, _, _ in spans}:
            # The kernel would kill the process (SIGBUS) that touches a map whose file was cut.
            if self._maps[shard].size() < len(self._maps[shard]):
                raise DataError(f"{self._paths[shard]}: was cut while it was being read. {REMEDY}")
        return bytearray().join([self._bytes[shard][start:stop] for shard, start, stop in spans])

    def expect(self, shards: Sequence[int]) -> None:
        """Nothing to do: the kernel reads ahead."""


class StreamedTars:
    """Tars of a server, fetched when they are needed into a cache that never outgrows its bound."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self, spans: Sequence[Span]) -> bytearray:
        """See :meth:`Tars.read`."""
        pieces = [b""] * len(spans)
        by_shard: dict[int, list[int]] = defaultdict(list)
        for place, (shard, _, _) in enumerate(spans):
            by_shard[shard].append(place)
        for shard, places in by_shard.items():  # one at a time: a batch may touch more than the cache can hold
            with self._cache.pinned([shard]) as (path,):
                handle = os.open(path, os.O_RDONLY)
                try:
                    for place in places:
                        _, start, stop = spans[place]
                        pieces[place] = os.pread(handle, stop - start, start)
                finally:
                    os.close(handle)
        return bytearray().join(pieces)

    def expect(self, shards: Sequence[int]) -> None:
        """Fetch them in the background."""
        self._cache.prefetch(shards)


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as tar:
            return mmap.mmap(tar.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno == errno.EMFILE and _may_open_more():
            return _map(path)
        raise DataError(
            f"{path}: cannot be mapped: {error.strerror}. If too many files are open, raise the limit (`ulimit -n`) "
            "or write larger shards."
        ) from error


def _may_open_more() -> bool:
    """Raise the number of files that this process may open to what the system allows it; whether that is more.

    The usual 1,024 is a precaution for programs that call select(2), and less than the shards of a large data set.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True
