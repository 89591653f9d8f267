"""Data sets that have every field, and data sets of image files, for the tests of the data layer."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen.data.sample import Arrays, Collection, Drawn, Listed, Picture, Pixels, Sample, Split, in_memory
from gen.errors import DataError
from tests.data.tiny import SOURCE

CLASSES = ("cat", "dog", "größe")
ATTRIBUTES = ("age", "größe")
CAPTIONS = (
    "a cat",
    "",
    "größe: 3 µm",
    "猫が座っている",
    "👩‍👩‍👧 é e\u0301",
    "line\nbreak\t'quoted' \"twice\"",
    "x" * 300,
)


def rich(
    counts: dict[str, int] | None = None,
    shape: tuple[int, ...] = (4, 4, 1),
    target: tuple[int, ...] = (3, 5, 3),
    *,
    fields: str = "label target caption attributes",
    seed: int = 0,
) -> Collection:
    """Random samples with the named fields; by default 15 in one split, ``train``."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, count in (counts or {"train": 15}).items():
        splits[name] = Arrays(
            rng.integers(0, 256, (count, *shape), np.uint8),
            rng.integers(0, len(CLASSES), count) if "label" in fields else None,
            rng.integers(0, 256, (count, *target), np.uint8) if "target" in fields else None,
            [CAPTIONS[k % len(CAPTIONS)] for k in range(count)] if "caption" in fields else None,
            rng.normal(0, 10.0 ** rng.integers(-8, 8, (count, 2))) if "attributes" in fields else None,
        )
    return in_memory(
        SOURCE,
        splits,
        classes=CLASSES if "label" in fields else (),
        attributes=ATTRIBUTES if "attributes" in fields else (),
    )


def arrays_of(collection: Collection, split: str = "train") -> Arrays:
    """What lies in a split of a data set in memory."""
    samples = collection.splits[split].samples
    assert isinstance(samples, Arrays)
    return samples


def assert_drawn(drawn: Drawn, arrays: Arrays, rows: NDArray[np.int64]) -> None:
    """A batch holds exactly these rows, in the layout of the schema."""
    images, labels, targets, captions, attributes = drawn
    np.testing.assert_array_equal(images.numpy(), np.moveaxis(arrays.images[rows], -1, 1))
    assert images.is_contiguous()
    for found, expected in ((labels, arrays.labels), (attributes, arrays.attributes)):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            np.testing.assert_array_equal(found.numpy(), expected[rows].astype(found.numpy().dtype))
    assert (targets is None) == (arrays.targets is None)
    if targets is not None and arrays.targets is not None:
        np.testing.assert_array_equal(targets.numpy(), np.moveaxis(arrays.targets[rows], -1, 1))
    assert (captions is None) == (arrays.captions is None)
    if captions is not None and arrays.captions is not None:
        assert [bytes(line).rstrip(b"\0").decode() for line in captions.numpy()] == [arrays.captions[k] for k in rows]


# ---- image files -----------------------------------------------------------------------------------------------------


def coded(pixels: Pixels, kind: str = "PNG", **options: object) -> bytes:
    """An image file with these pixels (H, W, C)."""
    file = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


def photos(count: int, shape: tuple[int, int, int] = (6, 8, 3), *, kind: str = "PNG", seed: int = 0) -> list[bytes]:
    """Random image files."""
    rng = np.random.default_rng(seed)
    return [coded(rng.integers(0, 256, shape, np.uint8), kind) for _ in range(count)]


def read_photo(item: tuple[int, Picture | None]) -> Sample:
    """A sample that is a file; ``None`` is one that cannot be read."""
    number, contents = item
    if contents is None:
        raise DataError(f"photo {number}: cannot be read.")
    return Sample(image=contents, origin=f"photo {number}")


def filed(contents: Sequence[Picture | None], labels: Sequence[int] | None = None) -> Collection:
    """A data set of image files, read when they are asked for."""
    split = Split(Listed(list(enumerate(contents)), read_photo), None if labels is None else np.array(labels, np.int64))
    return Collection(SOURCE, {"train": split}, CLASSES if labels is not None else ())
