"""Pulling: what has to be fetched is fetched and unpacked, and a receipt says exactly what the data are made of.

    ROOT/receipt.json           the source, its options, counts, and a checksum of every file
    ROOT/fetched/...            what was fetched from a server or unpacked from an archive

Files that lie on a local disk are not copied: the receipt holds them to their checksums, and sharding refuses those
that have changed since.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gen.data.sample import Collection, Source
from gen.errors import DataError, RecipeError
from gen.files import digest, read_json, sha256, write_json
from gen.remote.files import fetch, is_remote, name_of
from gen.remote.transport import shown
from gen.shards.directory import replacing
from gen.sources.catalogue import open_source, wants
from gen.sources.tars import TarSet
from gen.sources.unpack.archives import SUFFIXES, extract

RECEIPT = "receipt.json"
FETCHED = "fetched"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Which data, and where they are.

    Attributes:
        source: name of a source of :mod:`gen.sources.catalogue`.
        path: folder, file or archive of a local disk, or an ``https://`` or ``s3://`` URL; for sources that read files.
        sha256: of the file at ``path``, where it is one file.
        options: of the source.
        licence: the terms, where the source does not know them.
        citation: what to cite, where the source does not know it.
    """

    source: str
    path: str | None = None
    sha256: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None
    citation: str | None = None

    def __post_init__(self) -> None:
        needs = wants(self.source)
        if self.path is None and needs.required:
            raise RecipeError(f"path: the source {self.source} reads files; say where they are.")
        if self.path is not None and not needs.kind:
            raise RecipeError(f"path: the source {self.source} reads no files; remove it.")
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise RecipeError(f"sha256: found '{self.sha256}'; give 64 hexadecimal digits in small letters.")


Progress = Callable[[int, int], None]


def pull(
    name: str, origin: Origin, destination: Path, *, base: Path = Path(), progress: Progress = lambda done, total: None
) -> Collection | TarSet:
    """Fetch a data set and write its receipt, all or nothing.

    Args:
        name: of the data set.
        origin: which data.
        destination: directory for the receipt, and for what has to be fetched.
        base: what a relative ``path`` is relative to.
        progress: told the bytes that are fetched or checked, and their number.

    Returns:
        The data set, read from ``destination``.

    Raises:
        DataError: the data cannot be had, or are not what the source reads.
    """
    attempt = digest(_plain(origin))[:10]  # what was fetched before an interruption is not fetched again
    with replacing(destination, marker=RECEIPT, needed=0, resume=attempt) as folder:
        place = _bring(origin, folder, base, progress)
        try:
            collection = _open(name, origin, place)
        except (
            DataError
        ):  # its publisher may replace what was fetched, and the next attempt must then not go on with it
            shutil.rmtree(folder / FETCHED, ignore_errors=True)
            raise
        files = _files(collection, place)
        write_json(
            folder / RECEIPT,
            {
                "name": name,
                "origin": _plain(origin),
                "source": asdict(collection.source),
                "classes": list(collection.classes),
                "attributes": list(collection.attributes),
                "counts": collection.counts,
                "files": _checksums(files, progress),
            },
        )
    return reopen(name, origin, destination, base=base, check=False)


def reopen(
    name: str,
    origin: Origin,
    pulled: Path,
    *,
    base: Path = Path(),
    check: bool = True,
    progress: Progress = lambda done, total: None,
) -> Collection | TarSet:
    """Open a data set that was pulled.

    Args:
        name: as for :func:`pull`, like those that follow.
        origin: as it was when the data were pulled.
        pulled: the directory that holds the receipt.
        base: see :func:`pull`.
        check: compare every file with its checksum.
        progress: told the bytes that are checked, and their number.

    Raises:
        DataError: the data were never pulled, or are not what they were then.
    """
    remedy = f"Pull them again: `dvc repro --force pull@{name}`."
    if not (pulled / RECEIPT).exists():
        raise DataError(f"{pulled}: holds no {RECEIPT}: the data were not pulled yet. {remedy}")
    receipt = read_json(pulled / RECEIPT, error=DataError)
    if not isinstance(receipt, dict) or not {"origin", "files", "counts"} <= receipt.keys():
        raise DataError(f"{pulled / RECEIPT}: is not a receipt: it does not say of which files it is. {remedy}")
    if receipt["origin"] != _plain(origin):
        raise DataError(f"{pulled / RECEIPT}: is of other data than params.yaml names ({receipt['origin']}). {remedy}")
    place = _placed(origin, pulled, base)
    collection = _open(name, origin, place)
    if check:
        found = _checksums(_files(collection, place), progress)
        changed = sorted(key for key in {*receipt["files"], *found} if receipt["files"].get(key) != found.get(key))
        if changed:
            raise DataError(
                f"{place}: {len(changed):,} files changed, came or went since the data were pulled: "
                f"{', '.join(changed[:_SHOWN])}{', ...' if len(changed) > _SHOWN else ''}. {remedy}"
            )
    if collection.counts != receipt["counts"]:
        raise DataError(f"{place}: found {collection.counts}, but {receipt['counts']} were pulled. {remedy}")
    return collection


