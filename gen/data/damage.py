"""Looking at shards from the outside: which files are there, their sizes and indices; and what is wrong with them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gen.data.index import REMEDY, Index, read_index
from gen.data.manifest import Manifest, ShardInfo, trusted_index
from gen.errors import DataError
from gen.files import sha256
from gen.remote.files import is_remote

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


def inspect(root: Path, manifest: Manifest, split: str) -> tuple[dict[str, Index], list[Damage]]:
    """Look at a split from the outside: which files are there, their sizes, and the indices.

    Tars on a server are not looked at: whoever fetches one checks it.

    Returns:
        The index of each tar whose index is sound, by the tar's name, and the damages.
    """
    folder, shards = root / split, manifest.splits[split].shards
    listed = {file.name for shard in shards for file in (shard.tar, shard.index)}
    damages = [extra(folder / name) for name in unlisted(folder, listed)]
    indices: dict[str, Index] = {}
    for shard in shards:
        path, index_path = tar_path(folder, shard), folder / shard.index.name
        try:
            indices[shard.tar.name] = trusted_index(index_path, shard, manifest)
        except DataError as error:
            damages.append(Damage("index", index_path, str(error)))
        if is_remote(shard.place):
            continue
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
            damages.append(diagnose(path, shard, indices.get(shard.tar.name), manifest))
    return indices, damages


def tar_path(folder: Path, shard: ShardInfo) -> Path:
    """Where the tar of a shard lies; for one on a server, the name it goes by."""
    return folder / shard.tar.name if not shard.place or is_remote(shard.place) else Path(shard.place)


def diagnose(path: Path, shard: ShardInfo, index: Index | None, manifest: Manifest) -> Damage:
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


def unlisted(folder: Path, listed: set[str]) -> list[str]:
    """Names in ``folder`` that are not listed, hidden ones aside."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in listed and entry.name[0] != ".")


def extra(path: Path) -> Damage:
    """A file that nobody listed."""
    message = f"{path}: is not listed in the manifest; readers of tars would read it as data. Remove it."
    return Damage("extra", path, message)
