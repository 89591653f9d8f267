"""Where the files of a repair are prepared, and how they take their place.

    .NAME.repair/HASH           a file that is ready, named by its sha256
    .NAME.repair/written/       what the source gives
    .NAME.removed/              what was taken away: never deleted, two of a name are numbered

A file takes its place by one rename, which replaces what was there. So whenever a repair is killed, every file of the
data set is either as it was or as it should be, and what was prepared is known by its name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from gen.data.manifest import FileInfo
from gen.files import fsync, sha256, write_bytes


def beside(root: Path, what: str) -> Path:
    """A hidden directory on the disk of ``root``."""
    return root.with_name(f".{root.name}.{what}")


class Workbench:
    """Prepares files for the data set below a root."""

    def __init__(self, root: Path) -> None:
        self._root, self._bench, self._removed = root, beside(root, "repair"), beside(root, "removed")

    def scratch(self) -> Path:
        """An empty directory to write to."""
        written = self._bench / "written"
        shutil.rmtree(written, ignore_errors=True)
        written.mkdir(parents=True)
        return written

    def has(self, info: FileInfo) -> bool:
        """Whether a file is ready."""
        return self.path(info).is_file()

    def path(self, info: FileInfo) -> Path:
        """Where a file is when it is ready."""
        return self._bench / info.sha256

    def take(self, file: Path, info: FileInfo) -> None:
        """Take in a file that is what ``info`` says."""
        fsync(file)
        file.replace(self.path(info))

    def write(self, contents: bytes, info: FileInfo) -> None:
        """Take in bytes that are what ``info`` says."""
        write_bytes(self.path(info), contents)

    def salvage(self, wanted: Collection[FileInfo], places: Sequence[Path]) -> None:
        """Take in copies of the wanted files that exist: in ``places``, here, or among what was taken away."""
        sizes, copy = {info.bytes for info in wanted}, self._bench / "copy"
        copy.unlink(missing_ok=True)
        files = [*places, *(path for place in (self._bench, self._removed, *places) for path in place.rglob("*"))]
        known = {sha256(path): path for path in files if path.is_file() and path.stat().st_size in sizes}
        for info in wanted:
            if info.sha256 not in known:
                self.path(info).unlink(missing_ok=True)  # a crash of the machine may have left other bytes there
            elif known[info.sha256] != self.path(info):
                self._bench.mkdir(exist_ok=True)
                shutil.copyfile(known[info.sha256], copy)
                self.take(copy, info)

    def install(self, info: FileInfo, name: str) -> bool:
        """Put a file that is ready in its place, by its name relative to the root; whether there was one."""
        if not self.has(info):
            return False
        path = self._root / name
        path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            self.take_away(path)
        self.path(info).replace(path)
        fsync(path.parent)
        return True

    def take_away(self, path: Path) -> None:
        """Move something out of the data set."""
        place = self._free(path)
        path.rename(place)
        fsync(place.parent)

    def keep_copy(self, path: Path) -> None:
        """Keep what is about to be replaced."""
        shutil.copyfile(path, self._free(path))

    def _free(self, path: Path) -> Path:
        place = self._removed / path.relative_to(self._root)
        place.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while os.path.lexists(place):
            number += 1
            place = place.with_name(f"{path.name}.{number}")
        return place

    def clear(self) -> None:
        """Remove what was prepared."""
        shutil.rmtree(self._bench, ignore_errors=True)