def receipt_digest(pulled: Path) -> str:
    """The identity of pulled data."""
    return digest(read_json(pulled / RECEIPT, error=DataError))


def _open(name: str, origin: Origin, place: Path | str | None) -> Collection | TarSet:
    """The collection under the data set's own name, and with the terms that params.yaml adds."""
    found = open_source(origin.source, place, **origin.options)
    source = Source(
        name=name,
        origin=found.source.origin,
        licence=origin.licence or found.source.licence,
        citation=origin.citation or found.source.citation,
    )
    return replace(found, source=source)


def _bring(origin: Origin, folder: Path, base: Path, progress: Progress) -> Path | str | None:
    """Fetch and unpack what has to be; where the files of the source are then."""
    if origin.path is None or wants(origin.source).kind == "place":
        return _placed(origin, folder, base)
    fetched = folder / FETCHED
    if is_remote(origin.path):
        fetched.mkdir(exist_ok=True)
        archive, unpacked = fetched / name_of(origin.path), fetched / "files"
        if not archive.name.endswith(SUFFIXES):
            fetch(origin.path, archive, sha256=origin.sha256, progress=progress)
            return archive
        if not unpacked.exists():
            fetch(origin.path, archive, sha256=origin.sha256, progress=progress)
            extract(archive, unpacked)
        archive.unlink(missing_ok=True)
        return _inside(unpacked)
    local = _local(origin.path, base)
    if not local.exists() and not origin.options.get("download"):
        raise DataError(f"{local}: is not there. Correct `path`, or put the data there.")
    if origin.sha256 is not None:
        if not local.is_file():
            raise DataError(f"{local}: is not a file, so it has no sha256. Remove `sha256`; every file gets one.")
        if (found := sha256(local)) != origin.sha256:
            raise DataError(f"{local}: its sha256 is {found}, expected {origin.sha256}. Get the file again.")
    if local.is_file() and local.name.endswith(SUFFIXES):
        shutil.rmtree(fetched, ignore_errors=True)  # of an archive that may have been replaced since
        fetched.mkdir()
        extract(local, fetched / "files")
        return _inside(fetched / "files")
    return local


def _inside(unpacked: Path) -> Path:
    """What was packed: the one folder that an archive holds and nothing beside it, as most do, or else all of it."""
    entries = list(unpacked.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked


def _placed(origin: Origin, pulled: Path, base: Path) -> Path | str | None:
    """Where the files of a source are after :func:`_bring`."""
    if origin.path is None:
        return None
    if wants(origin.source).kind == "place":
        return origin.path if is_remote(origin.path) else str(_local(origin.path, base))
    unpacked = pulled / FETCHED / "files"
    if unpacked.is_dir():
        return _inside(unpacked)
    return pulled / FETCHED / name_of(origin.path) if is_remote(origin.path) else _local(origin.path, base)


def _local(path: str, base: Path) -> Path:
    return (base / Path(path).expanduser()).absolute()


def _files(collection: Collection | TarSet, place: Path | str | None) -> dict[str, Path]:
    """The files of a data set, by their names below its place."""
    if not collection.files:
        return {}
    root = Path(place or "")
    root = root if root.is_dir() else root.parent
    return {path.relative_to(root).as_posix(): path for path in collection.files}


def _checksums(files: Mapping[str, Path], progress: Progress) -> dict[str, list[int | str]]:
    """Bytes and sha256 of every file; read by several threads, which hashing lets run at once."""
    total = sum(path.stat().st_size for path in files.values())
    done = 0
    result: dict[str, list[int | str]] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for (name, path), checksum in zip(files.items(), threads.map(sha256, files.values()), strict=True):
            size = path.stat().st_size
            result[name] = [size, checksum]
            done += size
            progress(done, total)
    return dict(sorted(result.items()))


def _plain(origin: Origin) -> dict[str, Any]:
    """What decides the data, as JSON gives it back. Receipts are passed on: passwords are left out."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(origin)))
    return plain if origin.path is None else {**plain, "path": shown(origin.path)}
