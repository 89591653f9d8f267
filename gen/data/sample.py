"""The one schema of a sample, from any source to any reader.

    field        as a source gives it                in a shard                    as a batch
    image        (H, W, C) uint8, or a file's bytes  K.image.npy, K.image.png ...  uint8 (B, C, H, W)
                 (T, H, W, C) uint8 for a video                                    uint8 (B, C, T, H, W)
    label        int, an index into the classes      K.cls                         int64 (B,)
    target       an image that belongs to the image  K.target.npy ...              uint8 (B, C', H', W')
    caption      str                                 K.txt                         uint8 (B, L): UTF-8, zeros after it
    attributes   numbers, in the order of the names  K.json                        float32 (B, A)

All but the image are optional; a data set has a field in all of its samples or in none. What a source gives is lazy:
a sample is read when it is asked for, so a data set may be larger than memory, and shards can be written by several
processes at once (everything here can be pickled).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gen.errors import DataError

Pixels = NDArray[np.uint8]
FIELDS = ("image", "target", "caption")  # the fields that are bytes of a shard; labels and attributes lie in its index
Picture = Pixels | bytes
"""Pixels, uint8 (H, W, C) or (T, H, W, C); or the bytes of an image file, not decoded yet."""


class Drawn(NamedTuple):
    """A batch, as a reader gives it. See the module's table.

    Attributes:
        images: uint8 (B, C, H, W), or (B, C, T, H, W) for videos.
        labels: int64 (B,).
        targets: uint8 (B, C', H', W').
        captions: uint8 (B, L), UTF-8 with zeros after it.
        attributes: float32 (B, A).
    """

    images: Tensor
    labels: Tensor | None = None
    targets: Tensor | None = None
    captions: Tensor | None = None
    attributes: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Drawn:
        """The same of every field there is."""
        return Drawn(function(self.images), *(None if field is None else function(field) for field in self[1:]))


@dataclass(frozen=True, slots=True)
class Source:
    """Where data come from.

    Attributes:
        name: what the data set is called.
        origin: who published it, and what was taken of it.
        licence: the terms, as far as they are stated anywhere.
        citation: what to cite.
    """

    name: str
    origin: str
    licence: str = "not stated"
    citation: str = "not stated"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One sample, as a source gives it. See the module's table.

    Attributes:
        image: the image or video.
        label: class, an index into :attr:`Collection.classes`.
        target: the image that belongs to it: a label map, a photo's outline.
        caption: a text that describes it.
        attributes: numbers, in the order of :attr:`Collection.attributes`.
        origin: what the source calls the sample (a file name, a row): for messages and lists of damage.
    """

    image: Picture
    label: int | None = None
    target: Picture | None = None
    caption: str | None = None
    attributes: tuple[float, ...] = ()
    origin: str = ""


class Samples(Protocol):
    """The samples of a split, each of them read when it is asked for."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, k: int, /) -> Sample:
        """The ``k``-th sample, 0 <= k < len; raises :class:`DataError` naming it if it cannot be read."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """Samples of which each is read from an item of its own, such as a path.

    Attributes:
        items: small and picklable.
        read: a function of a module (or a partial of one), so that other processes can be given it.
    """

    items: Sequence[Any]
    read: Callable[[Any], Sample]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int, /) -> Sample:
        return self.read(self.items[k])


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Samples in memory.

    Attributes:
        images: uint8 (N, H, W, C) or (N, T, H, W, C).
        labels: int64 (N,).
        targets: uint8 (N, H', W', C').
        captions: N texts.
        attributes: floating point (N, A).
    """

    images: Pixels
    labels: NDArray[np.int64] | None = None
    targets: Pixels | None = None
    captions: Sequence[str] | None = None
    attributes: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim not in (4, 5) or not self.images.size:
            raise DataError(
                f"images: found {self.images.dtype} of shape {self.images.shape}, allowed uint8 of shape "
                "(N, H, W, C) or (N, T, H, W, C) with at least one image."
            )
        for name in ("labels", "targets", "captions", "attributes"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.images):
                raise DataError(f"{name}: found {len(values)} for {len(self.images)} images; each image needs one.")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int, /) -> Sample:
        return Sample(
            image=self.images[k],
            label=None if self.labels is None else int(self.labels[k]),
            target=None if self.targets is None else self.targets[k],
            caption=None if self.captions is None else self.captions[k],
            attributes=() if self.attributes is None else tuple(self.attributes[k].tolist()),
            origin=f"row {k}",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """Some of the samples, in a given order.

    Attributes:
        samples: to choose from.
        rows: int64 (N,), which of them.
    """

    samples: Samples
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int, /) -> Sample:
        return self.samples[int(self.rows[k])]

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to another process: of samples in memory those that were chosen, not the whole data set."""
        if isinstance(self.samples, Arrays):
            return Listed, ([self[k] for k in range(len(self))], _itself)
        return Subset, (self.samples, self.rows)


def _itself(sample: Sample) -> Sample:
    return sample


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A split, as a source gives it.

    Attributes:
        samples: read when asked for.
        labels: int64 (N,), the labels of all of them, known without reading the images; ``None`` where there are none.
    """

    samples: Samples
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, rows: NDArray[np.int64]) -> Split:
        """Some of its samples, in the order of ``rows`` (N,)."""
        samples: Samples
        match self.samples:
            case Listed(items, read):  # what is not chosen need not travel to the process that reads
                samples = Listed([items[k] for k in rows.tolist()], read)
            case Subset(whole, chosen):
                samples = Subset(whole, chosen[rows])
            case whole:
                samples = Subset(whole, rows)
        return Split(samples, None if self.labels is None else self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """A data set, as a source gives it.

    Attributes:
        source: where it comes from.
        splits: by name; a source whose publisher made no splits has ``train`` alone.
        classes: names of the classes, in the order of the labels; empty where the data have none.
        attributes: names of the attributes; empty where the data have none.
        files: the files it is made of, for a checksum; empty for what is computed or part of a package.
    """

    source: Source
    splits: Mapping[str, Split]
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Samples of every split."""
        return {name: len(split) for name, split in self.splits.items()}

    def __post_init__(self) -> None:
        if not self.splits or not all(len(split) for split in self.splits.values()):
            raise DataError(
                f"{self.source.name}: found splits {self.counts}, allowed at least one sample in every split."
            )
        for name, split in self.splits.items():
            labels = split.labels
            if (labels is not None) != bool(self.classes):
                raise DataError(
                    f"{self.source.name}: splits.{name}: labels and the names of the classes come together or not at "
                    f"all; found {'no ' if labels is None else ''}labels and {len(self.classes)} classes."
                )
            if labels is None:
                continue
            if labels.dtype != np.int64 or labels.shape != (len(split),):
                raise DataError(
                    f"{self.source.name}: splits.{name}: found labels {labels.dtype} of shape {labels.shape}, allowed "
                    f"int64 of shape ({len(split)},), one for each sample."
                )
            if not 0 <= labels.min() <= labels.max() < len(self.classes):
                raise DataError(
                    f"{self.source.name}: splits.{name}: found labels from {labels.min()} to {labels.max()}, allowed "
                    f"0 to {len(self.classes) - 1}, one for each class."
                )


def in_memory(
    source: Source,
    splits: Mapping[str, Arrays],
    *,
    classes: Sequence[str] = (),
    attributes: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> Collection:
    """A data set whose samples are arrays in memory."""
    return Collection(
        source,
        {name: Split(arrays, arrays.labels) for name, arrays in splits.items()},
        tuple(classes),
        tuple(attributes),
        tuple(files),
    )
