"""What lies beside the tars: one manifest for the data set and one index for each shard.

    ROOT/manifest.json                          what the shards must be: counts, checksums, statistics, the licence
    ROOT/train/shard-000000.tar                 a plain WebDataset tar: KEY.cls and KEY.image.npy for every sample
    ROOT/train/shard-000000.idx.npz             where every sample of that tar begins and ends, and its crc32

The manifest vouches for the indices (sha256), an index for the samples of its tar (crc32), and the manifest for
itself (digest). The digest is the identity of the data that training records.

The *record* of a sample is the run of bytes of the tar that belongs to it: headers, labels, pixels and padding. Its
crc32 covers all of them, so damage that a reader of tars would trip over is seen by ours too.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.data.raw import Source
from gen.errors import DataError
from gen.files import digest

MANIFEST = "manifest.json"
FORMAT = "gen-shards/1"
REMEDY = "Write the shards again (`dvc repro --force shard@NAME`), or restore them with `dvc checkout`."


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as it was written: its name within the split's directory, its size in bytes and its sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A tar, its index and the number of samples in it."""

    tar: FileInfo
    index: FileInfo
    samples: int


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split.

    Attributes:
        samples: number of images.
        class_counts: images of each class; empty where the data have none.
        mean: of each channel, on the scale [0, 1].
        std: of each channel, on the scale [0, 1].
        pixels_sha256: of all pixels, uint8 (N, H, W, C), in order.
        shards: in the order of the samples.
    """

    samples: int
    class_counts: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels_sha256: str
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the shards of a data set must be.

    Attributes:
        source: where the data come from.
        shape: (channels, height, width) of every image.
        classes: names of the classes, in the order of the labels.
        splits: by name.
    """

    source: Source
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    splits: dict[str, SplitInfo]

    @property
    def digest(self) -> str:
        """sha256 of the manifest's contents, however the file is laid out."""
        return digest({"format": FORMAT, **asdict(self)})

    def dump(self) -> str:
        """The text of ``manifest.json``, which carries its own digest."""
        contents = {"format": FORMAT, "digest": self.digest, **asdict(self)}
        return json.dumps(contents, indent=1, ensure_ascii=False) + "\n"


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
        shape=tuple(contents["shape"]),
        classes=tuple(contents["classes"]),
        splits={
            name: SplitInfo(
                samples=split["samples"],
                class_counts=tuple(split["class_counts"]),
                mean=tuple(split["mean"]),
                std=tuple(split["std"]),
                pixels_sha256=split["pixels_sha256"],
                shards=tuple(
                    ShardInfo(FileInfo(**shard["tar"]), FileInfo(**shard["index"]), shard["samples"])
                    for shard in split["shards"]
                ),
            )
            for name, split in contents["splits"].items()
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Where the samples of a shard lie. All arrays have one entry for each sample, in the order of the tar.

    Attributes:
        key: names of the samples, as WebDataset groups them.
        offset: int64, first byte of the record in the tar.
        size: int64, bytes of the record.
        pixels: int64, first pixel within the record; an image's H x W x C bytes follow without a gap.
        crc32: uint32, of the record.
        label: int64, the class; ``None`` where the data have none.
    """

    key: NDArray[np.str_]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    pixels: NDArray[np.int64]
    crc32: NDArray[np.uint32]
    label: NDArray[np.int64] | None

    def dump(self) -> bytes:
        """The contents of the index file; equal indices give equal bytes."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in self.__slots__}
        np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
        return buffer.getvalue()


def read_index(path: Path) -> tuple[Index, str]:
    """Read an index file, whoever wrote it, and its sha256. Raises :class:`DataError` if it is not an index."""
    try:
        contents = path.read_bytes()
        with np.load(io.BytesIO(contents), allow_pickle=False) as arrays:
            return Index(**{"label": None, **arrays}), hashlib.sha256(contents).hexdigest()
    except FileNotFoundError as error:
        raise DataError(f"{path}: is not there. {REMEDY}") from error
    except Exception as error:  # NumPy and zipfile raise a dozen types on damaged files
        raise DataError(f"{path}: is not readable as an index ({error}). {REMEDY}") from error


def trusted_index(path: Path, shard: ShardInfo, *, image_bytes: int, num_classes: int) -> Index:
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
    if not _fits(index, shard, image_bytes, num_classes):
        raise DataError(f"{path}: does not describe {shard.samples} samples of {shard.tar.name}. {REMEDY}")
    return index


def _fits(index: Index, shard: ShardInfo, image_bytes: int, num_classes: int) -> bool:
    arrays = [index.key, index.offset, index.size, index.pixels, index.crc32]
    if index.label is not None:
        arrays.append(index.label)
    return bool(
        (index.label is not None) == (num_classes > 0)
        and all(array.shape == (shard.samples,) for array in arrays)
        and (index.offset >= 0).all()
        and (index.offset + index.size <= shard.tar.bytes).all()
        and (index.pixels >= 0).all()
        and (index.pixels + image_bytes <= index.size).all()
        and (index.label is None or ((index.label >= 0) & (index.label < num_classes)).all())
    )


class Statistics:
    """Exact statistics of images that arrive in pieces: the pieces do not change a digit."""

    def __init__(self, channels: int, classes: int) -> None:
        self._histogram = np.zeros((channels, 256), np.int64)
        self._class_counts = np.zeros(classes, np.int64)
        self._pixels = hashlib.sha256()

    def add(self, images: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> None:
        """Take in images (N, H, W, C) and their labels (N,)."""
        for channel in range(len(self._histogram)):
            self._histogram[channel] += np.bincount(images[..., channel].ravel(), minlength=256)
        if labels is not None:
            self._class_counts += np.bincount(labels, minlength=len(self._class_counts))
        self._pixels.update(np.ascontiguousarray(images).data)

    def describe(self, shards: Sequence[ShardInfo]) -> SplitInfo:
        """The entry of the split whose images were taken in."""
        # Sums of integers are exact, so mean and std do not depend on the order or the machine.
        moments = [[int((h * np.arange(256) ** k).sum()) for k in (0, 1, 2)] for h in self._histogram]
        return SplitInfo(
            samples=sum(shard.samples for shard in shards),
            class_counts=tuple(self._class_counts.tolist()),
            mean=tuple(s1 / s0 / 255 for s0, s1, _ in moments),
            std=tuple(math.sqrt(s0 * s2 - s1 * s1) / s0 / 255 for s0, s1, s2 in moments),
            pixels_sha256=self._pixels.hexdigest(),
            shards=tuple(shards),
        )
