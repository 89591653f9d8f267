"""Writing shards: plain WebDataset tars, with the manifest and the indices that make them exact.

    raw = Raw.load(Path("data/raw/digits"))
    digest = write_shards(raw, Path("data/shards/digits"))

Any WebDataset reader reads the tars: ``wds.WebDataset(tars).decode()`` gives ``image.npy`` as an array (H, W, C) and
``cls`` as an integer. The same data give the same bytes, on any machine at any time.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen.data.manifest import MANIFEST, FileInfo, Index, Manifest, ShardInfo, SplitInfo, Statistics
from gen.data.raw import Raw, Split
from gen.data.writing import replacing
from gen.errors import RecipeError

_BLOCK = tarfile.BLOCKSIZE
_END_OF_TAR = bytes(2 * _BLOCK)


def write_shards(raw: Raw, destination: Path, *, samples_per_shard: int = 1000) -> str:
    """Write ``raw`` as shards below ``destination``, all or nothing.

    Args:
        raw: the data set.
        destination: the directory to write; shards that are there are replaced.
        samples_per_shard: samples in every shard but the last of a split.

    Returns:
        The manifest's digest.

    Raises:
        RecipeError: ``samples_per_shard`` is not positive.
        DataError: the directory cannot be written; the message says how many bytes it needs.
    """
    if samples_per_shard < 1:
        raise RecipeError(f"samples_per_shard: found {samples_per_shard}, allowed 1 or more.")
    needed = sum(_needed(split) for split in raw.splits.values())
    with replacing(destination, marker=MANIFEST, needed=needed) as root:
        splits = {name: _write_split(split, raw, root / name, samples_per_shard) for name, split in raw.splits.items()}
        height, width, channels = next(iter(raw.splits.values())).images.shape[1:]
        manifest = Manifest(raw.source, (channels, height, width), raw.classes, splits)
        (root / MANIFEST).write_text(manifest.dump(), "utf-8")
    return manifest.digest


def _needed(split: Split) -> int:
    """Bytes that a split takes, to within a few kilobytes."""
    record, _ = _record("0" * 8, split.images[0], 0)
    return len(split.images) * (len(record) + 80)


def _write_split(split: Split, raw: Raw, folder: Path, samples_per_shard: int) -> SplitInfo:
    folder.mkdir()
    statistics = Statistics(split.images.shape[-1], len(raw.classes))
    shards = []
    for number, start in enumerate(range(0, len(split.images), samples_per_shard)):
        images = split.images[start : start + samples_per_shard]
        labels = None if split.labels is None else split.labels[start : start + samples_per_shard]
        statistics.add(images, labels)
        shards.append(_write_shard(images, labels, start, folder, f"shard-{number:06d}"))
    return statistics.describe(shards)


def _write_shard(
    images: NDArray[np.uint8], labels: NDArray[np.int64] | None, start: int, folder: Path, name: str
) -> ShardInfo:
    """Write a tar and its index. ``start`` is the place of the first image in the split, which gives the keys."""
    keys = [f"{start + row:08d}" for row in range(len(images))]
    sizes, pixels, crcs = [], [], []
    digest, path = hashlib.sha256(), folder / f"{name}.tar"
    with path.open("xb") as tar:
        for row, key in enumerate(keys):
            record, first_pixel = _record(key, images[row], None if labels is None else int(labels[row]))
            sizes.append(len(record))
            pixels.append(first_pixel)
            crcs.append(zlib.crc32(record))
            digest.update(record)
            tar.write(record)
        digest.update(_END_OF_TAR)
        tar.write(_END_OF_TAR)
    size = np.array(sizes, np.int64)
    index = Index(
        key=np.array(keys),
        offset=np.cumsum(size) - size,
        size=size,
        pixels=np.array(pixels, np.int64),
        crc32=np.array(crcs, np.uint32),
        label=labels,
    ).dump()
    (folder / f"{name}.idx.npz").write_bytes(index)
    return ShardInfo(
        tar=FileInfo(path.name, int(size.sum()) + len(_END_OF_TAR), digest.hexdigest()),
        index=FileInfo(f"{name}.idx.npz", len(index), hashlib.sha256(index).hexdigest()),
        samples=len(images),
    )


def _record(key: str, image: NDArray[np.uint8], label: int | None) -> tuple[bytes, int]:
    """The bytes of one sample in the tar, and the place of its first pixel among them."""
    before = b"" if label is None else b"".join(_member(f"{key}.cls", str(label).encode()))
    header, contents, padding = _member(f"{key}.image.npy", _npy(image))
    first_pixel = len(before) + len(header) + len(contents) - image.nbytes
    return before + header + contents + padding, first_pixel


def _member(name: str, contents: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, contents and padding of a file in the tar, with nothing in it that depends on who writes it or when."""
    info = tarfile.TarInfo(name)  # owner root, mode 0644, dated 1970-01-01
    info.size = len(contents)
    return info.tobuf(tarfile.USTAR_FORMAT), contents, bytes(-len(contents) % _BLOCK)


def _npy(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(image), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
