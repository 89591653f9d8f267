"""Writing shards: plain WebDataset tars, with the manifest and the indices that make them exact.

    digest = write_shards(digits(), Path("data/shards/digits"))

Any WebDataset reader reads the tars: ``wds.WebDataset(tars).decode()`` gives ``image.npy`` as an array (H, W, C) and
``cls`` as an integer. The same data give the same bytes, on any machine, at any time and with any number of writers:
what a shard holds is decided before the first one is written, and every shard is written by one task of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gen.data.images import Prepare
from gen.data.manifest import MANIFEST, Field, Manifest, SplitInfo
from gen.data.quarantine import Bad, Policy
from gen.data.sample import Collection
from gen.errors import DataError, RecipeError
from gen.shards.directory import replacing
from gen.shards.record import Encode, members, record
from gen.shards.shard import Run, Task, Written, prepared, write_shard
from gen.shards.splits import carve, check_names

_MEASURED = 64  # samples whose size decides how many make a shard of so many bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """How samples are stored.

    Attributes:
        encode: ``npy`` stores pixels as they are: largest, and read at the speed of memory. ``png`` and ``webp``
            compress them without loss. ``keep`` stores the source's own files, which must need no preparation.
        samples: samples in every shard but the last of a split.
        bytes: about so many bytes in a shard, instead of ``samples``.
        shuffle: store the samples in a random order, for those who stream shards of data that are sorted by class.
    """

    encode: Encode = "npy"
    samples: int = 1_000
    bytes: int | None = None
    shuffle: bool = False

    def __post_init__(self) -> None:
        if self.encode not in ("npy", "png", "webp", "keep"):
            raise RecipeError(f"encode: found {self.encode!r}, allowed: npy, png, webp, keep.")
        for name in ("samples", "bytes"):
            found = getattr(self, name)
            if found is not None and found < 1:
                raise RecipeError(f"{name}: found {found}, allowed 1 or more.")


def write_shards(
    collection: Collection,
    destination: Path,
    *,
    prepare: Prepare | None = None,
    splits: Mapping[str, float] | None = None,
    form: Format | None = None,
    damaged: str = "fail",
    run: Run = map,
    resume: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Write a data set as shards below ``destination``, all or nothing.

    Args:
        collection: the data set.
        destination: the directory to write; shards that are there are replaced.
        prepare: what to do to its images.
        splits: further splits to take out of ``train`` (see :func:`gen.shards.splits.carve`).
        form: how to store the samples.
        damaged: what to do about samples that cannot be read (see :mod:`gen.data.quarantine`).
        run: does the tasks.
        resume: names what is written, in letters and digits. After an interruption the same name goes on behind the
            shards that are finished; without one everything is written anew.
        progress: told how many samples are done, of how many, after every shard.

    Returns:
        The manifest's digest.

    Raises:
        RecipeError: an argument is impossible.
        DataError: samples cannot be read or do not fit together, or the directory cannot be written.
    """
    policy = Policy.parse(damaged)
    plan = Plan(collection, prepare=prepare, splits=splits, form=form, damaged=damaged)
    total = sum(len(split) for split in plan.parts.values())
    with replacing(destination, marker=MANIFEST, needed=total * (plan.record_bytes + 80), resume=resume) as root:
        tasks = plan.tasks(root)
        results: dict[str, list[Written]] = {name: [] for name in plan.parts}
        bad: dict[str, list[Bad]] = {name: [] for name in plan.parts}
        done = 0
        for task, written in zip(tasks, run(write_shard, tasks), strict=True):
            name = task.folder.name
            results[name].append(written)
            bad[name] += written.bad
            policy.check(f"{collection.source.name}: {name}", bad[name], len(plan.parts[name]))
            done += len(task.split)
            progress(done, total)
        manifest = plan.manifest(results)
        _sweep(root, manifest)
        (root / MANIFEST).write_text(manifest.dump(), "utf-8")
    return manifest.digest


def _sweep(root: Path, manifest: Manifest) -> None:
    """Remove what an interrupted attempt left half written."""
    for name, split in manifest.splits.items():
        listed = {file.name for shard in split.shards for file in (shard.tar, shard.index)}
        for path in (root / name).iterdir():
            if path.name not in listed:
                path.unlink()


