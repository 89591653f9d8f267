"""Finding every damage to shards before training does.

Plain WebDataset loses samples without a word in five of seven kinds of damage to a tar (cut between two files, cut
inside a header, a flipped bit in a header or in the data, ...), and can hand on half a sample. Here a manifest, an
index and a checksum of every record stand against that: :func:`verify` says which file is damaged, how, and which
samples are lost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gen.data.damage import Damage, diagnose, extra, inspect, tar_path, unlisted
from gen.data.index import REMEDY, Index
from gen.data.manifest import MANIFEST, Manifest, ShardInfo, Statistics, read_manifest
from gen.errors import DataError
from gen.files import sha256
from gen.remote.files import fetch, is_remote
from gen.shards.scan import scan


def verify(
    root: Path, fast: bool = False, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Damage]:
    """Every damage to the shards below ``root``; an empty list if there is none.

    Args:
        root: the directory that holds the manifest.
        fast: look only at the manifest, the indices and the names and sizes of the tars; do not read the tars.
        progress: told how many samples are read, of how many, after every shard.
    """
    try:
        manifest = read_manifest(root)
    except DataError as error:
        return [Damage("manifest", root / MANIFEST, str(error))]
    damages = [extra(root / name) for name in unlisted(root, {MANIFEST, *manifest.splits})]
    total = sum(split.samples for split in manifest.splits.values())
    done = 0
    for split in manifest.splits:
        indices, found = inspect(root, manifest, split)
        damages += found
        if not fast:
            check = _Check(root, manifest, split, indices, {damage.file for damage in found})
            for shard in manifest.splits[split].shards:
                check.shard(shard)
                done += shard.samples
                progress(done, total)
            damages += check.end()
    return damages


class _Check:
    """Reads the tars of a split that look sound from the outside, and compares what is in them."""

    def __init__(
        self, root: Path, manifest: Manifest, split: str, indices: Mapping[str, Index], suspects: set[Path]
    ) -> None:
        self.root, self.manifest, self.split = root, manifest, split
        self.indices, self.suspects = indices, suspects
        self.folder, self.info = root / split, manifest.splits[split]
        self.statistics = Statistics(manifest.shape[0], len(manifest.classes))
        self.damages: list[Damage] = []
        self.sound = 0  # tars whose images are counted

    def shard(self, shard: ShardInfo) -> None:
        """Read one tar."""
        path = tar_path(self.folder, shard)
        if path in self.suspects:
            return
        if not is_remote(shard.place):
            self._read(path, path, shard)
            return
        with tempfile.TemporaryDirectory() as folder:
            fetched = Path(folder) / shard.tar.name
            try:
                fetch(shard.place, fetched, sha256=shard.tar.sha256, bytes=shard.tar.bytes)
            except DataError as error:
                self.damages.append(Damage("content", path, str(error)))
            else:
                self._read(fetched, path, shard)

    def _read(self, path: Path, shown: Path, shard: ShardInfo) -> None:
        index = self.indices.get(shard.tar.name)
        if sha256(path) != shard.tar.sha256:
            self.damages.append(diagnose(path, shard, index, self.manifest))
        elif index is not None:
            self.damages += self._contents(path, shown, shard, index)

    def _contents(self, path: Path, shown: Path, shard: ShardInfo, index: Index) -> list[Damage]:
        """Compare the index with one made anew from the tar, and count the images."""
        manifest, index_path = self.manifest, self.folder / shard.index.name
        shapes = {name: field.shape for name, field in manifest.fields.items() if name != "caption"}
        try:
            found = scan(path, classes=len(manifest.classes), attributes=manifest.attributes, shapes=shapes)
        except DataError as error:
            return [Damage("content", shown, f"{error} {REMEDY}")]
        known = {(key, path.name) for key, _, _ in self.info.quarantined}
        if bad := [each for each in found.bad if (each.key, each.origin) not in known]:
            lost = tuple(each.key for each in bad)
            return [Damage("content", shown, f"{shown}: holds {bad[0]} ({len(bad)} such samples). {REMEDY}", lost)]
        if found.index.dump() != index.dump():
            message = f"{index_path}: does not describe what {shard.tar.name} holds. {REMEDY}"
            return [Damage("index", index_path, message)]
        self.statistics.extend(found.statistics)
        self.sound += 1
        return []

    def end(self) -> list[Damage]:
        """All damages, after the last shard."""
        described = replace(self.info, quarantined=())
        if self.sound == len(self.info.shards) and self.statistics.describe(self.info.shards) != described:
            path = self.root / MANIFEST
            self.damages.append(
                Damage(
                    "statistics",
                    path,
                    f"{path}: the counts, mean, std or pixel checksum of '{self.split}' are not those of the images "
                    f"in its shards. {REMEDY}",
                )
            )
        return self.damages
