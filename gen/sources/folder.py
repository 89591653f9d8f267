"""A folder of images, with classes named by its sub-folders: the layout of torchvision's ``ImageFolder``.

    PATH/train/cat/001.png  PATH/train/dog/a.jpg  PATH/val/cat/7.png ...

Without folders named like splits, all of it is `train`: PATH/cat/001.png.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gen.data.sample import Collection
from gen.errors import DataError
from gen.sources.common.listing import Item, below, collection, directory, few, images_in, read_item, subfolders
from gen.sources.common.splits import split_folders


def folder(path: Path, *, folders: Mapping[str, str] | None = None, classes: bool = True) -> Collection:
    """Image files, in any depth.

    Args:
        path: the folder.
        folders: by split, its sub-folder; by default those named like splits, see
            :func:`~gen.sources.common.splits.split_folders`.
        classes: the first folder on an image's way is its class. The classes are those of all splits together, sorted
            by name. ``False``: no labels.

    Raises:
        DataError: there are no images, or with classes, an image lies in no class's folder or a class has no image.
    """
    root = directory(path)
    places = split_folders(root, folders)
    images = {split: images_in(root, place) for split, place in places.items()}
    if not classes:
        items = {split: [Item(name) for name in names] for split, names in images.items()}
        return collection(path, "image files of a folder", read_item, items)
    found = {split: _classes(root, place, images[split]) for split, place in places.items()}
    names = sorted(set().union(*found.values()))
    labels = {name: label for label, name in enumerate(names)}
    return collection(
        path,
        "image files of a folder; the classes are its sub-folders",
        read_item,
        {
            split: [Item(name, labels[class_folder(place, name)]) for name in images[split]]
            for split, place in places.items()
        },
        classes=names,
    )


def class_folder(place: str, name: str) -> str:
    """The first folder on the way from ``place`` to the file ``name``; empty if it lies in ``place`` itself."""
    first, slash, _ = below(place, name).partition("/")
    return first if slash else ""


def _classes(root: Path, place: str, images: list[str]) -> set[str]:
    """The classes of a split, each of which has an image, and each image one of them."""
    outside = [name for name in images if not class_folder(place, name)]
    if outside:
        raise DataError(
            f"{root / place}: found {len(outside):,} of {len(images):,} images in no class's folder ({few(outside)}), "
            "allowed one folder for each class. Move or remove them; for images without labels set `classes: false`."
        )
    found = {class_folder(place, name) for name in images}
    empty = [name for name in subfolders(root, place) if name not in found]
    if empty:
        raise DataError(
            f"{root / place}: found no images for {few(empty)}, allowed at least one image in each class's folder. "
            "Remove the empty folders, or give them images."
        )
    return found
