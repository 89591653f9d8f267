"""Arrays in files: .npy, members of .npz, and the idx format of MNIST, plain or gzipped.

What an array is like is read from its header; its values are read when they are first needed, once in a process.
Nothing is ever unpickled. An idx file is: two zero bytes, a code for the type, the number of dimensions, each
dimension as a big-endian 32-bit integer, the values (http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen.errors import DataError

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DAMAGE = (  # what NumPy, zipfile and gzip raise on damaged files
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_Binary = IO[bytes] | gzip.GzipFile
_CACHED = 8  # images and labels of a few splits; an .npz takes as much memory as its arrays


class Header(NamedTuple):
    """What an array is like.

    Attributes:
        dtype: of its values.
        shape: its dimensions.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The size of its values."""
        return self.dtype.itemsize * math.prod(self.shape)


class Stored(NamedTuple):
    """An array in a file.

    Attributes:
        path: the file.
        member: its name in an .npz; empty for other files.
    """

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else str(self.path)


def members(path: Path) -> list[str]:
    """Names of the arrays of an .npz. Raises :class:`DataError` if it is damaged."""
    with _reading(Stored(path)), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def header(stored: Stored) -> Header:
    """What the array is like, without reading its values.

    Raises:
        DataError: the file is damaged, cut short, holds Python objects, or is of another format.
    """
    with _reading(stored), _opened(stored) as (file, size):
        found = _npy_header(file) if _is_npy(stored) else _idx_header(file)
        if size is not None and file.tell() + found.bytes != size:
            raise ValueError(f"its header tells of {found.bytes:,} bytes, and {size - file.tell():,} follow")
    return found


@lru_cache(maxsize=_CACHED)
def values(stored: Stored) -> NDArray[Any]:
    """The array: mapped from an .npy, so that only what is used is read; otherwise in memory. Not to be written to.

    Raises:
        DataError: as in :func:`header`.
    """
    found = header(stored)
    if stored.path.suffix == ".npy":
        with _reading(stored):
            return np.load(stored.path, mmap_mode="r", allow_pickle=False)
    with _reading(stored), _opened(stored) as (file, _):
        if stored.path.suffix == ".npz":
            return np.lib.format.read_array(file, allow_pickle=False)
        _idx_header(file)
        contents = file.read(found.bytes + 1)  # one more than there should be: a file that goes on has another shape
        return np.frombuffer(contents, found.dtype).reshape(found.shape)


def _is_npy(stored: Stored) -> bool:
    return stored.path.suffix in (".npy", ".npz")


@contextmanager
def _opened(stored: Stored) -> Iterator[tuple[_Binary, int | None]]:
    """The array's own file, and its size where that is known without reading it."""
    if stored.path.suffix == ".npz":
        with zipfile.ZipFile(stored.path) as archive, archive.open(f"{stored.member}.npy") as file:
            yield file, archive.getinfo(f"{stored.member}.npy").file_size
    elif stored.path.suffix == ".gz":
        with gzip.open(stored.path) as file:
            yield file, None
    else:
        with stored.path.open("rb") as file:
            yield file, stored.path.stat().st_size


def _npy_header(file: _Binary) -> Header:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"it is of version {version} of the format, which only arrays of records need")
    try:
        shape, _, dtype = readers[version](file)
    except Exception as problem:  # it is parsed as Python, so it can be wrong in many ways
        raise ValueError(f"its header is damaged: {problem}") from problem
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled; save an array of numbers")
    return Header(dtype, shape)


def _idx_header(file: _Binary) -> Header:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES:
        raise ValueError("it is neither .npy nor .npz by its name nor an idx file by its first bytes")
    dimensions = file.read(4 * start[3])
    return Header(np.dtype(_IDX_TYPES[start[2]]), struct.unpack(f">{start[3]}I", dimensions))


@contextmanager
def _reading(stored: Stored) -> Iterator[None]:
    """Turn whatever a damaged file raises into an error that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{stored.path}: no such file. Restore it, or pull the data again.") from None
    except _DAMAGE as error:
        raise DataError(
            f"{stored}: is not readable as an array: {error}. Allowed are .npy, .npz and idx files (.gz too). Restore "
            "it, or pull the data again."
        ) from None
