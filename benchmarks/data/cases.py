"""What is compared: the same images, stored as the same bytes, in the layout that each reader wants."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from gen.data.images import encode
from gen.data.sample import Arrays, Collection, Listed, Pixels, Sample, Source, Split, in_memory
from gen.shards.write import Format, write_shards

SHAPES = ((28, 28, 1), (32, 32, 3), (64, 64, 3))
ENCODINGS = ("npy", "png", "jpg")
CLASSES = tuple("0123456789")
SOURCE = Source("benchmark", "images made for a benchmark", "none", "none")


class Labelled(NamedTuple):
    """Images uint8 (N, H, W, C) and labels int64 (N,)."""

    images: Pixels
    labels: NDArray[np.int64]


def synthetic(count: int, shape: tuple[int, int, int]) -> Labelled:
    """Smooth random colours under a little noise: files of about the size that photographs of that size have."""
    generator = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(count, shape[2], 6, 6, generator=generator)
    images = torch.empty(count, *shape, dtype=torch.uint8)
    for chunk, part in zip(images.split(1024), coarse.split(1024), strict=True):
        smooth = F.interpolate(part, shape[:2], mode="bicubic")
        noisy = smooth + 4 * torch.randn(smooth.shape, generator=generator)
        chunk[:] = noisy.clamp(0, 255).round().movedim(1, -1)
    return Labelled(images.numpy(), torch.randint(10, (count,), generator=generator).numpy())


def real(root: Path, count: int, shape: tuple[int, int, int]) -> Labelled:
    """MNIST or CIFAR-10 as published below ``root``; synthetic images at sizes that neither has."""
    if shape == (28, 28, 1):
        images, labels = (
            np.frombuffer(gzip.decompress((root / "MNIST" / "raw" / name).read_bytes()), np.uint8, offset=offset)
            for name, offset in (("train-images-idx3-ubyte.gz", 16), ("train-labels-idx1-ubyte.gz", 8))
        )
        return Labelled(images.reshape(-1, *shape)[:count], labels[:count].astype(np.int64))
    if shape == (32, 32, 3):
        batches = [
            pickle.loads((root / "cifar-10-batches-py" / f"data_batch_{k}").read_bytes(), encoding="bytes")
            for k in range(1, 6)
        ]
        planes = np.concatenate([batch[b"data"] for batch in batches])[:count].reshape(-1, 3, 32, 32)
        labels = np.concatenate([batch[b"labels"] for batch in batches])[:count].astype(np.int64)
        return Labelled(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)
    return synthetic(count, shape)


@dataclass(frozen=True)
class Rows:
    """Images in a file of NumPy's, and their labels."""

    file: Path
    labels: NDArray[np.int64]

    def collection(self) -> Collection:
        """The same as a data set of which each process maps the file."""
        items = [(self.file, row, label) for row, label in enumerate(self.labels.tolist())]
        return Collection(SOURCE, {"train": Split(Listed(items, _row), self.labels)}, CLASSES)


@lru_cache(maxsize=1)
def mapped(file: Path) -> Pixels:
    """The images of a file, not read yet."""
    return np.asarray(np.load(file, mmap_mode="r"))  # of np.memmap every slice costs several microseconds


def _row(item: tuple[Path, int, int]) -> Sample:
    file, row, label = item
    return Sample(image=mapped(file)[row], label=label)


@dataclass(frozen=True)
class Case:
    """One size and encoding, and where its layouts are.

    Attributes:
        shape: (H, W, C) of an image.
        encoding: ``npy``, ``png`` or ``jpg``, which is also the suffix of its files.
        data: the images, before they were encoded.
        files: as they are stored in every layout.
        shards: ours, which are also WebDataset's.
        folder: one file for each image, in folders named like the classes.
        chunks: LitData's; empty where it is not installed.
    """

    shape: tuple[int, int, int]
    encoding: str
    data: Labelled
    files: list[bytes]
    shards: Path
    folder: Path
    chunks: Path

    @property
    def name(self) -> str:
        """What it is called."""
        return title(self.shape, self.encoding)

    @property
    def tars(self) -> list[str]:
        """The tars of its shards."""
        return [str(path) for path in sorted((self.shards / "train").glob("*.tar"))]


def title(shape: tuple[int, int, int], encoding: str) -> str:
    """What a case is called."""
    height, width, channels = shape
    return f"{height} x {width} {'grey' if channels == 1 else 'colour'}, {encoding}"


def build(root: Path, data: Labelled, encoding: str) -> Case:
    """Write every layout of the images below ``root``."""
    shape = data.images.shape[1:]
    files = [_encoded(image, encoding) for image in data.images]
    case = Case(shape, encoding, data, files, root / "shards", root / "folder", root / "chunks")
    write_shards(_collection(case), case.shards, form=Format(encode="npy" if encoding == "npy" else "keep"))
    for name in CLASSES:
        (case.folder / name).mkdir(parents=True)
    for number, (contents, label) in enumerate(zip(files, data.labels.tolist(), strict=True)):
        (case.folder / CLASSES[label] / f"{number:08d}.{encoding}").write_bytes(contents)
    _write_chunks(case)
    return case


def _encoded(image: Pixels, encoding: str) -> bytes:
    if encoding != "jpg":
        return encode(image, encoding)
    file = BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "JPEG", quality=90)
    return file.getvalue()


def _collection(case: Case) -> Collection:
    if case.encoding == "npy":
        return in_memory(SOURCE, {"train": Arrays(*case.data)}, classes=CLASSES)
    items = list(zip(case.files, case.data.labels.tolist(), strict=True))
    return Collection(SOURCE, {"train": Split(Listed(items, _sample), case.data.labels)}, CLASSES)


def _sample(item: tuple[bytes, int]) -> Sample:
    return Sample(image=item[0], label=item[1])


def _write_chunks(case: Case) -> None:
    try:
        from litdata.streaming import Cache
    except ImportError:
        return
    case.chunks.mkdir()
    total = sum(map(len, case.files))
    cache = Cache(str(case.chunks), chunk_bytes=max(1 << 18, total // 16))  # so that two workers share them evenly
    for number, label in enumerate(case.data.labels.tolist()):
        image = case.data.images[number] if case.encoding == "npy" else case.files[number]
        cache[number] = {"image": image, "label": label}
    cache.done()
    cache.merge()
