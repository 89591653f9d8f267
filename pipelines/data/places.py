"""What the commands of ``gen data`` are told to work on: a data set's name, a directory of shards, or a tar."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gen.data.manifest import Manifest, ShardInfo, read_manifest, trusted_index
from gen.errors import DataError, RecipeError, nearest
from gen.remote.files import fetch, is_remote
from pipelines.data.browse import Opened, no_sample
from pipelines.layout import Layout
from pipelines.params import load


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of shards, and what to call it."""

    name: str
    root: Path


def place(text: str, layout: Layout) -> Place:
    """What a user means: a data set of params.yaml, or a directory.

    Raises:
        RecipeError: it is neither; the message names the nearest data set.
    """
    params = layout.root / "params.yaml"
    names = load(params).datasets if params.is_file() else {}
    if text in names:
        return Place(text, layout.shards(text))
    if Path(text).is_dir():
        return Place(text, Path(text))
    known = f"Data sets of {params}: {', '.join(names) or 'none'}." if params.is_file() else f"{params} is not there."
    raise RecipeError(f"'{text}' is neither a data set nor a directory of shards. {known}{nearest(text, names)}")


def all_places(layout: Layout) -> list[Place]:
    """Every data set that has shards. Raises :class:`DataError` if there is none."""
    folder = layout.shards("x").parent
    found = sorted(each for each in folder.glob("*") if each.is_dir() and not each.name.startswith("."))
    if not found:
        raise DataError(f"{folder}: there are no shards yet. `gen data shard NAME` writes those of a data set.")
    return [Place(each.name, each) for each in found]


def usual_split(manifest: Manifest, asked: str | None, root: Path) -> str:
    """The split that was asked for; by default ``train``, or else the first."""
    if asked is None:
        return "train" if "train" in manifest.splits else next(iter(manifest.splits))
    if asked not in manifest.splits:
        raise RecipeError(
            f"--split: {root} has no split '{asked}'. Splits: {', '.join(manifest.splits)}."
            f"{nearest(asked, manifest.splits)}"
        )
    return asked


@contextmanager
def opened_tar(
    text: str, layout: Layout, *, split: str | None, number: int | None, key: str | None
) -> Iterator[Opened]:
    """A tar to look into: one of a data set, or any file.

    Args:
        text: a data set, a directory of shards or a tar.
        layout: where data sets lie.
        split: of the data set.
        number: of the shard in the split; by default the one that holds ``key``, or the first.
        key: of a sample.
    """
    path, folder = Path(text), Path(text).absolute().parent
    known: tuple[Manifest, ShardInfo] | None
    if not path.is_file():
        found = place(text, layout)
        manifest = read_manifest(found.root)
        split = usual_split(manifest, split, found.root)
        folder, known = found.root / split, (manifest, _choose(found.root, manifest, split, number, key))
    elif split is not None or number is not None:
        raise RecipeError(f"{text}: is one tar; --split and --shard are for data sets.")
    else:
        known = _known(path)
    if known is not None:
        with _opened_shard(folder, *known) as opened:
            yield opened
        return
    with path.open("rb") as file:
        yield Opened(file, text)


def _known(path: Path) -> tuple[Manifest, ShardInfo] | None:
    """The manifest that lists a tar, if it lies in a data set, and its entry."""
    folder = path.absolute().parent
    try:
        manifest = read_manifest(folder.parent)
        shards = manifest.splits[folder.name].shards
    except (DataError, KeyError):
        return None
    return next(((manifest, shard) for shard in shards if shard.tar.name == path.name), None)


def _choose(root: Path, manifest: Manifest, split: str, number: int | None, key: str | None) -> ShardInfo:
    shards = manifest.splits[split].shards
    if number is not None:
        if not 0 <= number < len(shards):
            raise RecipeError(f"--shard: found {number}; {root} has shards 0 to {len(shards) - 1} of '{split}'.")
        return shards[number]
    if key is None:
        return shards[0]
    keys = list[str]()
    for shard in shards:
        keys += trusted_index(root / split / shard.index.name, shard, manifest).key.tolist()
        if key in keys[-shard.samples :]:
            return shard
    raise no_sample(f"'{split}' of {root}", key, keys)


@contextmanager
def _opened_shard(folder: Path, manifest: Manifest, shard: ShardInfo) -> Iterator[Opened]:
    """A shard of a data set, with its index; fetched where it lies on a server."""
    index, problems = None, list[str]()
    try:
        index = trusted_index(folder / shard.index.name, shard, manifest)
    except DataError as error:
        problems.append(str(error))
    with tempfile.TemporaryDirectory() as fetched:
        path = Path(shard.place) if shard.place else folder / shard.tar.name
        if is_remote(shard.place):
            path = Path(fetched) / shard.tar.name
            fetch(shard.place, path, sha256=shard.tar.sha256, bytes=shard.tar.bytes)
        try:
            file = path.open("rb")
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}. `gen data verify` says what is damaged."
            ) from None
        with file:
            yield Opened(file, shard.place or str(path), index, manifest.classes, problems)
