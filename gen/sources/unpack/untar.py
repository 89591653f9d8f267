"""The members of a tar, read from the first byte to the last by code that trusts nothing it says.

Formats: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator

from gen.sources.unpack.inflate import STEP, ArchiveError, Member, Unpacked

_LONGEST_HEADER = 1 << 20  # bytes of a long name or of a pax header
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=]+)=")
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def tar_members(stream: Unpacked) -> Iterator[Member]:
    """The files and folders of a tar. One without an end marker was cut, even if that was between two members.

    Raises:
        ArchiveError: it is not a tar, is damaged, or holds something else.
    """
    said: dict[str, bytes] = {}  # by extended headers about the next member: path, size, and whether it is sparse
    first = True
    while (block := _exactly(stream, tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as problem:
            reason = "is not a zip, nor a tar, compressed or not" if first else f"is damaged: {problem}"
            raise ArchiveError(reason) from problem
        first = False
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            said = _pax(_extension(stream, info))
        elif info.type == tarfile.GNUTYPE_LONGNAME:
            said = {"path": _extension(stream, info).partition(b"\0")[0]}
        elif info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
            _extension(stream, info)  # remarks about all members; the target of a link, which follows and is refused
        else:
            name = said["path"].decode("utf-8", "surrogateescape") if "path" in said else info.name
            kind = "a sparse file" if "sparse" in said else _KINDS.get(info.type)
            if kind is None and not info.isdir() and info.type not in tarfile.REGULAR_TYPES:
                kind = f"of the unknown kind {info.type!r}"
            if kind is not None:
                raise ArchiveError(f"is {kind}; only files and folders are unpacked", name)
            contents = _contents(stream, 0 if info.isdir() else _size(said.get("size", b"%d" % info.size), name))
            yield Member(name, info.isdir(), contents)
            for _ in contents:  # what was left of them
                pass
            said = {}
    while stream.read(STEP):  # to its end, where a compressed file has its checksum
        pass


def _contents(stream: Unpacked, size: int) -> Iterator[bytes]:
    for start in range(0, size, STEP):
        yield _exactly(stream, min(STEP, size - start))
    _exactly(stream, -size % tarfile.BLOCKSIZE)


def _extension(stream: Unpacked, info: tarfile.TarInfo) -> bytes:
    """The contents of a header that is about other members."""
    if not 0 <= info.size <= _LONGEST_HEADER:
        raise ArchiveError(f"has a header of {info.size:,} bytes, allowed {_LONGEST_HEADER:,}", info.name)
    return _exactly(stream, info.size + -info.size % tarfile.BLOCKSIZE)[: info.size]


def _pax(records: bytes) -> dict[str, bytes]:
    """What is used of the records ``LENGTH KEY=VALUE\\n`` of a pax header, where LENGTH counts all of the record."""
    said: dict[str, bytes] = {}
    start = 0
    while start < len(records):
        match = _PAX_RECORD.match(records, start)
        stop = start + int(match[1]) if match else 0
        if match is None or stop <= match.end() or records[stop - 1 : stop] != b"\n":
            raise ArchiveError("is damaged: a pax header is not made of records")
        if match[2] in (b"path", b"size"):
            said[match[2].decode()] = records[match.end() : stop - 1]
        elif match[2].startswith(b"GNU.sparse."):
            said["sparse"] = b"yes"
        start = stop
    return said


def _size(digits: bytes, name: str) -> int:
    if not re.fullmatch(rb"\d{1,18}", digits):
        raise ArchiveError(f"is damaged: its length is {digits[:20]!r}", name)
    return int(digits)


def _exactly(stream: Unpacked, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise ArchiveError("is damaged: it was cut before the end of the tar")
    return data
