"""What a data set holds, at a glance: its numbers, random samples of every class, mean images.

The numbers come from the manifest and the indices alone; images are read only to be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.data.index import Index, concatenate
from gen.data.manifest import Field, Manifest, read_manifest
from gen.data.quarantine import Bad
from gen.data.reader import Reader
from gen.data.sample import Source
from gen.errors import DataError
from gen.remote.files import is_remote
from gen.shards.verify import inspect

_READ = 1 << 30  # bytes of pixels that mean images are made of, at most
_FETCHED = 4  # shards of a server that are fetched to show samples
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Range:
    """The least, the greatest and the mean of some numbers."""

    least: float
    greatest: float
    mean: float


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What a split holds.

    Attributes:
        samples: number of samples.
        shards: number of tars.
        bytes: of the tars.
        class_counts: samples of each class, by name.
        mean: of each channel, on the scale [0, 1].
        std: of each channel, on the scale [0, 1].
        attributes: their ranges, by name.
        caption_bytes: range of the captions' lengths; ``None`` where there are none.
        quarantined: what was left out when the shards were written.
    """

    samples: int
    shards: int
    bytes: int
    class_counts: Mapping[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    attributes: Mapping[str, Range]
    caption_bytes: Range | None
    quarantined: tuple[Bad, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a data set holds.

    Attributes:
        source: where the data come from.
        digest: their identity.
        fields: shape and storage of images, targets and captions.
        preparation: what was done to the source's images.
        damaged: what is done about damaged samples.
        splits: by name.
    """

    source: Source
    digest: str
    fields: Mapping[str, Field]
    preparation: Mapping[str, Any]
    damaged: str
    splits: Mapping[str, SplitSummary]


def summarize(root: Path) -> Summary:
    """Summarize the shards below ``root``. Raises :class:`DataError` if they look damaged from the outside."""
    manifest = read_manifest(root)
    return Summary(
        source=manifest.source,
        digest=manifest.digest,
        fields=manifest.fields,
        preparation=manifest.preparation,
        damaged=manifest.damaged,
        splits={split: _summarize(root, manifest, split) for split in manifest.splits},
    )


def _summarize(root: Path, manifest: Manifest, split: str) -> SplitSummary:
    indices, damages = inspect(root, manifest, split)
    if damages:
        raise DataError(f"{damages[0]} ({len(damages)} damages in all; `gen data verify` lists them.)")
    info = manifest.splits[split]
    index = concatenate([indices[shard.tar.name] for shard in info.shards])
    return SplitSummary(
        samples=info.samples,
        shards=len(info.shards),
        bytes=sum(shard.tar.bytes for shard in info.shards),
        class_counts=dict(zip(manifest.classes, info.class_counts, strict=True)),
        mean=info.mean,
        std=info.std,
        attributes=_attributes(index, manifest.attributes),
        caption_bytes=_range(index.spans["caption"][:, 1]) if "caption" in index.spans else None,
        quarantined=tuple(Bad(*each) for each in info.quarantined),
    )


def _attributes(index: Index, names: Sequence[str]) -> dict[str, Range]:
    return {} if index.attributes is None else {name: _range(index.attributes[:, k]) for k, name in enumerate(names)}


def _range(values: NDArray[Any]) -> Range:
    return Range(float(values.min()), float(values.max()), float(values.mean()))


def within_reach(reader: Reader, split: str, *, seed: int = 0) -> NDArray[np.int64]:
    """Rows of a split that can be read without fetching all of it: all of a local one, some shards of a remote one."""
    shards = reader.manifest.splits[split].shards
    chosen = np.arange(len(shards))
    if any(is_remote(shard.place) for shard in shards):
        chosen = np.random.default_rng(seed).permutation(chosen)[:_FETCHED]
    return np.flatnonzero(np.isin(np.repeat(np.arange(len(shards)), reader.shard_sizes), chosen))


def draw(
    labels: NDArray[np.int64] | None, rows: NDArray[np.int64], classes: Sequence[int], each: int, *, seed: int = 0
) -> dict[int, NDArray[np.int64]]:
    """Random samples of every class, without repeats.

    Args:
        labels: int64 (N,), of the whole split; ``None`` draws from all of it, as if it were class 0.
        rows: to draw from.
        classes: to draw.
        each: so many of a class; all of a class that has fewer.
        seed: equal seeds give equal samples.

    Returns:
        By class, rows.
    """
    rng, drawn = np.random.default_rng(seed), {}
    for label in classes:
        found = rows if labels is None else rows[labels[rows] == label]
        drawn[label] = rng.permutation(found)[:each]
    return drawn


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Mean images.

    Attributes:
        overall: float64 (C, H, W), or (C, T, H, W) for videos, on the scale 0 ... 255.
        by_class: the same of the classes of which an image was read.
        samples: number of images that were read.
    """

    overall: NDArray[np.float64]
    by_class: Mapping[int, NDArray[np.float64]]
    samples: int


def mean_images(
    reader: Reader,
    rows: NDArray[np.int64],
    classes: Sequence[int],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Means:
    """Mean images, overall and of some classes, of as many random samples as can be read in reasonable time.

    Args:
        reader: of the split.
        rows: to choose from.
        classes: to show.
        seed: of the choice.
        progress: told how many samples are read, of how many.
    """
    shape = reader.manifest.shape
    most = max(_CHUNK, _READ // int(np.prod(shape)))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    overall = np.zeros(shape, np.int64)
    sums = {label: np.zeros(shape, np.int64) for label in classes}
    counts = dict.fromkeys(classes, 0)
    for start in range(0, len(rows), _CHUNK):
        images, labels, *_ = reader.batch(rows[start : start + _CHUNK])
        pixels = images.numpy()
        overall += pixels.sum(0, dtype=np.int64)
        known = np.zeros(0) if labels is None else labels.numpy()
        for label in sums.keys() & set(known.tolist()):
            of_class = pixels[known == label]
            sums[label] += of_class.sum(0, dtype=np.int64)
            counts[label] += len(of_class)
        progress(min(start + _CHUNK, len(rows)), len(rows))
    return Means(
        overall / len(rows),
        {label: total / counts[label] for label, total in sums.items() if counts[label]},
        len(rows),
    )
