"""What the sources that read image files share: listing a folder, finding its splits, reading a sample's files.

Listings are the same on every machine: names are sorted by code point, hidden files are left out, and nothing outside
the data set's own folder is ever read. Files are named by their POSIX path below that folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from gen.data.decoding import LIMITS
from gen.data.sample import Collection, Listed, Sample, Source, Split
from gen.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of image files, in small or capital letters."""

_NOT_DATA = "__MACOSX"  # what macOS adds to archives: copies of the names without the contents
NO_LINKS = "Put copies in the place of links: `cp -rL FOLDER COPY` makes a folder of copies."


class Filed(Protocol):
    """What is known of a sample before its files are read."""

    @property
    def label(self) -> int | None:
        """See :class:`Sample`."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """The files it is made of."""
        ...


F = TypeVar("F", bound=Filed)


class Item(NamedTuple):
    """A sample that is a file, or two. Small, because a data set has one for each sample.

    Attributes:
        image: path of the image's file.
        label: as in :class:`Sample`, like those below.
        target: path of the target's file.
        caption: see :class:`Sample`.
        attributes: see :class:`Sample`.
    """

    image: str
    label: int | None = None
    target: str | None = None
    caption: str | None = None
    attributes: tuple[float, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """See base."""
        return (self.image,) if self.target is None else (self.image, self.target)


def read_item(root: Path, item: Item) -> Sample:
    """The sample of an item: the bytes of its files, not decoded."""
    return Sample(
        image=read_file(root, item.image),
        label=item.label,
        target=None if item.target is None else read_file(root, item.target),
        caption=item.caption,
        attributes=item.attributes,
        origin=item.image,
    )


def read_file(root: Path, name: str) -> bytes:
    """A file's bytes. Raises :class:`DataError` if it cannot be read, or is larger than an image may be."""
    try:
        with (root / name).open("rb") as file:
            contents = file.read(LIMITS.bytes + 1)
    except OSError as error:
        raise DataError(
            f"{root / name}: cannot be read: {error.strerror}. Restore it, or pull the data again."
        ) from None
    if len(contents) > LIMITS.bytes:
        raise DataError(f"{root / name}: has more than {LIMITS.bytes:,} bytes, too large for an image. Remove it.")
    return contents


def collection(
    path: Path,
    origin: str,
    read: Callable[[Path, F], Sample],
    splits: Mapping[str, Sequence[F]],
    *,
    classes: Sequence[str] = (),
    attributes: Sequence[str] = (),
    also: Iterable[str] = (),
) -> Collection:
    """A data set whose samples are made of files.

    Args:
        path: the data set's folder, as it was given: the data set's files are named below it.
        origin: what was taken of it.
        read: the sample of an item, whose files lie below the first argument.
        splits: by name, the items.
        classes: their names, in the order of the labels.
        attributes: their names.
        also: files that are part of the data set but of no sample.
    """
    for key, names in {"classes": classes, "attributes": attributes}.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{path}: {key}: found {few(twice)} twice, allowed different names. Correct `{key}`.")
    for split in splits:
        if not split.isidentifier():
            raise DataError(
                f"{path}: folders: found a split '{split}', allowed names of letters, digits and _. Rename it."
            )
    files = {name for items in splits.values() for item in items for name in item.files} | set(also)
    root = directory(path)
    return Collection(
        Source(path.absolute().name, origin),
        {
            name: Split(
                Listed(items, partial(read, root)),
                np.array([item.label for item in items], np.int64) if classes else None,
            )
            for name, items in splits.items()
        },
        tuple(classes),
        tuple(attributes),
        tuple(path / name for name in sorted(files)),
    )


def directory(path: Path) -> Path:
    """The data set's folder as other processes find it, whatever directory they work in."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise DataError(f"{path}: found {found}, allowed a folder. Correct `path` of the data set in params.yaml.")
    return path.resolve()


def subfolders(root: Path, folder: str = ".") -> list[str]:
    """Names of the folders in a folder, sorted."""
    return [entry.name for entry in entries(root, folder) if entry.is_dir()]


def images_in(root: Path, folder: str = ".") -> list[str]:
    """The image files in a folder and the folders below it, sorted. Raises :class:`DataError` if there are none."""
    images: list[str] = []
    others: list[str] = []
    for name in files_in(root, folder):
        (images if is_image(name) else others).append(name)
    if not images:
        suffixes = Counter(PurePosixPath(name).suffix.lower() for name in others)
        counts = [f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(suffixes.items())]
        found = ", ".join(counts) or "no file"
        raise DataError(
            f"{root / folder}: found no images ({found}), allowed are files with suffix {', '.join(SUFFIXES)}. "
            "Correct the path, or remove the folder."
        )
    return sorted(images)


def by_stem(root: Path, folder: str, images: Iterable[str]) -> dict[str, str]:
    """Images by their path below ``folder`` without the suffix. Raises :class:`DataError` if two have the same."""
    found: dict[str, str] = {}
    for name in images:
        stem = below(folder, name).rpartition(".")[0]
        if stem in found:
            raise DataError(
                f"{root}: found both {found[stem]} and {name}, allowed one image of a name. Remove or rename one."
            )
        found[stem] = name
    return found


def few(names: Iterable[str], shown: int = 3) -> str:
    """The first of the names and how many more there are, for messages."""
    listed = list(names)
    more = f" and {len(listed) - shown:,} more" if len(listed) > shown else ""
    return (", ".join(listed[:shown]) or "none") + more


def below(folder: str, name: str) -> str:
    """The path of a listed file as seen from a folder above it."""
    return name if folder == "." else name.removeprefix(f"{folder}/")


def is_image(name: str) -> bool:
    """Whether a file is an image, by its name."""
    return name.lower().endswith(SUFFIXES)


def files_in(root: Path, folder: str = ".") -> Iterator[str]:
    """All files in a folder and the folders below it."""
    for entry in entries(root, folder):
        name = entry.name if folder == "." else f"{folder}/{entry.name}"
        if entry.is_dir():
            yield from files_in(root, name)
        else:
            yield name


def entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted and checked: no hidden files, no links out of ``root``, no pipes or devices."""
    where = root / folder
    try:
        with os.scandir(where) as scan:
            entries = [entry for entry in scan if not entry.name.startswith(".") and entry.name != _NOT_DATA]
    except OSError as error:
        raise DataError(f"{where}: cannot be listed: {error.strerror}. Correct the path or its permissions.") from None
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError:  # os.scandir hands over other bytes as lone surrogates
            raise DataError(f"{where}: found a file named {entry.name!r}, allowed names in UTF-8. Rename it.") from None
        if entry.is_symlink():
            _check_link(root, Path(entry.path))
        elif not entry.is_file() and not entry.is_dir():
            raise DataError(f"{entry.path}: is neither a file nor a folder. Remove it.")
    return sorted(entries, key=lambda entry: entry.name)


def _check_link(root: Path, link: Path) -> None:
    """A link may only lead to a file of the data set: others are no part of it, and linked folders can form circles."""
    real = Path(os.path.realpath(link))
    if not real.is_relative_to(root):
        raise DataError(f"{link}: is a symbolic link to {real}, which is outside {root}. {NO_LINKS}")
    if not real.is_file():
        found = "a folder" if real.is_dir() else "nothing"
        raise DataError(f"{link}: is a symbolic link to {found}, allowed links to files. {NO_LINKS}")
