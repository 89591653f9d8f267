"""Images and the images that belong to them, under the same name in another folder: label maps, outlines, photos.

    PATH/train/0001.jpg     PATH/trainannot/0001.png     images: "{split}", targets: "{split}annot" (CamVid)
    PATH/images/train/1.jpg PATH/boundaries/train/1.png  images: "images/{split}", targets: "boundaries/{split}" (BSDS)

Every image must have its target and every target its image: what was lost from either side would never be missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gen.data.sample import Collection
from gen.errors import DataError
from gen.sources.common.listing import Item, by_stem, collection, directory, few, images_in, read_item
from gen.sources.common.splits import SPLIT, apart, inside, usual_words


def pairs(
    path: Path,
    *,
    images: str = "{split}",
    targets: str = "{split}annot",
    folders: Mapping[str, str] | None = None,
) -> Collection:
    """Pairs of image files, in any depth, with the same path below their folders except for the suffix.

    Args:
        path: the folder.
        images: the folder of the images, below ``path``; in it ``{split}`` stands for what the publisher calls a split.
            Without it, everything is ``train``.
        targets: the folder of the targets, likewise.
        folders: by split, what ``{split}`` stands for; by default the usual names for which there is a folder.

    Raises:
        DataError: a folder is not there, or an image or a target has no partner.
    """
    root = directory(path)
    words = _words(root, images, targets, folders)
    left = {split: inside(root, images.replace(SPLIT, word), key="images") for split, word in words.items()}
    right = {split: inside(root, targets.replace(SPLIT, word), key="targets") for split, word in words.items()}
    apart(
        root,
        {f"images of {split}": place for split, place in left.items()}
        | {f"targets of {split}": place for split, place in right.items()},
    )
    items = {split: _paired(root, left[split], right[split]) for split in words}
    return collection(path, f"pairs of image files: {images} and {targets}", read_item, items)


def _paired(root: Path, left: str, right: str) -> list[Item]:
    """The images in ``left``, each with its target in ``right``."""
    images = by_stem(root, left, images_in(root, left))
    targets = by_stem(root, right, images_in(root, right))
    for place, these, other, those in ((left, images, right, targets), (right, targets, left, images)):
        alone = [name for stem, name in these.items() if stem not in those]
        if alone:
            raise DataError(
                f"{root / place}: found {len(alone):,} of {len(these):,} images without a partner of the same name in "
                f"{root / other} ({few(alone)}), allowed pairs only. Add the partners, or remove these images."
            )
    return [Item(name, target=targets[stem]) for stem, name in images.items()]


def _words(root: Path, images: str, targets: str, folders: Mapping[str, str] | None) -> Mapping[str, str]:
    """By split, what ``{split}`` stands for."""
    if (SPLIT in images) != (SPLIT in targets):
        raise DataError(
            f"{root}: found images '{images}' and targets '{targets}', allowed {{split}} in both or in none of them."
        )
    if folders is None:
        return usual_words(
            root,
            images,
            lambda name: (root / name).is_dir(),
            remedy="Correct `images`, or say what {split} stands for, as in `folders: {train: FOLDER}`.",
        )
    if SPLIT not in images:
        raise DataError(
            f"{root}: folders: found {dict(folders)}, but no {{split}}, which it explains, in images '{images}' and "
            f"targets '{targets}'. Remove `folders`, or write {{split}}."
        )
    return folders
