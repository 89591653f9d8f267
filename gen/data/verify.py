"""Finding every damage to shards before training does.

Plain WebDataset loses samples without a word in five of seven kinds of damage to a tar (cut between two files, cut
inside a header, a flipped bit in a header or in the data, ...), and can hand on half a sample. Here a manifest, an
index and a checksum of every record stand against that: :func:`verify` says which file is damaged, how, and which
samples are lost.
"""

from __future__ import annotations

import io
import itertools
import math
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gen.data.manifest import (
    MANIFEST,
    REMEDY,
    Index,
    Manifest,
    ShardInfo,
    Statistics,
    read_index,
    read_manifest,
    trusted_index,
)
from gen.errors import DataError
from gen.files import sha256

Kind = Literal["manifest", "missing", "extra", "size", "content", "swapped", "stale", "index", "statistics"]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was written.

    Attributes:
        kind: ``manifest`` (unreadable or changed), ``missing``, ``extra`` (a file nobody listed), ``size`` (cut or
            grown), ``content`` (bytes changed), ``swapped`` (the bytes of another shard), ``stale`` (tar and index
            fit each other but not the manifest), ``index`` (unreadable, changed, or not what the tar holds),
            ``statistics`` (the images are not those that the manifest describes).
        file: the file that is damaged.
        message: what was found, what was expected and what to do.
        lost: keys of the samples that cannot be read any more; empty too if the index that names them is damaged.
    """

    kind: Kind
    file: Path
    message: str
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


def verify(root: Path, fast: bool = False) -> list[Damage]:
    """Every damage to the shards below ``root``; an empty list if there is none.

    Args:
        root: the directory that holds the manifest.
        fast: look only at the manifest, the indices and the names and sizes of the tars; do not read the tars.
    """
    try:
        manifest = read_manifest(root)
    except DataError as error:
        return [Damage("manifest", root / MANIFEST, str(error))]
    damages = [_extra(root / name) for name in _unlisted(root, {MANIFEST, *manifest.splits})]
    for split in manifest.splits:
        indices, found = inspect(root, manifest, split)
        damages += found
        if not fast:
            suspects = {damage.file for damage in found}
            damages += _verify_contents(root / split, manifest, split, indices, suspects)
    return damages


def inspect(root: Path, manifest: Manifest, split: str) -> tuple[dict[str, Index], list[Damage]]:
    """Look at a split from the outside: which files are there, their sizes, and the indices.

    Returns:
        The index of each tar whose index is sound, by the tar's name, and the damages.
    """
    folder, shards = root / split, manifest.splits[split].shards
    image_bytes, num_classes = math.prod(manifest.shape), len(manifest.classes)
    listed = {file.name for shard in shards for file in (shard.tar, shard.index)}
    damages = [_extra(folder / name) for name in _unlisted(folder, listed)]
    indices: dict[str, Index] = {}
    for shard in shards:
        path, index_path = folder / shard.tar.name, folder / shard.index.name
        try:
            indices[shard.tar.name] = trusted_index(index_path, shard, image_bytes=image_bytes, num_classes=num_classes)
        except DataError as error:
            damages.append(Damage("index", index_path, str(error)))
        if not path.is_file():
            index = indices.get(shard.tar.name)
            damages.append(
                Damage(
                    "missing",
                    path,
                    f"{path}: is not there; the manifest lists it with {shard.samples} samples. {REMEDY}",
                    () if index is None else tuple(index.key.tolist()),
                )
            )
        elif path.stat().st_size != shard.tar.bytes:
            damages.append(_diagnose(path, shard, indices.get(shard.tar.name), manifest))
    return indices, damages


def _verify_contents(
    folder: Path, manifest: Manifest, split: str, indices: Mapping[str, Index], suspects: set[Path]
) -> list[Damage]:
    """Read the tars that look sound from the outside, and what is in them."""
    info = manifest.splits[split]
    statistics = Statistics(manifest.shape[0], len(manifest.classes))
    damages: list[Damage] = []
    for shard in info.shards:
        path, index = folder / shard.tar.name, indices.get(shard.tar.name)
        if path in suspects:
            continue
        if sha256(path) != shard.tar.sha256:
            damages.append(_diagnose(path, shard, index, manifest))
        elif index is not None:
            damages += _verify_index(path, shard, index, manifest.shape, statistics)
    if not damages and not suspects and statistics.describe(info.shards) != info:
        damages.append(
            Damage(
                "statistics",
                folder.parent / MANIFEST,
                f"{folder.parent / MANIFEST}: the counts, mean, std or pixel checksum of '{split}' are not those "
                f"of the images in its shards. {REMEDY}",
            )
        )
    return damages


def _verify_index(
    path: Path, shard: ShardInfo, index: Index, shape: tuple[int, int, int], statistics: Statistics
) -> list[Damage]:
    """Compare the index with one made anew from the tar, and add the images to ``statistics``."""
    index_path = path.with_name(shard.index.name)
    try:
        images, fresh = scan(path)
    except (tarfile.TarError, ValueError, LookupError) as error:
        return [Damage("content", path, f"{path}: is not a tar of samples ({error}). {REMEDY}")]
    channels, height, width = shape
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
        found = f"{images.dtype} images of shape {images.shape[1:]}, expected uint8 of {(height, width, channels)}"
        return [Damage("content", path, f"{path}: holds {found}. {REMEDY}")]
    if fresh.dump() != index.dump():
        return [Damage("index", index_path, f"{index_path}: does not describe what {path.name} holds. {REMEDY}")]
    statistics.add(images, fresh.label)
    return []


def scan(path: Path) -> tuple[NDArray[np.uint8], Index]:
    """Read a tar as any WebDataset reader would, without its index.

    Returns:
        The images, uint8 (N, H, W, C), and the index of the tar.

    Raises:
        tarfile.TarError: it is not a tar.
        ValueError, LookupError: its members are not those of samples.
    """
    contents = path.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(contents), mode="r:") as tar:
        samples = [
            (key, {member.name.partition(".")[2]: member for member in members})
            for key, members in itertools.groupby(tar, lambda member: member.name.partition(".")[0])
        ]
    starts = [min(member.offset for member in members.values()) for _, members in samples]
    stops = [
        max(
            member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for member in members.values()
        )
        for _, members in samples
    ]

    def read(member: tarfile.TarInfo) -> bytes:
        return contents[member.offset_data : member.offset_data + member.size]

    pictures = [members["image.npy"] for _, members in samples]
    images = [np.lib.format.read_array(io.BytesIO(read(member)), allow_pickle=False) for member in pictures]
    labels = [int(read(members["cls"])) for _, members in samples if "cls" in members]
    index = Index(
        key=np.array([key for key, _ in samples]),
        offset=np.array(starts, np.int64),
        size=np.array(stops, np.int64) - np.array(starts, np.int64),
        pixels=np.array(
            [m.offset_data + m.size - x.nbytes - start for m, x, start in zip(pictures, images, starts, strict=True)],
            np.int64,
        ),
        crc32=np.array(
            [zlib.crc32(contents[start:stop]) for start, stop in zip(starts, stops, strict=True)], np.uint32
        ),
        label=np.array(labels, np.int64) if labels else None,
    )
    return np.stack(images), index


def _diagnose(path: Path, shard: ShardInfo, index: Index | None, manifest: Manifest) -> Damage:
    """Say what happened to a tar whose size or checksum is wrong, and which of its samples are lost."""
    others = {other.tar.sha256: f"{name}/{other.tar.name}" for name, other in _all_shards(manifest)}
    lost = () if index is None else _lost(path, index)
    count = "an unknown number" if index is None else f"{len(lost)}"
    size = path.stat().st_size
    kind: Kind
    if (twin := others.get(sha256(path))) is not None:
        kind, found = "swapped", f"holds the bytes of {twin}"
    elif index is None and _consistent(path, shard):
        kind, found = "stale", "fits its index, but neither is what the manifest describes: it is of another writing"
    elif size != shard.tar.bytes:
        verb = "was cut" if size < shard.tar.bytes else "has grown"
        kind, found = "size", f"{verb}: it has {size:,} bytes, {shard.tar.bytes:,} were written"
    else:
        kind, found = "content", "was changed: its sha256 is not the one that was written"
    return Damage(kind, path, f"{path}: {found}. {count} of its {shard.samples} samples cannot be read. {REMEDY}", lost)


def _lost(path: Path, index: Index) -> tuple[str, ...]:
    """Keys of the samples whose records in ``path`` are not those that were indexed."""
    with path.open("rb") as tar:

        def intact(offset: int, size: int, crc32: int) -> bool:
            tar.seek(offset)
            return zlib.crc32(tar.read(size)) == crc32

        records = zip(index.offset.tolist(), index.size.tolist(), index.crc32.tolist(), strict=True)
        return tuple(key for key, record in zip(index.key.tolist(), records, strict=True) if not intact(*record))


def _consistent(path: Path, shard: ShardInfo) -> bool:
    """Whether a tar and the index beside it were written together."""
    try:
        return not _lost(path, read_index(path.with_name(shard.index.name))[0])
    except (DataError, ValueError, TypeError):
        return False


def _all_shards(manifest: Manifest) -> Iterator[tuple[str, ShardInfo]]:
    return ((name, shard) for name, split in manifest.splits.items() for shard in split.shards)


def _unlisted(folder: Path, listed: set[str]) -> list[str]:
    """Names in ``folder`` that are not listed, hidden ones aside."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in listed and entry.name[0] != ".")


def _extra(path: Path) -> Damage:
    message = f"{path}: is not listed in the manifest; readers of tars would read it as data. Remove it."
    return Damage("extra", path, message)
