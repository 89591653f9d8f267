"""Reading shards: any samples in any order, every one of them checked.

    reader = open_split(Path("data/shards/digits"), "train", device="cuda")
    images, labels = reader.batch(np.array([3, 1, 4]))

A split that fits a stated budget is decoded once into one tensor on the device; a larger one is read from
memory-mapped tars through their indices. Both give the same tensors and never a damaged or partial sample.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen.data.manifest import REMEDY, Index, Manifest, read_manifest
from gen.data.verify import inspect
from gen.errors import DataError, nearest

_CHUNK = 4096  # samples decoded at a time while a split is made resident


class Reader(Protocol):
    """Random access to the samples of a split.

    Attributes:
        shape: (channels, height, width) of an image.
        num_classes: number of classes; 0 if the data have no labels.
        digest: the manifest's digest, the identity of the data.
    """

    shape: tuple[int, int, int]
    num_classes: int
    digest: str

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """The samples at ``indices`` (B,), at least one, in that order and as often as they are named.

        Returns:
            Images, uint8 (B, C, H, W), and labels, int64 (B,) or ``None``, on the reader's device.

        Raises:
            DataError: a sample is not what was written.
            IndexError: an index is outside [0, len).
        """
        ...


def open_split(
    root: Path, split: str, *, device: str | torch.device = "cpu", resident_bytes: int = 2 << 30, check: bool = True
) -> Reader:
    """Open a split of the shards below ``root``.

    Args:
        root: the directory that holds the manifest.
        split: e.g. ``train``.
        device: where the batches shall be.
        resident_bytes: the split is held in the device's memory if its pixels need no more than this.
        check: compare the crc32 of every sample that is read.

    Raises:
        DataError: there is no such split, or its files are not those of the manifest.
    """
    manifest = read_manifest(root)
    if split not in manifest.splits:
        raise DataError(
            f"{root}: there is no split '{split}'. Allowed: {', '.join(manifest.splits)}."
            f"{nearest(split, manifest.splits)}"
        )
    mapped = Mapped(root, manifest, split, torch.device(device), check)
    fits = len(mapped) * math.prod(mapped.shape) <= resident_bytes
    return Resident(mapped, torch.device(device)) if fits else mapped


class Mapped:
    """A :class:`Reader` of memory-mapped tars. Batches may be read from several threads at once."""

    def __init__(self, root: Path, manifest: Manifest, split: str, device: torch.device, check: bool) -> None:
        self.shape = manifest.shape
        self.num_classes = len(manifest.classes)
        self.digest = manifest.digest
        self._device, self._check = device, check
        indices, damages = inspect(root, manifest, split)
        if damages:
            raise DataError(f"{damages[0]} ({len(damages)} damages in all; `gen.data.verify.verify` lists them.)")
        shards = manifest.splits[split].shards
        self._paths = [root / split / shard.tar.name for shard in shards]
        self._maps = [_map(path) for path in self._paths]
        self._bytes = [memoryview(mapped) for mapped in self._maps]
        self._shard = np.repeat(np.arange(len(shards)), [shard.samples for shard in shards])
        self._index = _concatenate([indices[shard.tar.name] for shard in shards])
        self._stop = self._index.offset + self._index.size

    def __len__(self) -> int:
        return len(self._shard)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Reader.batch`."""
        _check_range(indices, len(self))
        index, shards = self._index, self._shard[indices].tolist()
        self._check_sizes(shards)
        starts, stops = index.offset[indices].tolist(), self._stop[indices].tolist()
        # One copy, then everything below works on memory that nobody else can change: what is checked is what is used.
        sources = [self._bytes[shard][start:stop] for shard, start, stop in zip(shards, starts, stops, strict=True)]
        records = memoryview(bytearray().join(sources))
        sizes = index.size[indices]
        ends = np.cumsum(sizes)
        begins = ends - sizes
        if self._check:
            spans = zip(begins.tolist(), ends.tolist(), strict=True)
            found = [crc32(records[begin:end]) for begin, end in spans]
            if found != index.crc32[indices].tolist():
                raise self._damage(indices, np.array(found, np.uint32))
        channels, height, width = self.shape
        image_bytes = channels * height * width
        firsts = (begins + index.pixels[indices]).tolist()
        pixels = bytearray().join([records[first : first + image_bytes] for first in firsts])
        images = torch.frombuffer(pixels, dtype=torch.uint8).view(-1, height, width, channels)
        labels = None if index.label is None else torch.from_numpy(index.label[indices]).to(self._device)
        return images.permute(0, 3, 1, 2).contiguous().to(self._device), labels

    def _check_sizes(self, shards: list[int]) -> None:
        """Refuse to touch a tar that was cut since it was opened: the kernel would kill the process (SIGBUS)."""
        for shard in set(shards):
            if self._maps[shard].size() < len(self._maps[shard]):
                raise DataError(f"{self._paths[shard]}: was cut while it was being read. {REMEDY}")

    def _damage(self, indices: NDArray[np.int64], found: NDArray[np.uint32]) -> DataError:
        bad = np.flatnonzero(found != self._index.crc32[indices])
        first = indices[bad[0]]
        return DataError(
            f"{self._paths[self._shard[first]]}: sample '{self._index.key[first]}' is damaged (crc32 "
            f"{found[bad[0]]:08x}, expected {self._index.crc32[first]:08x}); {len(bad)} of the {len(indices)} samples "
            f"of this batch are. {REMEDY}"
        )


