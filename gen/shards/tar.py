"""Tar archives as shards are made of: members written the same everywhere, and found again without unpacking.

A sample is a run of members that share what stands before the first dot of their names, its key; what stands after it
is the member's extension (the convention of WebDataset). The *record* of a sample is its run of bytes in the tar:
headers, contents and padding.
"""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, NamedTuple

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
_CHUNK = 1 << 20
_TIMES = re.compile(rb"(\d+ [acm]time=[\d.]+\n)+")  # what ShardWriter puts into a header of its own for every member

# Owner root, mode 0644, dated 1970-01-01: nothing that depends on who writes the file or when.
_TEMPLATE = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
_NAME, _SIZE, _SUM = slice(0, 100), slice(124, 136), slice(148, 156)
_REST = _TEMPLATE[_SUM.stop :]
_SPACES = 8 * ord(" ")  # a checksum is taken with spaces in its own place


def header(name: str, size: int) -> bytes:
    """The header of a member: the 512 bytes that ``tarfile`` would write, twenty times as quickly.

    Args:
        name: ASCII, at most 100 bytes.
        size: bytes of the contents, below 8 GiB.
    """
    packed = name.encode("ascii")
    middle, partial = _middle(size)
    if len(packed) > _NAME.stop or len(middle) > _SUM.start - _NAME.stop:
        raise ValueError(f"{name}: names have at most 100 bytes and contents less than 8 GiB; found {size:,} bytes")
    return b"".join((packed.ljust(_NAME.stop, b"\0"), middle, b"%06o\0 " % (partial + sum(packed)), _REST))


@lru_cache(maxsize=1 << 12)  # halves the time of a header: the members of a shard have few sizes
def _middle(size: int) -> tuple[bytes, int]:
    """What stands in a header between the name and the checksum, and the checksum without the name's part."""
    length = b"%011o\0" % size
    middle = _TEMPLATE[_NAME.stop : _SIZE.start] + length + _TEMPLATE[_SIZE.stop : _SUM.start]
    return middle, sum(middle) + _SPACES + sum(_REST)


def padding(size: int) -> bytes:
    """What fills the last block of a member's contents."""
    return bytes(-size % BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar.

    Attributes:
        name: in full.
        offset: of its first header.
        start: of its contents.
        size: bytes of its contents.
    """

    name: str
    offset: int
    start: int
    size: int

    @property
    def key(self) -> str:
        """What its sample is called. Folders belong to the key, so equal names in two folders stay apart."""
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + file.partition(".")[0]

    @property
    def extension(self) -> str:
        """What it is within its sample: in small letters, as WebDataset hands it out."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()

    @property
    def stop(self) -> int:
        """Of its last block."""
        return self.start + self.size + -self.size % BLOCK


def members(tar: IO[bytes]) -> Iterator[Member]:
    """The files of an uncompressed tar, in its order; their contents are not read.

    Raises:
        tarfile.TarError: it is not a tar.
        ValueError: it holds something that is not a file or folder, or its end is missing or not its end: it was cut,
            overwritten or joined to another.
    """
    stop = yield from _plain_members(tar)
    tar.seek(stop)
    with tarfile.open(fileobj=tar, mode="r:") as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # otherwise it would remember all of them
            stop = info.offset_data + info.size + -info.size % BLOCK
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise ValueError(f"member '{info.name}' is not a plain file")
            info.name.encode()  # raises ValueError: names that are not UTF-8 arrive here with lone surrogates
            yield Member(info.name, info.offset, info.offset_data, info.size)
    tar.seek(stop)
    if tar.read(BLOCK) != bytes(BLOCK):
        raise ValueError(f"there is no end after its last whole member, at byte {stop:,}: it was cut or overwritten")
    while rest := tar.read(_CHUNK):
        if rest.count(0) < len(rest):  # no reader of tars looks behind an end
            raise ValueError(f"there is more behind the end at byte {stop:,}: it was overwritten, or joined to another")


def _plain_members(tar: IO[bytes]) -> Generator[Member, None, int]:
    """The first files, as long as they are whole and ordinary; returns where what follows begins.

    Ordinary is what :func:`header` and WebDataset's ShardWriter write. ``tarfile`` knows more, and takes three times as
    long to find it.
    """
    end, offset = tar.seek(0, os.SEEK_END), 0
    while True:
        tar.seek(start := offset)
        found = _parse(tar.read(BLOCK))
        if found and found.kind == tarfile.XHDTYPE and _TIMES.fullmatch(tar.read(found.size)):
            tar.seek(start := start + BLOCK + found.size + -found.size % BLOCK)
            found = _parse(tar.read(BLOCK))
        if found is None or found.kind not in (tarfile.REGTYPE, tarfile.AREGTYPE) or found.name.endswith("/"):
            return offset
        member = Member(found.name, offset, start + BLOCK, found.size)
        if member.stop > end:
            return offset
        yield member
        offset = member.stop


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


def _parse(block: bytes) -> _Header | None:
    """What a header says (POSIX.1-1988, ustar); ``None`` if it is damaged, or says it in another way."""
    if len(block) < BLOCK or block[257:262] != b"ustar" or block[345]:  # the last is of names over 100 bytes
        return None
    try:
        name = block[_NAME].partition(b"\0")[0].decode()
        size, checksum = (int(block[field].partition(b"\0")[0], 8) for field in (_SIZE, _SUM))
    except ValueError:
        return None
    if size < 0 or checksum != sum(block) - sum(block[_SUM]) + _SPACES:
        return None
    return _Header(name, size, block[156:157])


def samples(tar: IO[bytes]) -> Iterator[tuple[str, dict[str, Member]]]:
    """The samples of a tar: key, and members by extension. Raises what :func:`members` does, and ValueError for twins.

    WebDataset hands out two halves when the members of a sample are not next to each other; here that is an error.
    Files without an extension, such as ``README`` or ``.DS_Store``, are part of no sample for both.
    """
    seen: set[str] = set()
    named = (each for each in members(tar) if each.extension and each.key and not each.key.endswith("/"))
    for key, group in itertools.groupby(named, lambda member: member.key):
        found: dict[str, Member] = {}
        for member in group:
            if member.extension in found:
                raise ValueError(f"two members are called '{member.name}'")
            found[member.extension] = member
        if key in seen:
            raise ValueError(f"the members of sample '{key}' are not next to each other")
        seen.add(key)
        yield key, found
