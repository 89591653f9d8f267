"""The manifest: what the shards of a data set must be.

    ROOT/manifest.json                          counts, checksums, statistics, where the data come from, the licence
    ROOT/train/shard-000000.tar                 a plain WebDataset tar
    ROOT/train/shard-000000.idx.npz             its index (see gen.data.index)

The manifest vouches for the indices (sha256), an index for the samples of its tar (crc32), and the manifest for
itself (digest). The digest is the identity of the data that training records.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.data.index import REMEDY, Index, read_index
from gen.data.sample import Pixels, Source
from gen.errors import DataError
from gen.files import digest

MANIFEST = "manifest.json"
FORMAT = "gen-shards/2"
_EXACT = 1 << 16  # images of which the squares of a pixel, 255^2 at most, add up to less than 2^32


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as it was written: its name within the split's directory, its size in bytes and its sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A tar, its index and the number of samples in it.

    Attributes:
        tar: the tar.
        index: its index, in the split's directory.
        samples: number of samples.
        place: path or URL of the tar, where it is not in the split's directory.
    """

    tar: FileInfo
    index: FileInfo
    samples: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is bytes of a shard.

    Attributes:
        shape: of what it decodes to: (H, W, C) of an image, (T, H, W, C) of a video, (L,) of a caption, where L is
            the number of bytes of the longest one.
        extensions: of the members that hold it, e.g. ``image.npy``; several where pictures were kept as they were.
    """

    shape: tuple[int, ...]
    extensions: tuple[str, ...]

    @property
    def raw(self) -> bool:
        """Whether what is stored are the values themselves, which need no decoding."""
        return all(is_raw(extension) for extension in self.extensions)

    @property
    def bytes(self) -> int:
        """Of the decoded values."""
        return math.prod(self.shape)


def is_raw(extension: str) -> bool:
    """Whether a member's values are stored as they are: at the end of an array, or as the text of a caption."""
    return extension.rpartition(".")[2] in ("npy", "txt", "caption")


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split.

    Attributes:
        samples: number of images.
        class_counts: images of each class; empty where the data have none.
        mean: of each channel, on the scale [0, 1].
        std: of each channel, on the scale [0, 1].
        pixels_sha256: of the sha256 digests (32 bytes each) of the images' pixels, uint8 (H, W, C), in order.
        shards: in the order of the samples.
        quarantined: what the source has and the shards do not, because it could not be read: key, origin, reason.
    """

    samples: int
    class_counts: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels_sha256: str
    shards: tuple[ShardInfo, ...]
    quarantined: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the shards of a data set must be.

    Attributes:
        source: where the data come from.
        fields: the fields that are bytes of a shard: ``image``, and where there are any ``target`` and ``caption``.
        classes: names of the classes, in the order of the labels.
        attributes: names of the attributes.
        splits: by name.
        preparation: what was done to the images of the source.
        damaged: what to do about samples that are damaged: see :mod:`gen.data.quarantine`.
    """

    source: Source
    fields: Mapping[str, Field]
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    splits: Mapping[str, SplitInfo]
    preparation: Mapping[str, Any] = field(default_factory=dict)
    damaged: str = "fail"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image as a batch has it: (C, H, W), or (C, T, H, W) for a video."""
        return channels_first(self.fields["image"].shape)

    @property
    def sample_bytes(self) -> int:
        """Of a decoded sample, labels and attributes aside."""
        return sum(each.bytes for each in self.fields.values())

    @property
    def digest(self) -> str:
        """sha256 of the manifest's contents, however the file is laid out."""
        return digest({"format": FORMAT, **asdict(self)})

    def dump(self) -> str:
        """The text of ``manifest.json``, which carries its own digest."""
        contents = {"format": FORMAT, "digest": self.digest, **asdict(self)}
        return json.dumps(contents, indent=1, ensure_ascii=False) + "\n"


def channels_first(shape: Sequence[int]) -> tuple[int, ...]:
    """(..., C) to (C, ...)."""
    return (shape[-1], *shape[:-1])


def read_manifest(root: Path) -> Manifest:
    """Read and check ``ROOT/manifest.json``.

    Raises:
        DataError: it is missing, of another format, or was changed after it was written.
    """
    path = root / MANIFEST
    try:
        contents = json.loads(path.read_text("utf-8"))
        if contents["format"] != FORMAT:
            raise DataError(f"{path}: found format '{contents['format']}', allowed {FORMAT}. {REMEDY}")
        recorded = contents.pop("digest")
        if digest(contents) != recorded:
            raise DataError(
                f"{path}: was changed after it was written (its digest is {digest(contents)}, "
                f"it records {recorded}). {REMEDY}"
            )
        return _parse(contents)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is not there, so there are no shards to read. {REMEDY}") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: is not readable as a manifest ({error}). {REMEDY}") from error


