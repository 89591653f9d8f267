"""Pulled data are what they were when they were pulled, wherever they come from, or somebody is told."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from gen.data.sample import Collection
from gen.errors import DataError, RecipeError
from gen.sources import pull as module
from gen.sources.pull import Origin, pull, receipt_digest, reopen
from gen.sources.tars import TarSet
from tests.data.tiny import tree
from tests.remote.servers import Fault, FaultyServer, http_server
from tests.shards.rich import photos

PETS = {
    f"{split}/{kind}/{k}.png": contents
    for split in ("train", "test")
    for kind in ("cat", "dog")
    for k, contents in enumerate(photos(3, seed=len(split + kind)))
}


def sha(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


def planted(root: Path, files: dict[str, bytes] = PETS) -> Path:
    for name, contents in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(contents)
    return root


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Images of two classes in two splits."""
    return planted(tmp_path / "pets")


@pytest.fixture
def origin(pets: Path) -> Origin:
    return Origin(source="folder", path=str(pets))


def receipt(pulled: Path) -> dict[str, Any]:
    return json.loads((pulled / "receipt.json").read_text())


def images(collection: Collection | TarSet) -> dict[str, list[Any]]:
    assert isinstance(collection, Collection)
    return {name: [split.samples[k].image for k in range(len(split))] for name, split in collection.splits.items()}


EXPECTED = {split: [PETS[name] for name in sorted(PETS) if name.startswith(split)] for split in ("train", "test")}


# ---- the receipt ----------------------------------------------------------------------------------------------------


def test_the_receipt_says_what_the_data_are_made_of(pets: Path, origin: Origin, tmp_path: Path) -> None:
    found = pull("pets", origin, tmp_path / "raw")
    assert images(found) == EXPECTED
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["receipt.json"], "local files are not copied"
    said = receipt(tmp_path / "raw")
    assert said["files"] == {name: [len(contents), sha(contents)] for name, contents in sorted(PETS.items())}
    assert said["counts"] == {"train": 6, "test": 6}
    assert (said["name"], said["classes"], said["source"]["name"]) == ("pets", ["cat", "dog"], "pets")
    assert said["origin"]["path"] == str(pets)


def test_terms_of_params_yaml_are_added(pets: Path, tmp_path: Path) -> None:
    origin = Origin(source="folder", path=str(pets), licence="CC0", citation="Miller 2020")
    found = pull("pets", origin, tmp_path / "raw")
    assert (found.source.licence, found.source.citation) == ("CC0", "Miller 2020")


def test_equal_data_have_equal_receipts(pets: Path, tmp_path: Path) -> None:
    """Wherever they lie below the place that relative paths start from, and whenever their files were written."""
    digests = []
    for name in ("a", "b"):
        planted(tmp_path / name / "data" / "pets")
        pull("pets", Origin(source="folder", path="data/pets"), tmp_path / name / "raw", base=tmp_path / name)
        digests.append(receipt_digest(tmp_path / name / "raw"))
    assert digests[0] == digests[1]
    (tmp_path / "b" / "data" / "pets" / "train" / "cat" / "0.png").write_bytes(photos(1)[0])
    pull("pets", Origin(source="folder", path="data/pets"), tmp_path / "b" / "raw", base=tmp_path / "b")
    assert receipt_digest(tmp_path / "b" / "raw") != digests[0]


def test_data_without_files(tmp_path: Path) -> None:
    origin = Origin(source="digits", citation="us")
    found = pull("numbers", origin, tmp_path / "raw")
    assert receipt(tmp_path / "raw")["files"] == {}
    assert reopen("numbers", origin, tmp_path / "raw").counts == {"train": 3500, "validation": 500, "test": 1000}
    assert (found.source.name, found.source.citation) == ("numbers", "us")
    assert "CC BY-SA" in found.source.licence, "what the source knows is kept"


