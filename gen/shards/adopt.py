"""Making somebody else's WebDataset tars ours, as they are: an index for each of them, and a manifest.

Tars of a local disk are copied beside their indices, byte for byte. Those of a server stay there and are streamed;
each of them is read once, from beginning to end, to learn what it holds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gen.data.manifest import MANIFEST, FileInfo, Manifest
from gen.data.quarantine import Policy
from gen.data.sample import Source
from gen.errors import DataError
from gen.files import sha256
from gen.remote.files import fetch, is_remote, name_of
from gen.shards.directory import replacing
from gen.shards.scan import scan
from gen.shards.shard import Run, Written, seal_shard
from gen.shards.splits import check_names
from gen.shards.write import describe, merge_fields


@dataclass(frozen=True, slots=True)
class Adoption:
    """One tar to be read.

    Attributes:
        place: its path or URL.
        folder: where its index is written, and the tar itself where it is local.
        classes: number of classes.
        attributes: names of the attributes.
    """

    place: str
    folder: Path
    classes: int
    attributes: tuple[str, ...]

    @property
    def tar(self) -> Path:
        """Of the shard, where it is local."""
        return self.folder / name_of(self.place)

    @property
    def index(self) -> Path:
        """Of the shard's index."""
        return self.folder / f"{self.tar.name.removesuffix('.tar')}.idx.npz"


def adopt_tars(
    source: Source,
    places: Mapping[str, Sequence[str]],
    destination: Path,
    *,
    classes: Sequence[str] = (),
    attributes: Sequence[str] = (),
    damaged: str = "fail",
    run: Run = map,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Index tars and write the manifest below ``destination``, all or nothing.

    Args:
        source: where the data come from.
        places: by split, paths or URLs of its tars, in the order of the samples.
        destination: the directory to write.
        classes: names of the classes; without them labels are left alone.
        attributes: names of the numbers to take from every sample's JSON.
        damaged: what to do about samples that cannot be read (see :mod:`gen.data.quarantine`).
        run: does the tasks, in this process or in others, and gives what came of them in their order.
        progress: told the tars that are done and their number.

    Returns:
        The manifest's digest.

    Raises:
        DataError: a tar is damaged, cannot be had, or the samples do not fit together.
    """
    policy, total = Policy.parse(damaged), sum(len(each) for each in places.values())
    plan = AdoptionPlan(source, places, tuple(classes), tuple(attributes), damaged)
    local = [Path(place) for tars in places.values() for place in tars if not is_remote(place)]
    needed = sum(path.stat().st_size for path in local if path.is_file())
    with replacing(destination, marker=MANIFEST, needed=needed) as root:
        given = plan.tasks(root)
        results: dict[str, list[Written]] = {split: [] for split in places}
        for done, (task, written) in enumerate(zip(given, run(adopt_tar, given), strict=True), 1):
            results[task.folder.name].append(written)
            progress(done, total)
        everything = [written for each in results.values() for written in each]
        _check_alike(given, everything)
        for split, each in results.items():
            bad = [one for written in each for one in written.bad]
            policy.check(f"{source.name}: {split}", bad, len(bad) + sum(w.shard.samples for w in each if w.shard))
        manifest = plan.manifest(results)
        (root / MANIFEST).write_text(manifest.dump(), "utf-8")
    return manifest.digest


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """Which tars become which shards: see :func:`adopt_tars` for the attributes."""

    source: Source
    places: Mapping[str, Sequence[str]]
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    damaged: str

    def tasks(self, root: Path) -> list[Adoption]:
        """One for each tar, in the order of the samples."""
        tasks = []
        check_names(self.places)
        for split, tars in self.places.items():
            names = [name_of(place) for place in tars]
            if len(set(names)) != len(names):
                raise DataError(f"{split}: two of its tars have the same name. Rename one of them.")
            (root / split).mkdir(exist_ok=True)
            tasks += [Adoption(place, root / split, len(self.classes), self.attributes) for place in tars]
        return tasks

    @property
    def write(self) -> Callable[[Adoption], Written]:
        """Does one of the tasks."""
        return adopt_tar

    def manifest(self, results: Mapping[str, Sequence[Written]]) -> Manifest:
        """The manifest, from what came of all the tasks, by split."""
        return Manifest(
            source=self.source,
            fields=merge_fields([written.fields for each in results.values() for written in each]),
            classes=self.classes,
            attributes=self.attributes,
            splits={split: describe(each) for split, each in results.items()},
            preparation={"encode": "adopted"},
            damaged=self.damaged,
        )


def adopt_tar(task: Adoption) -> Written:
    """Read a tar and write its index."""
    if not is_remote(task.place):
        if not Path(task.place).is_file():
            raise DataError(f"{task.place}: is not there, or is not a file. Correct the path, or leave the tar out.")
        shutil.copyfile(task.place, task.tar)
        return _read(task.tar, task, "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / task.tar.name
        fetch(task.place, path)
        return _read(path, task, task.place)


def _read(path: Path, task: Adoption, place: str) -> Written:
    contents = scan(path, classes=task.classes, attributes=task.attributes)
    tar = FileInfo(path.name, path.stat().st_size, sha256(path))
    shard = seal_shard(contents.index, task.index, tar=tar, place=place)
    return Written(shard, contents.fields, contents.statistics, contents.bad)


def _check_alike(given: Sequence[Adoption], found: Sequence[Written]) -> None:
    """Hold the samples of every tar to those of the first."""
    first = _likeness(found[0])
    for task, written in zip(given, found, strict=True):
        if (likeness := _likeness(written)) != first:
            raise DataError(
                f"{task.place}: its samples have {likeness}, those of {given[0].place} have {first}; all must be "
                "alike. Unpack the tars and use the source `folder` with `prepare: { resize: ... }`."
            )


def _likeness(written: Written) -> dict[str, str]:
    """What the samples of all tars have in common: their fields, the shapes of these, and whether they are arrays."""
    return {
        name: "a text" if name == "caption" else f"{'arrays' if field.raw else 'files'} of shape {field.shape}"
        for name, field in written.fields.items()
    }
