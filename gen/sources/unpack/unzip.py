"""The members of a zip, by code that trusts nothing it says and needs no more memory for a million of them.

``zipfile`` reads all of the directory at the end of a zip before it gives out the first member: half a kilobyte each.
Format: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (its end).
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from gen.sources.unpack.inflate import STEP, ArchiveError, Inflate, Member, Meter, Unpacked

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_WIDE = 0xFFFFFFFF  # "see the zip64 extension", whose id is:
_ZIP64 = 1
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_UTF8 = 1 << 11
_STORED, _DEFLATED = 0, 8
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the directory says of a member.

    Attributes:
        raw_name: not decoded.
        flags: about encryption and the name.
        method: of compression.
        crc32: of the contents.
        packed: bytes in the zip.
        size: bytes of the contents.
        mode: as UNIX has it, or 0.
        offset: of the local header.
    """

    raw_name: bytes
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    mode: int
    offset: int

    @property
    def name(self) -> str:
        return self.raw_name.decode("utf-8" if self.flags & _UTF8 else "cp437", "surrogateescape")


def zip_members(archive: IO[bytes], size: int, meter: Meter) -> Iterator[Member]:
    """The files and folders of a zip of ``size`` bytes, in the order of its directory.

    Raises:
        ArchiveError: it is damaged, or holds something else.
    """
    start, stop = _directory(archive, size)
    while start < stop:
        entry, start = _entry(archive, start, stop)
        if entry.flags & _ENCRYPTED:
            raise ArchiveError("is encrypted; only plain zips are unpacked", entry.name)
        kind = stat.S_IFMT(entry.mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f"is {_KINDS.get(kind, 'special')}; only files and folders are unpacked", entry.name)
        folder = entry.raw_name.endswith(b"/") or kind == stat.S_IFDIR
        yield Member(entry.name, folder, iter(()) if folder else _contents(archive, entry, meter))


def _directory(archive: IO[bytes], size: int) -> tuple[int, int]:
    """Where the directory begins and ends."""
    tail = _read(archive, max(0, size - _END.size - 0xFFFF), _END.size + 0xFFFF)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < _END.size:
        raise ArchiveError("is damaged: a zip without its directory: it was cut")
    *_, length, start, remark = _END.unpack_from(tail, found)
    stop = size - len(tail) + found
    locator = tail[max(0, found - _LOCATOR.size) : found]
    if locator.startswith(b"PK\x06\x07") and len(locator) == _LOCATOR.size:
        stop = _LOCATOR.unpack(locator)[2]
        end = _read(archive, stop, _END64.size)
        if len(end) < _END64.size or not end.startswith(b"PK\x06\x06"):
            raise ArchiveError("is damaged: the end of its directory is not where it should be")
        *_, length, start = _END64.unpack(end)
    if start + length != stop or found + _END.size + remark != len(tail):
        raise ArchiveError("is damaged: its directory is not where it should be, or something was put around the zip")
    return start, stop


def _entry(archive: IO[bytes], start: int, stop: int) -> tuple[_Entry, int]:
    """The entry of the directory at ``start``, and where the next one begins."""
    fixed = _read(archive, start, _CENTRAL.size)
    if len(fixed) < _CENTRAL.size or not fixed.startswith(b"PK\x01\x02"):
        raise ArchiveError("is damaged: its directory is not made of entries")
    _, _, _, flags, method, _, _, crc32, packed, size, *rest = _CENTRAL.unpack(fixed)
    of_name, of_extra, of_remark, _, _, attributes, offset = rest
    variable = _read(archive, start + _CENTRAL.size, of_name + of_extra)
    start += _CENTRAL.size + of_name + of_extra + of_remark
    if start > stop or len(variable) < of_name + of_extra:
        raise ArchiveError("is damaged: its directory is longer than it says")
    wide = iter(_wide(variable[of_name:]))
    size, packed, offset = (next(wide, -1) if value == _WIDE else value for value in (size, packed, offset))
    if min(size, packed, offset) < 0:
        raise ArchiveError("is damaged: its directory lacks a length")
    return _Entry(variable[:of_name], flags, method, crc32, packed, size, attributes >> 16, offset), start


def _wide(extra: bytes) -> list[int]:
    """The numbers that did not fit in an entry, in its order: size, packed, offset."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _ZIP64:
            return [number for (number,) in struct.iter_unpack("<Q", extra[4 : 4 + length // 8 * 8])]
        extra = extra[4 + length :]
    return []


def _contents(archive: IO[bytes], entry: _Entry, meter: Meter) -> Iterator[bytes]:
    """What a member holds, which must be what the directory says of it."""
    if entry.method not in (_STORED, _DEFLATED):
        raise ArchiveError(f"is compressed by method {entry.method}; allowed are stored and deflated", entry.name)
    fixed = _read(archive, entry.offset, _LOCAL.size)
    if len(fixed) < _LOCAL.size or not fixed.startswith(b"PK\x03\x04"):
        raise ArchiveError("is damaged: it is not where the directory says", entry.name)
    *_, of_name, of_extra = _LOCAL.unpack(fixed)
    if (other := _read(archive, entry.offset + _LOCAL.size, of_name)) != entry.raw_name:
        raise ArchiveError(f"is damaged: in another place it is called {other[:200]!r}", entry.name)
    position = entry.offset + _LOCAL.size + of_name + of_extra
    end = position + entry.packed

    def read(most: int) -> bytes:
        nonlocal position
        data = _read(archive, position, min(most, end - position))
        position += len(data)
        return data

    stream = Unpacked(read, meter, (lambda: Inflate(-zlib.MAX_WBITS)) if entry.method == _DEFLATED else None)
    size = crc32 = 0
    while chunk := stream.read(STEP):
        size, crc32 = size + len(chunk), zlib.crc32(chunk, crc32)
        if size > entry.size:
            raise ArchiveError(f"holds more than the {entry.size:,} bytes it claims to", entry.name)
        yield chunk
    if (size, crc32) != (entry.size, entry.crc32):
        raise ArchiveError(
            f"is damaged: found {size:,} bytes of crc32 {crc32:08x}, expected {entry.size:,} of {entry.crc32:08x}",
            entry.name,
        )


def _read(archive: IO[bytes], start: int, length: int) -> bytes:
    archive.seek(start)
    return archive.read(length)