# ---- what has changed since -----------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "changed": (lambda root: (root / "train/cat/1.png").write_bytes(photos(1)[0]), ["train/cat/1.png"]),
    "one byte": (
        lambda root: (path := root / "test/dog/2.png").write_bytes(path.read_bytes()[:-1] + b"?"),
        ["test/dog/2.png"],
    ),
    "added": (lambda root: (root / "train/dog/9.png").write_bytes(photos(1)[0]), ["train/dog/9.png"]),
    "removed": (lambda root: (root / "test/cat/0.png").unlink(), ["test/cat/0.png"]),
    "renamed": (
        lambda root: (root / "train/cat/0.png").rename(root / "train/dog/0a.png"),
        ["train/cat/0.png", "train/dog/0a.png"],
    ),
    "swapped": (
        lambda root: [
            (root / a).write_bytes(PETS[b])
            for a, b in (("train/cat/0.png", "train/cat/1.png"), ("train/cat/1.png", "train/cat/0.png"))
        ],
        ["train/cat/0.png", "train/cat/1.png"],
    ),
    "a class": (lambda root: (root / "train/cat").rename(root / "train/cow"), [f"train/cat/{k}.png" for k in range(3)]),
    "a split": (lambda root: shutil.rmtree(root / "test"), [f"test/cat/{k}.png" for k in range(3)]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_files_that_changed_came_or_went_are_named(pets: Path, origin: Origin, tmp_path: Path, name: str) -> None:
    change, files = CHANGES[name]
    pull("pets", origin, tmp_path / "raw")
    assert images(reopen("pets", origin, tmp_path / "raw")) == EXPECTED
    change(pets)
    with pytest.raises(DataError, match=r"dvc repro --force pull@pets") as caught:
        reopen("pets", origin, tmp_path / "raw")
    assert all(file in str(caught.value) for file in files), str(caught.value)


def test_a_folder_that_is_gone(pets: Path, origin: Origin, tmp_path: Path) -> None:
    pull("pets", origin, tmp_path / "raw")
    shutil.rmtree(pets)
    with pytest.raises(DataError, match=r"pets: found nothing, allowed a folder"):
        reopen("pets", origin, tmp_path / "raw")


def test_a_file_of_arrays_that_is_gone(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.arange(3))
    origin = Origin(source="arrays", path=str(tmp_path / "x.npz"))
    pull("x", origin, tmp_path / "raw")
    assert list(receipt(tmp_path / "raw")["files"]) == ["x.npz"]
    (tmp_path / "x.npz").unlink()
    with pytest.raises(DataError, match=r"x\.npz"):
        reopen("x", origin, tmp_path / "raw")


def test_other_data_than_were_pulled(pets: Path, origin: Origin, tmp_path: Path) -> None:
    pull("pets", origin, tmp_path / "raw")
    for other in (
        Origin(source="folder", path=str(pets), options={"classes": False}),
        Origin(source="folder", path=f"{pets}/train"),
        Origin(source="folder", path=str(pets), licence="CC0"),
    ):
        with pytest.raises(DataError, match=r"receipt\.json: is of other data than params\.yaml names.*pull@pets"):
            reopen("pets", other, tmp_path / "raw")


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"[]", b'{"origin": 1}'])
def test_no_receipt(origin: Origin, tmp_path: Path, content: bytes | None) -> None:
    pull("pets", origin, tmp_path / "raw")
    (tmp_path / "raw" / "receipt.json").unlink() if content is None else (
        tmp_path / "raw" / "receipt.json"
    ).write_bytes(content)
    with pytest.raises(DataError, match=r"receipt\.json.*not pulled yet" if content is None else r"receipt\.json"):
        reopen("pets", origin, tmp_path / "raw")


# ---- where the data are ---------------------------------------------------------------------------------------------