class Resident:
    """A :class:`Reader` of a split that was decoded once, and checked, into a tensor on the device."""

    def __init__(self, mapped: Mapped, device: torch.device) -> None:
        self.shape, self.num_classes, self.digest = mapped.shape, mapped.num_classes, mapped.digest
        count = len(mapped)
        self._images = torch.empty((count, *mapped.shape), dtype=torch.uint8, device=device)
        self._labels = torch.empty(count, dtype=torch.int64, device=device) if mapped.num_classes else None
        for start in range(0, count, _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, count))
            images, labels = mapped.batch(rows)
            self._images[start : start + len(rows)] = images
            if self._labels is not None and labels is not None:
                self._labels[start : start + len(rows)] = labels

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Reader.batch`."""
        _check_range(indices, len(self))
        rows = torch.from_numpy(indices).to(self._images.device)
        labels = None if self._labels is None else self._labels.index_select(0, rows)
        return self._images.index_select(0, rows), labels


def _check_range(indices: NDArray[np.int64], count: int) -> None:
    # Checked here because a negative index would wrap around and, on a GPU, one too large would kill the context.
    if len(indices) and not 0 <= indices.min() <= indices.max() < count:
        raise IndexError(f"indices from {indices.min()} to {indices.max()} into a split of {count} samples")


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as tar:
            return mmap.mmap(tar.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be mapped: {error.strerror}. If too many files are open, raise the limit (`ulimit -n`) "
            "or write larger shards."
        ) from error


def _concatenate(indices: list[Index]) -> Index:
    """One index for all shards of a split; offsets stay relative to their own tar."""
    labels = [index.label for index in indices if index.label is not None]
    return Index(
        key=np.concatenate([index.key for index in indices]),
        offset=np.concatenate([index.offset for index in indices]),
        size=np.concatenate([index.size for index in indices]),
        pixels=np.concatenate([index.pixels for index in indices]),
        crc32=np.concatenate([index.crc32 for index in indices]),
        label=np.concatenate(labels) if labels else None,
    )


def everything(root: Path, split: str, *, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
    """A whole split of labelled images in stored order: uint8 (N, C, H, W) and int64 (N,)."""
    reader = open_split(root, split, device=device)
    images, labels = reader.batch(np.arange(len(reader)))
    if labels is None:
        raise DataError(f"{root}: the split '{split}' has no labels, which this needs.")
    return images, labels
