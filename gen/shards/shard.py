"""Writing one shard: a tar, its index, and what the manifest needs to know of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.data.images import Prepare
from gen.data.index import Index
from gen.data.manifest import Field, FileInfo, ShardInfo, Statistics
from gen.data.quarantine import Bad
from gen.data.sample import FIELDS, Pixels, Sample, Split
from gen.errors import DataError
from gen.files import fsync, sha256
from gen.shards import tar
from gen.shards.contents import Collector, Entry, check_attributes, check_caption
from gen.shards.record import Encode, members, record
from gen.shards.scan import scan

_BUFFER = 1 << 20  # bytes written at a time: half the time of Python's usual 8 KiB


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One shard to be written, and all that is needed for it. Can be pickled and sent to another process.

    Attributes:
        folder: of the split.
        number: of the shard in the split.
        first: place of the first sample in the split.
        split: its samples.
        prepare: what to do to the images.
        encode: see :class:`Format`.
        shapes: of the pictures of every sample.
        captioned: whether every sample has a caption.
        classes: number of classes.
        attributes: names of the attributes.
    """

    folder: Path
    number: int
    first: int
    split: Split
    prepare: Prepare
    encode: Encode
    shapes: Mapping[str, tuple[int, ...]]
    captioned: bool
    classes: int
    attributes: tuple[str, ...]

    @property
    def tar(self) -> Path:
        """Of the shard."""
        return self.folder / f"shard-{self.number:06d}.tar"

    @property
    def index(self) -> Path:
        """Of the shard's index."""
        return self.folder / f"shard-{self.number:06d}.idx.npz"

    def key(self, row: int) -> str:
        """Of the ``row``-th sample of this shard."""
        return f"{self.first + row:08d}"


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What came of a task.

    Attributes:
        shard: the tar and its index; ``None`` where no sample could be read.
        fields: of its samples.
        statistics: of their images.
        bad: the samples that could not be read.
    """

    shard: ShardInfo | None
    fields: Mapping[str, Field]
    statistics: Statistics
    bad: list[Bad]


Run = Callable[[Callable[[Any], Written], Sequence[Any]], Iterable[Written]]
"""Does tasks, in this process or in others, and gives what came of them in their order."""


def write_shard(task: Task) -> Written:
    """Write a shard and its index; one that an earlier attempt finished is read instead.

    Raises:
        DataError: the samples do not fit together.
    """
    if (found := _finished(task)) is not None:
        return found
    collector = Collector(task.classes, dict(task.shapes))
    digest, offset = hashlib.sha256(), 0
    part = task.tar.with_suffix(".part")
    with part.open("wb", buffering=_BUFFER) as file:
        for row in range(len(task.split)):
            try:
                sample, pictures = prepared(task.split.samples[row], task.prepare)
            except DataError as problem:
                collector.bad.append(Bad(task.key(row), "", str(problem)))
                continue
            label = None if task.split.labels is None else int(task.split.labels[row])
            _check(sample, pictures, task)
            files = members(sample, pictures, task.encode, task.attributes, label)
            packed, spans = record(task.key(row), files)
            extensions = {name: member.extension for name, member in files.items() if name in FIELDS}
            collector.add(Entry(task.key(row), offset, packed, spans, extensions, pictures, label, sample.attributes))
            digest.update(packed)
            file.write(packed)
            offset += len(packed)
        digest.update(tar.END)
        file.write(tar.END)
    contents = collector.contents()
    if contents is None:
        part.unlink()
        return Written(None, {}, Statistics(task.shapes["image"][-1], task.classes), collector.bad)
    fsync(part)
    part.replace(task.tar)
    info = FileInfo(task.tar.name, offset + len(tar.END), digest.hexdigest())
    shard = seal_shard(contents.index, task.index, tar=info)
    return Written(shard, contents.fields, contents.statistics, contents.bad)


def seal_shard(index: Index, path: Path, *, tar: FileInfo, place: str = "") -> ShardInfo:
    """Write the index of a tar, whole or not at all, and describe the shard."""
    contents, part = index.dump(), path.with_suffix(".part")
    part.write_bytes(contents)
    fsync(part)
    part.replace(path)
    fsync(path.parent)
    return ShardInfo(tar, FileInfo(path.name, len(contents), hashlib.sha256(contents).hexdigest()), len(index), place)


def _finished(task: Task) -> Written | None:
    """What an earlier attempt wrote; ``None`` if it did not get to the end of this shard, or it is damaged since."""
    if not task.index.exists():  # it is written last
        return None
    try:
        contents = scan(task.tar, classes=task.classes, attributes=task.attributes, shapes=task.shapes)
    except DataError:
        return None
    dump = contents.index.dump()
    if contents.bad or dump != task.index.read_bytes():
        return None
    keys = contents.index.key.tolist()
    for row in sorted(set(range(len(task.split))) - {int(key) - task.first for key in keys}):
        try:
            prepared(task.split.samples[row], task.prepare)
            return None
        except DataError as problem:  # why it was left out is not written down
            contents.bad.append(Bad(task.key(row), "", str(problem)))
    shard = ShardInfo(
        FileInfo(task.tar.name, task.tar.stat().st_size, sha256(task.tar)),
        FileInfo(task.index.name, len(dump), hashlib.sha256(dump).hexdigest()),
        len(keys),
    )
    return Written(shard, contents.fields, contents.statistics, contents.bad)


def prepared(sample: Sample, prepare: Prepare) -> tuple[Sample, dict[str, Pixels]]:
    """A sample, and its pictures by field, decoded and prepared.

    Raises:
        DataError: a picture cannot be decoded, or its caption or attributes cannot be stored.
    """
    if sample.caption is not None:  # JSON can smuggle in halves of characters, which no encoding has
        check_caption(sample.caption.encode("utf-8", "surrogatepass"), sample.origin)
    check_attributes(sample.attributes, sample.origin)
    pictures = {"image": prepare.image(sample.image, sample.origin)}
    if sample.target is not None:
        pictures["target"] = prepare.target(sample.target, sample.origin)
    return sample, pictures


def _check(sample: Sample, pictures: Mapping[str, Pixels], task: Task) -> None:
    """Hold a sample to what all samples have in common."""
    found = {name: picture.shape for name, picture in pictures.items()}
    if found != dict(task.shapes):
        raise DataError(
            f"{sample.origin}: its pictures are {found}, those of the first sample {dict(task.shapes)}; all must be "
            "alike. Declare `prepare: { mode: ..., crop: ..., resize: ... }` for the data set in params.yaml."
        )
    if (sample.caption is not None) != task.captioned:
        raise DataError(f"{sample.origin}: all samples have a caption, or none has; this one differs from the first.")
