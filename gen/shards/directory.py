"""Writing a directory of data so that it is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gen.errors import DataError, StoreError
from gen.files import atomic_directory, commit, writing


@contextmanager
def replacing(destination: Path, *, marker: str, needed: int, resume: str = "") -> Iterator[Path]:
    """A directory to fill; when the block ends well it takes the place of ``destination``.

    Args:
        destination: the directory to write. If it exists it must be empty or hold ``marker``.
        marker: name of the file that tells a directory of ours from somebody else's.
        needed: bytes about to be written, for the message when they do not fit; 0 where that is not known.
        resume: with a name, what was filled in stays after a failure, and the next block of that name finds it.

    Raises:
        DataError: the directory cannot be written, or is not ours to replace. What was there is untouched.
    """
    try:
        if destination.exists() and not _ours(destination, marker):
            raise DataError(
                f"{destination}: exists and holds no {marker}, so it is not replaced. "
                "Name another place, or remove it yourself."
            )
        with _lasting(destination, resume) if resume else atomic_directory(destination) as folder:
            yield folder
    except StoreError as error:
        raise DataError(f"{error} {_room(destination, needed)}") from error
    except OSError as error:
        raise DataError(
            f"{destination}: could not be written: {error}. Name another place. {_room(destination, needed)}"
        ) from error


@contextmanager
def _lasting(destination: Path, name: str) -> Iterator[Path]:
    """As ``atomic_directory``, but what a failed block leaves behind is there for the next of the same name."""
    staging = destination.with_name(f".{destination.name}.{name}.part")
    with writing(destination):
        for left in destination.parent.glob(f".{destination.name}.*.part"):
            if left != staging:
                shutil.rmtree(left, ignore_errors=True)
        staging.mkdir(parents=True, exist_ok=True)
        yield staging
        commit(staging, destination)


def _ours(directory: Path, marker: str) -> bool:
    return directory.is_dir() and ((directory / marker).is_file() or not any(directory.iterdir()))


def _room(path: Path, needed: int) -> str:
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = f"{shutil.disk_usage(nearest).free:,}"
    return f"It needs {needed:,} bytes; {free} are free there." if needed else f"{free} bytes are free there."