class Plan:
    """Which samples go into which shard, decided by the data and the options alone: those of :func:`write_shards`."""

    def __init__(
        self,
        collection: Collection,
        *,
        prepare: Prepare | None = None,
        splits: Mapping[str, float] | None = None,
        form: Format | None = None,
        damaged: str = "fail",
    ) -> None:
        self._prepare, self._form, self._damaged = prepare or Prepare(), form or Format(), damaged
        if self._form.encode == "keep" and not (self._prepare.identity and self._prepare.target_identity):
            raise RecipeError(
                "encode: keep stores a source's own files, so they cannot be prepared. Choose npy, png or webp."
            )
        self._collection, self.parts = collection, carve(collection.splits, splits or {})
        check_names(self.parts)
        if self._form.shuffle:
            self.parts = {
                name: split.select(np.random.default_rng(0).permutation(len(split)))
                for name, split in self.parts.items()
            }
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._shapes, self.record_bytes = self._measure(1)
        if self._form.bytes:
            _, self.record_bytes = self._measure(_MEASURED)
        self._samples = max(1, self._form.bytes // self.record_bytes) if self._form.bytes else self._form.samples

    def _measure(self, count: int) -> tuple[dict[str, tuple[int, ...]], int]:
        """Shapes of the pictures, and the mean size of a record, of ``count`` readable samples across the first split.

        Raises:
            DataError: none of them can be read.
        """
        split, sizes, shapes = next(iter(self.parts.values())), [], self._shapes
        problem = None
        for row in np.linspace(0, len(split) - 1, max(count, _MEASURED)).astype(int).tolist():
            try:
                sample, pictures = prepared(split.samples[row], self._prepare)
            except DataError as error:
                problem = problem or error
                continue
            shapes = {name: picture.shape for name, picture in pictures.items()}
            self._captioned = sample.caption is not None
            label = None if split.labels is None else int(split.labels[row])
            files = members(sample, pictures, self._form.encode, self._collection.attributes, label)
            sizes.append(len(record("0" * 8, files)[0]))
            if len(sizes) == count:
                break
        if not sizes:
            assert problem is not None
            raise problem
        return shapes, sum(sizes) // len(sizes)

    def tasks(self, root: Path) -> list[Task]:
        """One for each shard, in the order of the samples."""
        tasks = []
        for name, split in self.parts.items():
            (root / name).mkdir(exist_ok=True)
            for number, first in enumerate(range(0, len(split), self._samples)):
                rows = np.arange(first, min(first + self._samples, len(split)))
                tasks.append(
                    Task(
                        folder=root / name,
                        number=number,
                        first=first,
                        split=split.select(rows),
                        prepare=self._prepare,
                        encode=self._form.encode,
                        shapes=self._shapes,
                        captioned=self._captioned,
                        classes=len(self._collection.classes),
                        attributes=self._collection.attributes,
                    )
                )
        return tasks

    @property
    def write(self) -> Callable[[Task], Written]:
        """Does one of the tasks."""
        return write_shard

    def manifest(self, results: Mapping[str, Sequence[Written]]) -> Manifest:
        """The manifest, from what came of all the tasks, by split."""
        return Manifest(
            source=self._collection.source,
            fields=merge_fields([written.fields for each in results.values() for written in each]),
            classes=self._collection.classes,
            attributes=self._collection.attributes,
            splits={name: describe(each) for name, each in results.items()},
            preparation={**asdict(self._prepare), "encode": self._form.encode, "shuffle": self._form.shuffle},
            damaged=self._damaged,
        )


def merge_fields(found: Sequence[Mapping[str, Field]]) -> dict[str, Field]:
    """The fields of a data set from those of its shards: the longest caption, and all extensions."""
    merged = {}
    for name, first in next(fields for fields in found if fields).items():
        each = [fields[name] for fields in found if fields]
        shape = (max(one.shape[0] for one in each),) if name == "caption" else first.shape
        merged[name] = Field(shape, tuple(sorted({extension for one in each for extension in one.extensions})))
    return merged


def describe(results: Sequence[Written]) -> SplitInfo:
    """The entry of a split in the manifest, from its shards."""
    statistics = copy.deepcopy(results[0].statistics)
    for written in results[1:]:
        statistics.extend(written.statistics)
    shards = [written.shard for written in results if written.shard is not None]
    return statistics.describe(shards, [(b.key, b.origin, b.reason) for written in results for b in written.bad])
