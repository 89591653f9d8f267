"""Which arrays are the images and labels of which split, in a file or a folder of files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gen.errors import DataError, nearest
from gen.sources.common.listing import directory, few, files_in
from gen.sources.common.splits import ALIASES, SPLIT, recognised, usual_words
from gen.sources.common.stored import Stored, members

_IDX = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
_REMEDY = "Correct `images`, or rename the arrays."
_IDX_SPLITS = {"train": "train", "t10k": "test", "test": "test"}

Pair = tuple[Stored, Stored | None]
"""Images, and their labels where there are any."""


class _Group(NamedTuple):
    """Arrays in one place.

    Attributes:
        where: the file or folder.
        names: of the arrays.
        stored: the array of a name.
    """

    where: Path
    names: Sequence[str]
    stored: Callable[[str], Stored]


def find_arrays(path: Path, images: str, labels: str) -> tuple[Path, Mapping[str, Pair]]:
    """The folder that the files lie in, and the arrays of each split.

    Args:
        path: a file or a folder, see :mod:`gen.sources.arrays`.
        images: name of the arrays of images; may have ``{split}`` in it.
        labels: name of the arrays of labels, likewise; empty for none.

    Raises:
        DataError: there are no such arrays, or they can be understood in two ways.
    """
    if path.is_file():
        file = path.absolute()  # where a link leads, files may have other names
        if file.suffix != ".npz":
            return file.parent, {"train": (Stored(file), None)}
        return file.parent, _by_name(_npz_file(file), images, labels)
    root = directory(path)
    names = sorted(files_in(root))
    layouts = {
        "arrays in .npy files": _npy(root, names, images, labels),
        "an .npz file for each split": _npz(root, names, images, labels),
        "idx files": _idx(root, names, labels),
    }
    found = {layout: splits for layout, splits in layouts.items() if splits}
    if len(found) != 1:
        raise DataError(
            f"{root}: found {' and '.join(found) or 'no arrays'}, allowed either {images}.npy and {labels}.npy; or "
            "train.npz, validation.npz and test.npz; or train-images-idx3-ubyte and the other names of MNIST, "
            "also with .gz. Remove the others, or name a single file as `path`."
        )
    return root, next(iter(found.values()))


def _by_name(group: _Group, images: str, labels: str) -> dict[str, Pair]:
    words = usual_words(group.where, images, group.names.__contains__, remedy=_REMEDY)
    return {
        split: _pair(group, images.replace(SPLIT, word), labels.replace(SPLIT, word)) for split, word in words.items()
    }


def _pair(group: _Group, images: str, labels: str) -> Pair:
    for option, name in {"images": images, "labels": labels}.items():
        if name not in group.names and (name or option == "images"):
            none = ' (`labels: ""` for none)' if option == "labels" else ""
            raise DataError(
                f"{group.where}: {option}: found no array '{name}', there are {few(group.names, 10)}."
                f"{nearest(name, group.names)} Correct `{option}`{none}."
            )
    return group.stored(images), group.stored(labels) if labels else None


def _npz_file(file: Path) -> _Group:
    return _Group(file, members(file), partial(Stored, file))


def _npy(root: Path, names: Sequence[str], images: str, labels: str) -> dict[str, Pair]:
    arrays = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    return _by_name(_Group(root, arrays, lambda name: Stored(root / f"{name}.npy")), images, labels) if arrays else {}


def _npz(root: Path, names: Sequence[str], images: str, labels: str) -> dict[str, Pair]:
    files = [name.removesuffix(".npz") for name in names if name.endswith(".npz")]
    words = recognised(root, files, remedy=_REMEDY)
    others = [f"{name}.npz" for name in files if name not in words.values()]
    if others:
        raise DataError(
            f"{root}: found {few(others)}, allowed train.npz, validation.npz and test.npz. Rename or remove the "
            "others, or name a single file as `path`."
        )
    return {
        split: _pair(_npz_file(root / f"{word}.npz"), images.replace(SPLIT, word), labels.replace(SPLIT, word))
        for split, word in words.items()
    }


def _idx(root: Path, names: Sequence[str], labels: str) -> dict[str, Pair]:
    found: dict[str, dict[str, Stored]] = {}
    for name in names:  # sorted: a plain file comes before its .gz, which torchvision leaves beside it
        match = _IDX.fullmatch(name)
        if match:
            found.setdefault(_IDX_SPLITS[match[1]], {}).setdefault(match[2], Stored(root / name))
    for split, arrays in found.items():
        if "images" not in arrays or (labels and "labels" not in arrays):
            raise DataError(
                f"{root}: found the idx file of the {' and '.join(arrays)} of {split} alone, allowed images and labels "
                'together. Add the other file; `labels: ""` for images without labels.'
            )
    return {
        split: (found[split]["images"], found[split]["labels"] if labels else None)
        for split in ALIASES
        if split in found
    }
