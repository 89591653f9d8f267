"""Photos cut into square crops that do not overlap: natural images, from which sparse coding learns edges.

Without a path it is the two photos that ship inside scikit-learn, a temple and a flower, 427 x 640 each. Their crops
are shuffled by a fixed generator and cut 70 / 10 / 20 % into train, validation and test. With a path it is a folder of
photos, BSDS300 [1] for one:

    PATH/train/2092.jpg  PATH/train/8049.jpg  PATH/test/3096.jpg ...

No pixel is in two crops, so splits cut from `train` by ``splits:`` of params.yaml share none either.

[1] Martin, Fowlkes, Tal, Malik: A database of human segmented natural images and its application to evaluating
    segmentation algorithms and measuring ecological statistics. ICCV 2001
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gen.data.decoding import decode
from gen.data.sample import Collection, Listed, Pixels, Sample, Source, Split
from gen.errors import DataError
from gen.files import sha256
from gen.sources.common.listing import collection, directory, few, images_in, read_file
from gen.sources.common.splits import split_folders

# Results are comparable only on the very same photos: other editions are refused, not trained on.
_SHA256 = {
    "china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
}
_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


class Crop(NamedTuple):
    """A square of a photo.

    Attributes:
        photo: path of its file.
        top: first row of pixels.
        left: first column.
        label: always none.
    """

    photo: str
    top: int
    left: int
    label: None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The file it is part of."""
        return (self.photo,)


def photos(
    path: Path | None = None, *, size: int = 32, colour: bool = False, folders: Mapping[str, str] | None = None
) -> Collection:
    """Crops, uint8 (size, size, 1) or (size, size, 3). Listing them opens every photo once, to see how large it is.

    Args:
        path: a folder of photos; the two of scikit-learn if it is not given.
        size: height and width of a crop. A photo is cut into as many as fit beside each other, about its middle.
        colour: keep the colours. Otherwise crops are grey (ITU-R 601-2 luma).
        folders: by split, its sub-folder, see :func:`~gen.sources.common.splits.split_folders`.

    Raises:
        DataError: ``size`` is below 1, or no crop fits into any photo of a split; there are no photos, or one cannot be
            decoded; ``folders`` are given without a path; scikit-learn is not installed, or carries other photos.
    """
    if size < 1:
        raise DataError(f"photos: size: found {size}, allowed 1 or more. Correct the option.")
    if path is None:
        if folders is not None:
            raise DataError("photos: folders: found without `path`, whose sub-folders they are. Give both, or neither.")
        return _embedded(size, colour)
    root = directory(path)
    splits = {
        split: _crops(root, images_in(root, place), size, colour)
        for split, place in split_folders(root, folders).items()
    }
    return collection(path, f"photos cut into {_kind(size, colour)} crops", partial(read_crop, size, colour), splits)


def read_crop(size: int, colour: bool, root: Path, crop: Crop) -> Sample:
    """The sample of a crop, decoded."""
    picture = _photo(root, crop.photo, colour)
    return Sample(
        np.ascontiguousarray(picture[crop.top : crop.top + size, crop.left : crop.left + size]),
        origin=f"{crop.photo} at {crop.top}, {crop.left}",
    )


@lru_cache(maxsize=2)  # crops of a photo are next to each other; the embedded ones, which are shuffled, are two
def _photo(root: Path, name: str, colour: bool) -> Pixels:
    return decode(read_file(root, name), what=name, mode="RGB" if colour else "L")


def _crops(root: Path, names: list[str], size: int, colour: bool) -> list[Crop]:
    """All crops of the photos, row by row."""
    found = []
    for name in names:
        height, width, _ = _photo(root, name, colour).shape
        top, left = height % size // 2, width % size // 2
        rows, columns = (range(start, side - size + 1, size) for start, side in ((top, height), (left, width)))
        found += [Crop(name, row, column) for row in rows for column in columns]
    if not found:
        raise DataError(f"{root}: found no photo of {size} x {size} or more ({few(names)}). Set a smaller `size`.")
    return found


def _embedded(size: int, colour: bool) -> Collection:
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise DataError(
            "photos: the package scikit-learn, which carries two photos, is not installed. Run "
            "`pip install scikit-learn`, or give the `path` of a folder of photos."
        ) from error
    files = {Path(name).name: Path(name) for name in load_sample_images().filenames}
    for name, expected in _SHA256.items():
        found = sha256(files[name]) if name in files else "no such file"
        if found != expected:
            raise DataError(
                f"photos: {name} inside the installed scikit-learn is not the known one (sha256 {found}, expected "
                f"{expected}). Install the version named in infra/constraints.txt."
            )
    root = files["china.jpg"].parent
    crops = _crops(root, list(_SHA256), size, colour)
    order = np.random.default_rng(0).permutation(len(crops))
    ends = (np.cumsum([0.0, *_SHARES.values()]) * len(crops)).round().astype(int)
    splits = {}
    for split, start, end in zip(_SHARES, ends, ends[1:], strict=False):
        chosen = [crops[k] for k in np.sort(order[start:end])]
        splits[split] = Split(Listed(chosen, partial(read_crop, size, colour, root)))
    return Collection(
        Source(
            "photos",
            f"sklearn.datasets.load_sample_images: two photos cut into {_kind(size, colour)} crops",
            "CC BY 2.0",
            "china.jpg by danielbuechele and flower.jpg by vultilion, flickr.com, 2011; "
            "Pedregosa et al.: Scikit-learn: machine learning in Python. JMLR 12, 2011",
        ),
        splits,
    )


def _kind(size: int, colour: bool) -> str:
    return f"{'coloured' if colour else 'grey'} {size} x {size}"