def test_relative_paths_start_from_the_project(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever a command is run; also where the project itself is named by a relative path."""
    origin = Origin(source="folder", path="../pets")
    (tmp_path / "project").mkdir()
    pull("pets", origin, tmp_path / "project" / "raw", base=tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    assert images(reopen("pets", origin, Path("project/raw"), base=Path("project"))) == EXPECTED
    elsewhere = reopen("pets", origin, Path("project/raw"), base=Path("project"))
    monkeypatch.chdir("/")
    assert images(elsewhere) == EXPECTED, "samples are read when they are asked for, and that may be elsewhere"


def test_torchvision_with_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names its files by absolute paths."""
    for word in ("train", "t10k"):
        head = {
            "images-idx3-ubyte": struct.pack(">4B3I", 0, 0, 8, 3, 5, 4, 4),
            "labels-idx1-ubyte": b"\0\0\x08\1\0\0\0\5",
        }
        data = {"images-idx3-ubyte": bytes(range(80)), "labels-idx1-ubyte": bytes(range(5))}
        planted(tmp_path / "MNIST" / "raw", {f"{word}-{name}": head[name] + data[name] for name in head})
    monkeypatch.chdir(tmp_path)
    origin = Origin(source="torchvision", path=".", options={"name": "MNIST"})
    found = pull("mnist", origin, Path("raw"))
    assert found.counts == {"train": 5, "test": 5}
    assert set(receipt(tmp_path / "raw")["files"]) == {
        f"MNIST/raw/{word}-{name}" for word in ("train", "t10k") for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    }
    assert reopen("mnist", origin, Path("raw")).counts == found.counts


def test_a_home_directory(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert images(pull("pets", Origin(source="folder", path="~/pets"), tmp_path / "raw")) == EXPECTED


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: is not there\. Correct `path`, or put the data there"):
        pull("pets", Origin(source="folder", path=str(tmp_path / "nowhere")), tmp_path / "raw")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "folder"}, "path: the source folder reads files; say where they are"),
        ({"source": "digits", "path": "x"}, "path: the source digits reads no files; remove it"),
        ({"source": "foldre", "path": "x"}, "there is no source 'foldre'.*Did you mean 'folder'"),
        ({"source": "folder", "path": "x", "sha256": "abc"}, "give 64 hexadecimal digits in small letters"),
        ({"source": "folder", "path": "x", "sha256": "A" * 64}, "give 64 hexadecimal digits in small letters"),
    ],
)
def test_impossible_origins(options: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Origin(**options)


# ---- archives -------------------------------------------------------------------------------------------------------


def zipped(files: dict[str, bytes] = PETS) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return file.getvalue()


def tarred(mode: str, files: dict[str, bytes] = PETS) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, contents in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            archive.addfile(info, io.BytesIO(contents))
    return file.getvalue()


ARCHIVES = {"pets.zip": zipped(), "pets.tar": tarred("w"), "pets.tar.gz": tarred("w:gz"), "pets.txz": tarred("w:xz")}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_are_unpacked(tmp_path: Path, name: str) -> None:
    contents = ARCHIVES[name]
    (tmp_path / name).write_bytes(contents)
    for checksum in (None, sha(contents)):
        origin = Origin(source="folder", path=str(tmp_path / name), sha256=checksum)
        assert images(pull("pets", origin, tmp_path / "raw")) == EXPECTED
        assert tree(tmp_path / "raw" / "fetched" / "files") == PETS
        assert receipt(tmp_path / "raw")["files"].keys() == PETS.keys()
        assert images(reopen("pets", origin, tmp_path / "raw")) == EXPECTED
    assert (tmp_path / name).read_bytes() == contents


def test_the_one_folder_of_an_archive_is_the_data_set(tmp_path: Path) -> None:
    """Archives are packed with their folder or without; both are the same data."""
    for name, prefix in (("plain", ""), ("packed", "pets-1.0/")):
        (tmp_path / f"{name}.zip").write_bytes(zipped({f"{prefix}{each}": contents for each, contents in PETS.items()}))
        origin = Origin(source="folder", path=str(tmp_path / f"{name}.zip"))
        pull("pets", origin, tmp_path / name)
    assert receipt(tmp_path / "plain")["files"] == receipt(tmp_path / "packed")["files"]
    assert receipt(tmp_path / "plain")["classes"] == receipt(tmp_path / "packed")["classes"]


def test_a_receipt_holds_no_secrets(server: FaultyServer, tmp_path: Path) -> None:
    url = server.url("pets.zip") + "?signature=secret"
    origin = Origin(source="folder", path=url, sha256=sha(ARCHIVES["pets.zip"]))
    pull("pets", origin, tmp_path / "raw")
    assert "secret" not in (tmp_path / "raw" / "receipt.json").read_text()
    assert images(reopen("pets", origin, tmp_path / "raw"))


def test_unpacked_files_are_held_to_their_checksums(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(zipped())
    origin = Origin(source="folder", path=str(tmp_path / "pets.zip"))
    pull("pets", origin, tmp_path / "raw")
    (tmp_path / "raw" / "fetched" / "files" / "train" / "cat" / "0.png").write_bytes(photos(1)[0])
    with pytest.raises(DataError, match=r"1 files changed.*train/cat/0\.png"):
        reopen("pets", origin, tmp_path / "raw")


def interrupt(*args: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_archive_that_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool) -> None:
    """The next pull takes the new one, even if the one before had unpacked the old one."""
    origin = Origin(source="folder", path=str(tmp_path / "pets.zip"))
    (tmp_path / "pets.zip").write_bytes(zipped({"train/cat/1.txt": b"no image"}))
    if interrupted:
        monkeypatch.setattr(module, "_open", interrupt)
    with pytest.raises(KeyboardInterrupt if interrupted else DataError):
        pull("pets", origin, tmp_path / "raw")
    monkeypatch.undo()
    (tmp_path / "pets.zip").write_bytes(zipped())
    assert images(pull("pets", origin, tmp_path / "raw")) == EXPECTED
    assert tree(tmp_path / "raw" / "fetched" / "files") == PETS
    assert {path.name for path in tmp_path.iterdir()} == {"pets.zip", "raw"}


def test_a_wrong_checksum(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(zipped())
    origin = Origin(source="folder", path=str(tmp_path / "pets.zip"), sha256="0" * 64)
    with pytest.raises(DataError, match=rf"pets\.zip: its sha256 is {sha(zipped())}, expected 0000"):
        pull("pets", origin, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_folder_has_no_checksum(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a file, so it has no sha256"):
        pull("pets", Origin(source="folder", path=str(pets), sha256="0" * 64), tmp_path / "raw")


# ---- servers --------------------------------------------------------------------------------------------------------


def npz(first: int = 0) -> bytes:
    file = io.BytesIO()
    np.savez(file, images=np.arange(first, first + 80, dtype=np.uint8).reshape(5, 4, 4), labels=np.arange(5) % 2)
    return file.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server, for which nobody waits between two attempts."""
    monkeypatch.setattr(module, "fetch", partial(module.fetch, sleep=lambda seconds: None))
    with http_server({**ARCHIVES, "x.npz": npz()}) as running:
        yield running


def remote(server: FaultyServer, name: str, **options: Any) -> Origin:
    source = "arrays" if name.endswith("npz") else "folder"
    return Origin(**{"source": source, "path": server.url(name), "sha256": sha(server.files[name])} | options)


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_of_a_server(server: FaultyServer, tmp_path: Path, name: str) -> None:
    origin = remote(server, name)
    assert images(pull("pets", origin, tmp_path / "raw")) == EXPECTED
    assert [path.name for path in (tmp_path / "raw" / "fetched").iterdir()] == ["files"], "the archive is not kept"
    asked = len(server.asked)
    assert images(reopen("pets", origin, tmp_path / "raw")) == EXPECTED
    assert len(server.asked) == asked, "what was pulled is not fetched again"


def test_a_file_of_a_server(server: FaultyServer, tmp_path: Path) -> None:
    origin = remote(server, "x.npz")
    found = pull("x", origin, tmp_path / "raw")
    assert found.counts == {"train": 5}
    assert (tmp_path / "raw" / "fetched" / "x.npz").read_bytes() == npz()
    assert receipt(tmp_path / "raw")["files"] == {"x.npz": [len(npz()), sha(npz())]}
    (tmp_path / "raw" / "fetched" / "x.npz").write_bytes(npz(first=1))
    with pytest.raises(DataError, match=r"1 files changed.*x\.npz"):
        reopen("x", origin, tmp_path / "raw")


def test_a_server_that_drops_the_line(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.extend([Fault(drop=300), Fault(status=503), Fault(short=700)])
    assert images(pull("pets", remote(server, "pets.zip"), tmp_path / "raw")) == EXPECTED
    assert len(server.asked) == 4


def test_other_contents_than_promised(server: FaultyServer, tmp_path: Path) -> None:
    origin = remote(server, "pets.zip", sha256="1" * 64)
    with pytest.raises(DataError, match=r"sha256"):
        pull("pets", origin, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_no_such_file(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.zip.*404"):
        pull("pets", remote(server, "pets.zip", path=server.url("none.zip")), tmp_path / "raw")


def test_what_was_fetched_before_an_interruption_is_not_fetched_again(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._open
    monkeypatch.setattr(module, "_open", interrupt)
    origin = remote(server, "pets.tar.gz")
    with pytest.raises(KeyboardInterrupt):
        pull("pets", origin, tmp_path / "raw")
    monkeypatch.setattr(module, "_open", real)
    assert images(pull("pets", origin, tmp_path / "raw")) == EXPECTED
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_what_a_source_could_not_read_is_fetched_again(tmp_path: Path) -> None:
    """Its publisher may have mended it since; without a checksum nobody can tell but by looking."""
    store = fsspec.filesystem("memory")
    store.pipe_file("/pull/pets.zip", zipped({"readme.txt": b"coming soon"}))
    origin = Origin(source="folder", path="memory://pull/pets.zip")
    with pytest.raises(DataError, match="found no images"):
        pull("pets", origin, tmp_path / "raw")
    store.pipe_file("/pull/pets.zip", zipped())
    assert images(pull("pets", origin, tmp_path / "raw")) == EXPECTED


# ---- replaced whole -------------------------------------------------------------------------------------------------


def test_a_second_pull_replaces_the_first(pets: Path, origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(zipped())
    pull("pets", Origin(source="folder", path=str(tmp_path / "pets.zip")), tmp_path / "raw")
    before = (tmp_path / "raw").stat().st_ino
    (pets / "train" / "cat" / "7.png").write_bytes(photos(1)[0])
    found = pull("pets", origin, tmp_path / "raw")
    assert found.counts == {"train": 7, "test": 6}
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["receipt.json"], "files of the first are left"
    assert (tmp_path / "raw").stat().st_ino != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets", "pets.zip", "raw"]


@pytest.mark.parametrize("failure", ["data", "network", "disk"])
def test_a_failure_leaves_the_first(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    origin = remote(server, "pets.zip")
    pull("pets", origin, tmp_path / "raw")
    before = tree(tmp_path / "raw")
    if failure == "data":
        server.files["pets.zip"] = zipped({"train/cat/1.txt": b"no image"})
    elif failure == "network":
        server.always = Fault(drop=10)
    else:
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DataError):
        pull("pets", remote(server, "pets.zip"), tmp_path / "raw")
    assert tree(tmp_path / "raw") == before
    monkeypatch.undo()
    assert images(reopen("pets", origin, tmp_path / "raw")) == EXPECTED


def test_a_directory_of_somebody_else_is_not_replaced(origin: Origin, pets: Path) -> None:
    with pytest.raises(DataError, match=r"pets: exists and holds no receipt\.json, so it is not replaced"):
        pull("pets", origin, pets)
    assert tree(pets) == PETS


# ---- tars that are used as they are ---------------------------------------------------------------------------------


def test_tars_are_named_and_held_to_their_checksums(tmp_path: Path) -> None:
    members = {f"{k}.png": contents for k, contents in enumerate(photos(3))}
    planted(tmp_path / "tars", {f"train-{k}.tar": tarred("w", members) for k in range(3)})
    origin = Origin(source="tars", path="tars", options={"splits": {"train": "train-*.tar"}})
    found = pull("theirs", origin, tmp_path / "raw", base=tmp_path)
    assert isinstance(found, TarSet)
    assert found.places == {"train": tuple(str(tmp_path / "tars" / f"train-{k}.tar") for k in range(3))}
    assert receipt(tmp_path / "raw")["counts"] == {"train": 3}
    assert list(receipt(tmp_path / "raw")["files"]) == [f"train-{k}.tar" for k in range(3)]
    (tmp_path / "tars" / "train-3.tar").write_bytes(tarred("w", members))
    with pytest.raises(DataError, match=r"1 files changed, came or went.*train-3\.tar"):
        reopen("theirs", origin, tmp_path / "raw", base=tmp_path)


def test_tars_of_a_server_stay_there(tmp_path: Path) -> None:
    options = {"splits": {"train": "train-{0..2}.tar", "test": "test.tar"}, "classes": ["a", "b"]}
    origin = Origin(source="tars", path="https://host.invalid/theirs/", options=options)
    found = pull("theirs", origin, tmp_path / "raw")
    assert isinstance(found, TarSet)
    assert found.places["train"] == tuple(f"https://host.invalid/theirs/train-{k}.tar" for k in range(3))
    assert (found.counts, found.files, found.classes) == ({"train": 3, "test": 1}, (), ("a", "b"))
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["receipt.json"]


def test_compressed_tars_and_no_splits_are_refused(tmp_path: Path) -> None:
    planted(tmp_path / "tars", {"train-0.tar.gz": tarred("w:gz")})
    for splits, message in (
        ({"train": "*.tar.gz"}, r"is not named \.tar\. Only uncompressed tars"),
        ({"train": "*.tar"}, "found no file there"),
        ({}, "options.splits: names no split"),
    ):
        with pytest.raises(DataError, match=message):
            pull("x", Origin(source="tars", path=str(tmp_path / "tars"), options={"splits": splits}), tmp_path / "raw")


def test_progress_is_told(pets: Path, origin: Origin, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pull("pets", origin, tmp_path / "raw", progress=lambda done, total: told.append((done, total)))
    total = sum(map(len, PETS.values()))
    assert told[-1] == (total, total) and len(told) == len(PETS)
    assert told == sorted(told)
    assert not re.search("part", " ".join(path.name for path in tmp_path.iterdir()))
