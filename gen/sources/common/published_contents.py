"""Where the objects of torchvision keep their pixels and labels: it differs from data set to data set.

Nothing is decoded here. Every function takes an object of `torchvision.datasets`, already opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import Pixels

DIGITS = tuple("0123456789")


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a split holds.

    Attributes:
        images: uint8 (N, H, W, C) or (N, T, H, W, C); or the paths of N image files.
        labels: int (N,), if it has classes.
        classes: names of the classes.
        targets: paths of N image files, if each image has one that belongs to it.
        attributes: (N, A).
        names: of the A attributes.
    """

    images: Pixels | Sequence[str | Path]
    labels: Sequence[int] | NDArray[Any] | None = None
    classes: Sequence[str] = ()
    targets: Sequence[str | Path] | None = None
    attributes: NDArray[Any] | None = None
    names: Sequence[str] = ()


def grey(loaded: Any, classes: Sequence[str] = DIGITS) -> Contents:
    """Pictures (N, H, W) in memory."""
    return Contents(np.asarray(loaded.data)[..., None], loaded.targets, classes)


def planes(loaded: Any, classes: Sequence[str] = DIGITS) -> Contents:
    """Pictures (N, C, H, W) in memory."""
    return Contents(np.moveaxis(loaded.data, 1, -1), loaded.labels, classes)


def listed(loaded: Any) -> Contents:
    """Image files in a private list, labels in another."""
    return Contents(loaded._image_files, loaded._labels, loaded.classes)


def pairs(items: Sequence[tuple[str, int]], classes: Sequence[str]) -> Contents:
    """Image files with their labels."""
    return Contents([path for path, _ in items], [label for _, label in items], classes)


def emnist(loaded: Any) -> Contents:
    """Its files hold every picture mirrored about the diagonal, and torchvision leaves it so: here they are upright.

    The letters are labelled from 1 on, with a class "N/A" before them that no picture has: it is left out.
    """
    first = int(loaded.classes[0] == "N/A")
    images = np.swapaxes(np.asarray(loaded.data), 1, 2)[..., None]
    return Contents(images, np.asarray(loaded.targets) - first, loaded.classes[first:])


def omniglot(loaded: Any) -> Contents:
    """The two splits have no character in common: the classes are the characters of both, sorted.

    torchvision lists folders in the order of the file system, which differs between machines: files are sorted, too.
    """
    sets = [Path(loaded.root, name) for name in ("images_background", "images_evaluation")]
    classes = sorted({path.relative_to(one).as_posix() for one in sets for path in one.glob("*/*") if path.is_dir()})
    label = {name: k for k, name in enumerate(classes)}
    files = sorted((loaded._characters[character], file) for file, character in loaded._flat_character_images)
    images = [Path(loaded.target_folder, character, file) for character, file in files]
    return Contents(images, [label[Path(character).as_posix()] for character, _ in files], classes)


def celeba(loaded: Any) -> Contents:
    """No classes; 40 attributes that are 0 or 1. The header of their file ends with a blank: an empty name."""
    folder = Path(loaded.root, loaded.base_folder, "img_align_celeba")
    names = [name for name in loaded.attr_names if name]
    return Contents([folder / name for name in loaded.filename], attributes=np.asarray(loaded.attr), names=names)


def pets(loaded: Any) -> Contents:
    """37 breeds; the target is the trimap: 1 the animal, 2 the background, 3 the outline between them."""
    return Contents(loaded._images, loaded._labels, loaded.classes, targets=loaded._segs)


def caltech(loaded: Any, folder: str, file: Callable[[int, int], str]) -> Contents:
    """Image files numbered in the folder of their class."""
    places = zip(loaded.y, loaded.index, strict=True)
    images = [Path(loaded.root, folder, loaded.categories[label], file(label, number)) for label, number in places]
    return Contents(images, loaded.y, loaded.categories)