def manifest_digest(root: Path) -> str:
    """The identity of the data below ``root``, as training and the registry record it."""
    return read_manifest(root).digest


def _parse(contents: dict[str, Any]) -> Manifest:
    return Manifest(
        source=Source(**contents["source"]),
        fields={
            name: Field(tuple(found["shape"]), tuple(found["extensions"])) for name, found in contents["fields"].items()
        },
        classes=tuple(contents["classes"]),
        attributes=tuple(contents["attributes"]),
        splits={name: _split(found) for name, found in contents["splits"].items()},
        preparation=contents["preparation"],
        damaged=contents["damaged"],
    )


def _split(contents: dict[str, Any]) -> SplitInfo:
    return SplitInfo(
        samples=contents["samples"],
        class_counts=tuple(contents["class_counts"]),
        mean=tuple(contents["mean"]),
        std=tuple(contents["std"]),
        pixels_sha256=contents["pixels_sha256"],
        shards=tuple(
            ShardInfo(FileInfo(**shard["tar"]), FileInfo(**shard["index"]), shard["samples"], shard["place"])
            for shard in contents["shards"]
        ),
        quarantined=tuple(tuple(entry) for entry in contents["quarantined"]),
    )


def trusted_index(path: Path, shard: ShardInfo, manifest: Manifest) -> Index:
    """Read the index of a shard and check it.

    Raises:
        DataError: it is missing, is not the one that the manifest names, or does not fit the tar.
    """
    index, found = read_index(path)
    if found != shard.index.sha256:
        raise DataError(
            f"{path}: is not the index that the manifest names "
            f"(sha256 {found}, expected {shard.index.sha256}). {REMEDY}"
        )
    fits = index.fits(shard.samples, shard.tar.bytes, len(manifest.classes), len(manifest.attributes))
    if not (fits and _spans_fit(index, manifest)):
        raise DataError(f"{path}: does not describe {shard.samples} samples of {shard.tar.name}. {REMEDY}")
    return index


def _spans_fit(index: Index, manifest: Manifest) -> bool:
    """Whether it has the fields of the manifest, and the bytes of those that are read without being decoded."""
    if index.spans.keys() != manifest.fields.keys():
        return False
    sizes = {name: index.spans[name][:, 1] for name in index.spans}
    return all(
        bool((sizes[name] <= known.bytes).all() if name == "caption" else (sizes[name] == known.bytes).all())
        for name, known in manifest.fields.items()
        if known.raw
    )


class Statistics:
    """Exact statistics of images that arrive in pieces: neither the pieces nor their number change a digit."""

    def __init__(self, channels: int, classes: int) -> None:
        self._channels, self._pixels = channels, 0
        self._sums, self._squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
        self._class_counts = np.zeros(classes, np.int64)
        self._digests: list[bytes] = []

    def add(self, images: Pixels, labels: NDArray[np.int64] | None) -> None:
        """Take in images (N, ..., C) and their labels (N,)."""
        values = images.reshape(len(images), -1)
        # Over the images first, in 32 bits: three times as fast as counting the values of each channel.
        for part in np.split(values, range(_EXACT, len(values), _EXACT)):
            sums, squares = part.sum(0, dtype=np.uint32), np.square(part, dtype=np.uint16).sum(0, dtype=np.uint32)
            self._sums += sums.reshape(-1, self._channels).sum(0, dtype=np.int64)
            self._squares += squares.reshape(-1, self._channels).sum(0, dtype=np.int64)
        self._pixels += values.size // self._channels
        if labels is not None:
            self._class_counts += np.bincount(labels, minlength=len(self._class_counts))
        self._digests += [hashlib.sha256(image.data).digest() for image in np.ascontiguousarray(images)]

    def extend(self, later: Statistics) -> None:
        """Take in what another has counted of the images that come next."""
        self._sums += later._sums
        self._squares += later._squares
        self._pixels += later._pixels
        self._class_counts += later._class_counts
        self._digests += later._digests

    def describe(self, shards: Sequence[ShardInfo], quarantined: Sequence[tuple[str, str, str]] = ()) -> SplitInfo:
        """The entry of the split whose images were taken in."""
        # Sums of integers are exact, so mean and std do not depend on the order or the machine.
        s0, moments = self._pixels, list(zip(self._sums.tolist(), self._squares.tolist(), strict=True))
        return SplitInfo(
            samples=sum(shard.samples for shard in shards),
            class_counts=tuple(self._class_counts.tolist()),
            mean=tuple(s1 / s0 / 255 for s1, _ in moments),
            std=tuple(math.sqrt(s0 * s2 - s1 * s1) / s0 / 255 for s1, s2 in moments),
            pixels_sha256=hashlib.sha256(b"".join(self._digests)).hexdigest(),
            shards=tuple(shards),
            quarantined=tuple(quarantined),
        )
