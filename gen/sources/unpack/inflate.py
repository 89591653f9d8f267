"""Decompression in bounded steps: no more is unpacked than is asked for, and a bomb is noticed while it unpacks.

A file of zeros compresses 1000 times by deflate, 7000 by xz; images and what belongs to them hardly ever 200 times.
:class:`Meter` compares what goes in with what comes out after every step, so a bomb ends after :attr:`Limits.grace`
bytes and not when the disk or the memory is full.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

STEP = 1 << 20
"""Bytes unpacked at once, at most."""

_INTAKE = 1 << 16  # compressed bytes read at once
_DICTIONARY = 128 << 20  # bytes of memory that xz may ask for: `xz -9` needs 65 MiB, a hostile header asks for 4 GiB


class ArchiveError(Exception):
    """What is wrong with an archive.

    Attributes:
        member: the member it is about, ``None`` if it is about the whole.
    """

    def __init__(self, reason: str, member: str | None = None) -> None:
        super().__init__(reason)
        self.member = member


@dataclass(frozen=True, slots=True)
class Member:
    """A file or folder in an archive.

    Attributes:
        name: as the archive has it.
        folder: whether it is one.
        chunks: the contents; they cannot be read any more when the next member has been asked for.
    """

    name: str
    folder: bool
    chunks: Iterator[bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an archive may hold.

    Attributes:
        members: files and folders.
        bytes: of all of them.
        ratio: unpacked bytes for each byte of the archive.
        grace: unpacked bytes that do not count for the ratio.
        depth: folders within folders.
        path: bytes of a member's path.
    """

    members: int = 2_000_000
    bytes: int = 1 << 40
    ratio: int = 200
    grace: int = 64 << 20
    depth: int = 32
    path: int = 1024


LIMITS = Limits()


class Meter:
    """Counts what goes into decompression and what comes out."""

    def __init__(self, limits: Limits, size: int) -> None:
        """Args are the limits, and the bytes of the whole archive."""
        self._limits, self._size = limits, size
        self._taken = self._given = 0

    def took(self, count: int) -> None:
        """So many compressed bytes were read. Reading the same ones twice does not help a bomb."""
        self._taken = min(self._taken + count, self._size)

    def gave(self, count: int) -> None:
        """So many bytes came out. Raises :class:`ArchiveError` if they are too many."""
        self._given += count
        limits = self._limits
        if self._given > limits.bytes:
            raise ArchiveError(f"unpacks to more than {limits.bytes:,} bytes, the most that is allowed")
        if self._given > limits.grace + limits.ratio * self._taken:
            raise ArchiveError(
                f"{self._taken:,} bytes unpack to more than {self._given:,}, over {limits.ratio} times as many: "
                "a decompression bomb"
            )


class Decompressor(Protocol):
    """What ``bz2`` and ``lzma`` call a decompressor."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether nothing comes out before more goes in."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given beyond the end of the stream."""
        ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most ``max_length`` bytes; what is left of ``data`` is kept for the next call."""
        ...


class Inflate:
    """zlib's as the other decompressors are."""

    def __init__(self, wbits: int) -> None:
        """``wbits`` says which of zlib's formats: 31 for gzip, -15 for the bare deflate of zip."""
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        """See :class:`Decompressor`."""
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        """See :class:`Decompressor`."""
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """See :class:`Decompressor`."""
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """See :class:`Decompressor`."""
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


COMPRESSIONS: dict[bytes, Callable[[], Decompressor]] = {
    b"\x1f\x8b": lambda: Inflate(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=_DICTIONARY),
}
"""By the first bytes of a file."""


class Unpacked:
    """The bytes of a file, decompressed if it is compressed, from the first to the last."""

    def __init__(self, read: Callable[[int], bytes], meter: Meter, new: Callable[[], Decompressor] | None) -> None:
        """Args are what to read from, what to count with, and what makes a decompressor for each stream in a row."""
        self._read, self._meter, self._new = read, meter, new
        self._inner: Decompressor | None = None

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end."""
        pieces = []
        while size and (piece := self._some(min(size, STEP))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _some(self, most: int) -> bytes:
        """At least one byte and at most so many; none at the end."""
        try:
            piece = self._take(most) if self._new is None else self._decompress(self._new, most)
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as problem:
            raise ArchiveError(f"is damaged: {problem}") from problem
        self._meter.gave(len(piece))
        return piece

    def _decompress(self, new: Callable[[], Decompressor], most: int) -> bytes:
        inner = self._inner = self._inner or new()
        while True:
            if inner.eof:
                rest = inner.unused_data
                while not (rest := rest.lstrip(b"\0")):  # streams may be padded, and follow each other
                    if not (rest := self._take(_INTAKE)):
                        return b""
                inner = self._inner = new()
            else:
                rest = self._take(_INTAKE) if inner.needs_input else b""
            if piece := inner.decompress(rest, most):
                return piece
            if not rest and not inner.eof:
                raise EOFError("it was cut")

    def _take(self, most: int) -> bytes:
        data = self._read(most)
        self._meter.took(len(data))
        return data
