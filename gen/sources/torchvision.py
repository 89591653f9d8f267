"""The data sets of torchvision, by name: labels, class names and splits as published, pixels untouched.

torchvision finds, checks and unpacks the files, and says which picture has which label. The pictures themselves are
taken from its arrays, or from the image files that it lists, as bytes: nothing is decoded and encoded again.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import Collection, Picture, Sample, Source, Split
from gen.errors import DataError, nearest
from gen.sources.common.listing import read_file
from gen.sources.common.published_contents import Contents
from gen.sources.common.published_table import CATALOGUE, Row

_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS)


def torchvision(path: Path, *, name: str, download: bool = False) -> Collection:
    """A data set of torchvision, in the splits of its publisher.

    Args:
        path: the folder that torchvision calls `root`. It may hold many data sets. It need not exist to download.
        name: one of :data:`gen.sources.common.published_table.CATALOGUE`, such as `CIFAR10` or `EMNIST/letters`.
        download: fetch what is not there, and unpack what is there packed. Without it nothing is written.

    Raises:
        DataError: there is no such data set, its files are not there or damaged, or they cannot be downloaded.
    """
    if name not in CATALOGUE:
        variants = [known for known in CATALOGUE if known.startswith(f"{name}/")]
        hint = f" Name the variant: {', '.join(variants)}." if variants else ""
        raise DataError(
            f"name: found '{name}', which is not a data set of torchvision that can be used here. Allowed: "
            f"{', '.join(CATALOGUE)}.{hint or nearest(name.upper(), CATALOGUE) or nearest(name, CATALOGUE)}"
        )
    row, root = CATALOGUE[name], path.expanduser().absolute()
    found = {split: _available(name, root, split, download) for split in row.splits}
    first = next(iter(found.values()))
    for split, contents in found.items():
        if contents.classes != first.classes:
            raise DataError(
                f"{root}: {name}: the split '{split}' has {len(contents.classes)} classes, others have "
                f"{len(first.classes)}; some of its files are missing. Remove what is there and download it again."
            )
    return Collection(
        Source(name, f"torchvision.datasets.{row.loader}", row.licence, row.citation),
        {
            split: Split(
                Published(name, root, split, len(contents.images)),
                None if contents.labels is None else np.asarray(contents.labels, np.int64),
            )
            for split, contents in found.items()
        },
        tuple(first.classes),
        tuple(first.names),
        tuple(sorted(file for pattern in row.files for file in root.glob(pattern))),
    )


@dataclass(frozen=True, slots=True)
class Published:
    """The samples of a split. Other processes are given these few words, and open the data set themselves.

    Attributes:
        name: of the data set.
        root: its folder.
        split: our name of it.
        count: of its samples.
    """

    name: str
    root: Path
    split: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int, /) -> Sample:
        contents = _contents(self.name, self.root, self.split)
        image = contents.images[k]
        return Sample(
            image=self._picture(image),
            label=None if contents.labels is None else int(contents.labels[k]),
            target=None if contents.targets is None else self._picture(contents.targets[k]),
            attributes=() if contents.attributes is None else tuple(map(float, contents.attributes[k])),
            origin=f"{self.split} {k}" if isinstance(image, np.ndarray) else str(Path(image).relative_to(self.root)),
        )

    def _picture(self, image: NDArray[np.uint8] | str | Path) -> Picture:
        """Pixels as they are; the bytes of a file."""
        if isinstance(image, np.ndarray):
            return np.ascontiguousarray(image)
        return read_file(self.root, str(image))


def _available(name: str, root: Path, split: str, download: bool) -> Contents:
    """What a split holds, downloaded first if it cannot be opened. See :func:`torchvision` for the errors."""
    try:
        return _contents(name, root, split)
    except DataError:
        if not download:
            raise
    try:
        _load(CATALOGUE[name], root, split, download=True)
    except Exception as problem:  # whatever a network, a disk, an archive or a missing package can do
        no_place = isinstance(problem, OSError) and problem.errno in _NO_PLACE
        raise DataError(
            f"{root}: torchvision cannot download {name}: {_one_line(problem)}. "
            + ("Give a `path` that can be written to" if no_place else "Check the network and try again")
            + f", or put the files there by hand: {', '.join(CATALOGUE[name].files)}."
        ) from problem
    return _contents(name, root, split)


@lru_cache(maxsize=4)
def _contents(name: str, root: Path, split: str) -> Contents:
    """What a split holds; opened once in every process. Raises :class:`DataError` if that is not possible."""
    row = CATALOGUE[name]
    if not any(True for pattern in row.files for _ in root.glob(pattern)):  # or torchvision might make empty folders
        packed = [file.name for pattern in row.files for file in root.glob(f"{pattern}.gz")]
        raise DataError(
            f"{root}: found the files of {name} only packed ({', '.join(sorted(packed))}). Set `download: true` under "
            "`options` in params.yaml: torchvision then checks and unpacks them where they are, without a network. If "
            "the folder cannot be written to, give a copy of it as `path`."
            if packed
            else f"{root}: found none of the files of {name}: {', '.join(row.files)}. Set `download: true` under "
            "`options` in params.yaml, or put them there."
        )
    try:
        return row.contents(_load(row, root, split, download=False))
    except Exception as problem:  # torchvision raises whatever its data sets happen to raise
        raise DataError(
            f"{root}: torchvision cannot open the split '{split}' of {name}: {_one_line(problem)}. Its files are "
            f"{', '.join(row.files)}. Remove the damaged ones, then download them again (`download: true`)."
        ) from problem


def _load(row: Row, root: Path, split: str, *, download: bool) -> Any:
    """The object of torchvision. Raises anything."""
    from gen.vision import torchvision as vision  # takes seconds, and most processes read no data set of torchvision

    return getattr(vision.datasets, row.loader)(str(root), **row.splits[split], download=download)


def _one_line(problem: Exception) -> str:
    """Its kind and message, to be part of a sentence."""
    text = " ".join(str(problem).split()).rstrip(".")
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__
