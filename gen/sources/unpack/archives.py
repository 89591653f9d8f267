"""Unpacking archives that somebody else made: tar, plain or compressed by gzip, bzip2 or xz, and zip.

A data set is files in folders; whatever else an archive may hold can be used against whoever unpacks it, and is
refused: links (a later member would be written through them), devices, pipes, absolute names and ``..``, names that
a terminal or another system reads differently, a second member of the same name with other contents, encryption,
decompression bombs, more than :class:`~gen.sources.unpack.inflate.Limits` allow. Symbolic links are refused even where
they stay inside: to tell those apart for certain needs the whole archive, and no data set has been seen to need one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gen.errors import DataError, StoreError
from gen.files import atomic_directory
from gen.sources.unpack.inflate import COMPRESSIONS, LIMITS, ArchiveError, Limits, Member, Meter, Unpacked
from gen.sources.unpack.untar import tar_members
from gen.sources.unpack.unzip import zip_members

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
"""Names of what :func:`extract` unpacks end like this; it goes by the contents, though."""

_LONGEST_NAME = 255  # bytes, what file systems allow
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


def extract(archive: Path, into: Path, *, limits: Limits = LIMITS) -> None:
    """Unpack an archive, all of it or nothing.

    Every file gets mode 0644 and every folder 0755, whatever the archive says.

    Args:
        archive: a tar or zip.
        into: the folder to make; it must not exist or be empty.
        limits: what the archive may hold.

    Raises:
        DataError: it is damaged, holds what is not unpacked, or cannot be written; names the member.
    """
    if into.exists() and not (into.is_dir() and not any(into.iterdir())):
        raise DataError(f"{into}: exists; {archive.name} is not unpacked over it. Name another place, or remove it.")
    member: str | None = None
    try:
        size = archive.stat().st_size
        with archive.open("rb") as file, atomic_directory(into) as folder:
            tree = _Tree(folder, limits)
            for each in _members(file, size, Meter(limits, size)):
                member = each.name
                tree.add(each)
                member = None
            if not any(folder.iterdir()):
                raise ArchiveError("holds nothing")
    except ArchiveError as problem:
        name = problem.member if problem.member is not None else member
        about = "" if name is None else f"member {name[:200]!r} "
        raise DataError(
            f"{archive}: {about}{problem}. Nothing was unpacked. Get the archive again from its publisher; if you "
            "trust it as it is, unpack it yourself and give the folder as `path`."
        ) from problem
    except StoreError as problem:
        raise DataError(str(problem)) from problem
    except OSError as problem:
        raise DataError(f"{archive}: could not be unpacked into {into}: {problem}.") from problem


def _members(archive: IO[bytes], size: int, meter: Meter) -> Iterator[Member]:
    magic = archive.read(6)
    archive.seek(0)
    if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return zip_members(archive, size, meter)
    new = next((new for start, new in COMPRESSIONS.items() if magic.startswith(start)), None)
    return tar_members(Unpacked(archive.read, meter, new))


class _Tree:
    """Files and folders below a folder that nobody else writes to, and in which there is no link."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits = root, limits
        self._count = 0
        self._folder: tuple[str, ...] = ()  # the last one that was made sure of

    def add(self, member: Member) -> None:
        """Write a member."""
        self._count_one()
        parts = _parts(member.name, self._limits)
        if member.folder:
            self._make_folder(parts)
        elif parts:
            self._make_folder(parts[:-1])
            self._write(self._root.joinpath(*parts), member.chunks)
        else:
            raise ArchiveError("is a file without a name")

    def _make_folder(self, parts: list[str]) -> None:
        if tuple(parts) == self._folder:
            return
        path = self._root
        for part in parts:
            path /= part
            if path.is_dir():
                continue
            if path.exists():
                raise ArchiveError(f"needs a folder where there is a file, {path.relative_to(self._root).as_posix()!r}")
            self._count_one()
            path.mkdir()
            path.chmod(_FOLDER_MODE)
        self._folder = tuple(parts)

    def _write(self, path: Path, chunks: Iterator[bytes]) -> None:
        if path.is_dir():
            raise ArchiveError("is a file where there is a folder")
        if path.exists():
            with path.open("rb") as file:
                if any(file.read(len(chunk)) != chunk for chunk in chunks) or file.read(1):
                    raise ArchiveError("is there twice, with other contents")
            return
        with path.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
        path.chmod(_FILE_MODE)

    def _count_one(self) -> None:
        self._count += 1
        if self._count > self._limits.members:
            raise ArchiveError(f"is one more than the {self._limits.members:,} files and folders that are allowed")


def _parts(name: str, limits: Limits) -> list[str]:
    """The folders of a member and its own name, none of which lead anywhere else."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise ArchiveError("has a name with control characters, or that is not UTF-8")
    if "\\" in name:
        raise ArchiveError("has a name with a backslash, which other systems read as a folder")
    if name.startswith("/"):
        raise ArchiveError("has an absolute name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError("has a name that leads out of the folder")
    if len(name.encode()) > limits.path or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise ArchiveError(
            f"has a name of {len(name.encode()):,} bytes, allowed {limits.path:,}, and {_LONGEST_NAME} for each part"
        )
    if len(parts) > limits.depth:
        raise ArchiveError(f"lies in {len(parts) - 1} folders, allowed {limits.depth - 1}")
    return parts
