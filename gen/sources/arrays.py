"""Arrays of images: NumPy's .npz and .npy, and the idx files of MNIST.

    images.npz                                      all in one file
    PATH/train.npz  PATH/test.npz                   a file for each split, with the arrays `images` and `labels`
    PATH/images.npy  PATH/labels.npy                a file for each array
    PATH/train-images-idx3-ubyte.gz  PATH/t10k-...  the names of MNIST, plain or gzipped

One .npz with several splits, or a .npy for each, is read with `images: "{split}_images"`, `labels: "{split}_labels"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import Collection, Listed, Pixels, Sample, Source, Split
from gen.errors import DataError
from gen.sources.common.array_files import find_arrays
from gen.sources.common.listing import few
from gen.sources.common.stored import Stored, header, values

Layout = Literal["NHW", "NHWC", "NCHW", "NTHWC"]

_CHANNELS = (1, 3, 4)
_CLASSES = 100_000  # more are no classes, but numbers of some other kind


def arrays(
    path: Path,
    *,
    images: str = "images",
    labels: str = "labels",
    layout: Literal["auto", "NHW", "NHWC", "NCHW", "NTHWC"] = "auto",
    classes: Sequence[str] = (),
) -> Collection:
    """Images that are rows of arrays, uint8 or bool (stored as 0 and 255).

    Args:
        path: a file, or a folder in one of the layouts above. A single .npy or idx file has no labels.
        images: the name of the images' array; in it ``{split}`` stands for a split's usual name. Idx files keep theirs.
        labels: the name of the labels' array, likewise: whole numbers from 0 on, or texts, which are sorted; (N,) or
            (N, 1). None if empty.
        layout: the axes of the images. ``auto`` takes (N, H, W) as grey, and four or five axes by where there are
            1, 3 or 4 channels, if that is clear.
        classes: names of the classes, in the order of the labels; by default the numbers themselves.

    Raises:
        DataError: a file is missing or damaged, an array is not there, or its type, shape or values are not allowed.
    """
    root, found = find_arrays(path, images, labels)
    layouts = {split: _layout(stored, layout) for split, (stored, _) in found.items()}
    given = {split: _labels(stored, paired) for split, (stored, paired) in found.items() if paired}
    names = _classes(given, classes)
    splits = {
        split: Split(
            Listed(
                range(header(stored).shape[0]),
                partial(read_row, root, stored, paired, layout=layouts[split], classes=names),
            ),
            _numbers(paired, given[split], names) if paired else None,
        )
        for split, (stored, paired) in found.items()
    }
    place = path.parent if path.is_file() else path
    files = {stored.path.relative_to(root) for pair in found.values() for stored in pair if stored}
    return Collection(
        Source(path.absolute().stem, "arrays in files"),
        splits,
        names,
        files=tuple(place / name for name in sorted(files)),
    )


def read_row(
    root: Path, images: Stored, labels: Stored | None, row: int, *, layout: Layout, classes: tuple[str, ...]
) -> Sample:
    """The sample of a row; it is named by the file's path below ``root``."""
    label = None
    if labels is not None:
        value = values(labels).reshape(-1)[row].item()
        label = classes.index(value) if isinstance(value, str) else int(value)
    member = f", {images.member}" if images.member else ""
    return Sample(
        image=_pixels(values(images)[row], layout),
        label=label,
        origin=f"{images.path.relative_to(root).as_posix()}{member}, row {row}",
    )


def _pixels(image: NDArray[np.uint8] | NDArray[np.bool_], layout: Layout) -> Pixels:
    """(H, W, C) or (T, H, W, C)."""
    if layout == "NHW":
        image = image[..., None]
    if layout == "NCHW":
        image = np.moveaxis(image, 0, -1)
    return np.array(image, np.uint8, order="C") * np.uint8(255 if image.dtype == np.bool_ else 1)


def _layout(stored: Stored, asked: str) -> Layout:
    """The layout of the images, where it can be told."""
    dtype, shape = header(stored)
    if dtype not in (np.uint8, np.bool_):
        raise DataError(
            f"{stored}: found {dtype} of shape {shape}, allowed uint8 from 0 to 255, or bool. Convert the images: for "
            "values from 0 to 1, `(x * 255).round().astype('uint8')`."
        )
    axes: dict[Layout, int] = {"NHW": 3, "NHWC": 4, "NCHW": 4, "NTHWC": 5}
    possible = [
        name
        for name, count in axes.items()
        if len(shape) == count
        and asked in ("auto", name)
        and (asked == name or "C" not in name or shape[name.index("C")] in _CHANNELS)
    ]
    if len(possible) != 1 or 0 in shape:
        raise DataError(
            f"{stored}: layout: found shape {shape} for the layout {asked}"
            f"{f', which can be {few(possible)}' if possible else ''}, allowed are (N, H, W), (N, H, W, C), "
            "(N, C, H, W) and (N, T, H, W, C), of no size 0. Name the layout, or reshape the array."
        )
    return possible[0]


def _labels(images: Stored, labels: Stored) -> NDArray[Any]:
    """Whole numbers or texts (N,)."""
    dtype, shape = header(labels)
    count = header(images).shape[0]
    if dtype.kind not in "biuU" or shape not in ((count,), (count, 1)):
        raise DataError(
            f"{labels}: found labels {dtype} of shape {shape}, allowed whole numbers or texts of shape ({count},), "
            "one for each image. Convert them; for one-hot vectors take `labels.argmax(1)`."
        )
    return values(labels).reshape(-1)


def _classes(given: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes of all splits."""
    texts = {split for split, labels in given.items() if labels.dtype.kind == "U"}
    if texts and texts != given.keys():
        raise DataError(
            f"labels: found texts in {few(sorted(texts))} alone, allowed in all splits or none. Convert them."
        )
    if classes or not given:
        return tuple(classes)
    found = np.unique(np.concatenate(list(given.values())))
    if texts:
        return tuple(found.tolist())
    if not 0 <= int(found[0]) <= int(found[-1]) < _CLASSES:
        raise DataError(
            f"labels: found {found[0]} to {found[-1]}, allowed 0 to {_CLASSES - 1:,}, as they number the classes. "
            '`np.unique(labels, return_inverse=True)[1]` makes such numbers; or set `labels: ""` for none.'
        )
    return tuple(map(str, range(int(found[-1]) + 1)))


def _numbers(stored: Stored, labels: NDArray[Any], classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Labels as numbers, (N,)."""
    if labels.dtype.kind != "U":
        return labels.astype(np.int64)
    texts, inverse = np.unique(labels, return_inverse=True)
    strangers = sorted(set(texts.tolist()) - set(classes))
    if strangers:
        raise DataError(
            f"{stored}: found labels {few(strangers)}, allowed are the names in `classes` ({few(classes, 10)}). "
            "Correct `classes`."
        )
    return np.array([classes.index(text) for text in texts.tolist()], np.int64)[inverse]
