"""Every damage is found, by `verify` and by reading, with the exact samples that are lost; none is ever read.

The shards are 3 x 5 samples and the one in the middle is damaged. A record is 2,048 bytes: header and label, header
and image, a block of 512 bytes each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gen.data.manifest import Index, read_index, read_manifest
from gen.data.raw import Raw
from gen.data.reader import open_split
from gen.data.shards import write_shards
from gen.data.verify import verify
from gen.errors import DataError
from tests.data.tiny import tiny, with_webdataset

RECORD = 2048
MIDDLE = "shard-000001.tar"


@pytest.fixture
def raw() -> Raw:
    return tiny()


@pytest.fixture
def root(raw: Raw, tmp_path) -> Path:
    write_shards(raw, tmp_path / "x", samples_per_shard=5)
    return tmp_path / "x"


def cut(size: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:size]


def flip(position: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def damage(root: Path, change: Callable[[bytes], bytes]) -> Path:
    """Change the bytes of the middle shard in place, as a failing disk or a broken copy would."""
    path = root / "train" / MIDDLE
    changed = change(path.read_bytes())
    with path.open("r+b") as file:
        file.write(changed)
        file.truncate(len(changed))
    return path


# What is done to the tar; the samples of it that are lost; how many of the 15 plain WebDataset still hands out.
# It says nothing in the cases marked "silent".
DAMAGES = {
    "cut inside a file's data": (cut(2 * RECORD + 1600), [2, 3, 4], "loud"),
    "cut at a member boundary": (cut(3 * RECORD), [3, 4], "silent"),
    "cut between label and image": (cut(3 * RECORD + 1024), [3, 4], "silent"),
    "cut inside a header": (cut(3 * RECORD + 200), [3, 4], "silent"),
    "a flipped byte in a header": (flip(3 * RECORD + 3), [3], "silent"),
    "a flipped byte in the data": (flip(3 * RECORD + 1536 + 140), [3], "silent"),
    "a file of 0 bytes": (cut(0), [0, 1, 2, 3, 4], "loud"),
    # beyond the seven
    "a flipped byte in a label": (flip(4 * RECORD + 512), [4], "silent"),
    "a flipped byte in the padding": (flip(RECORD - 1), [0], "silent"),
    "a flipped byte in the end": (flip(5 * RECORD + 100), [], "silent"),
    "bytes at the end": (lambda content: content + b"more", [], "silent"),
    "two samples overwritten": (
        lambda content: content[:RECORD] + bytes(2 * RECORD) + content[3 * RECORD :],
        [1, 2],
        "",
    ),
}
IN_PLACE = [name for name in DAMAGES if "cut" not in name and name not in ("a file of 0 bytes", "bytes at the end")]


@pytest.mark.parametrize("name", DAMAGES)
def test_verify_finds_it_and_counts_what_is_lost(root: Path, name: str) -> None:
    change, lost, _ = DAMAGES[name]
    path = damage(root, change)
    (found,) = verify(root)
    assert found.file == path
    assert found.kind == ("content" if name in IN_PLACE else "size")
    assert found.lost == tuple(f"{5 + k:08d}" for k in lost)
    assert str(path) in found.message and "dvc" in found.message
    assert f"{len(lost)} of its 5 samples" in found.message


@pytest.mark.parametrize("name", DAMAGES)
def test_fast_verify_finds_what_changes_the_size(root: Path, name: str) -> None:
    damage(root, DAMAGES[name][0])
    assert [found.kind for found in verify(root, fast=True)] == ([] if name in IN_PLACE else ["size"])


@pytest.mark.parametrize("name", [name for name, (_, _, voice) in DAMAGES.items() if voice == "silent"])
def test_plain_webdataset_says_nothing(root: Path, name: str) -> None:
    """Why all this is here. Were WebDataset to change its mind, the docstrings that say so are out of date."""
    damage(root, DAMAGES[name][0])
    with_webdataset(root / "train")


@pytest.mark.parametrize("name", DAMAGES)
def test_opening_or_reading_finds_it(root: Path, raw: Raw, name: str) -> None:
    """A reader of all samples never gives a wrong one: it refuses to open, or exactly the lost samples fail."""
    change, lost, _ = DAMAGES[name]
    damage(root, change)
    if name not in IN_PLACE:
        for budget in (0, 1 << 20):
            with pytest.raises(DataError, match=MIDDLE):
                open_split(root, "train", resident_bytes=budget)
        return
    assert failing(open_split(root, "train", resident_bytes=0), raw) == [5 + k for k in lost]
    if lost:
        with pytest.raises(DataError, match=MIDDLE):
            open_split(root, "train")


@pytest.mark.parametrize("name", [name for name in DAMAGES if name not in IN_PLACE and "end" not in name])
def test_a_shard_that_is_cut_while_it_is_read(root: Path, raw: Raw, name: str) -> None:
    """The memory map outlives the file's bytes: touching it would kill the process. The shard is refused instead."""
    reader = open_split(root, "train", resident_bytes=0)
    damage(root, DAMAGES[name][0])
    assert failing(reader, raw) == [5, 6, 7, 8, 9]


def failing(reader, raw: Raw) -> list[int]:
    """Samples that cannot be read; the others are compared with what was written."""
    split, failed = raw.splits["train"], []
    for k in range(len(split.images)):
        try:
            x, y = reader.batch(np.array([k]))
        except DataError:
            failed.append(k)
        else:
            np.testing.assert_array_equal(x[0].numpy(), split.images[k].transpose(2, 0, 1))
            assert y.tolist() == [split.labels[k]]
    return failed


def test_the_error_names_shard_sample_and_remedy(root: Path) -> None:
    damage(root, DAMAGES["two samples overwritten"][0])
    reader = open_split(root, "train", resident_bytes=0)
    with pytest.raises(DataError, match=rf"{MIDDLE}: sample '00000007'.*crc32.*2 of the 4 samples.*dvc"):
        reader.batch(np.array([0, 7, 14, 6]))


def test_unchecked_reading_is_unchecked(root: Path) -> None:
    damage(root, DAMAGES["a flipped byte in the data"][0])
    reader = open_split(root, "train", resident_bytes=0, check=False)
    assert len(reader.batch(np.arange(15))[0]) == 15


# ---- whole files ----------------------------------------------------------------------------------------------------


def kinds(root: Path) -> list[tuple[str, str, int]]:
    return [(found.kind, found.file.name, len(found.lost)) for found in verify(root)]


def assert_refused(root: Path) -> None:
    for budget in (0, 1 << 20):
        with pytest.raises(DataError):
            open_split(root, "train", resident_bytes=budget)


def test_sound_shards_are_sound(root: Path) -> None:
    assert verify(root) == verify(root, fast=True) == []


def test_a_missing_shard(root: Path) -> None:
    (root / "train" / MIDDLE).unlink()
    assert kinds(root) == [("missing", MIDDLE, 5)]
    assert_refused(root)


def test_extra_files(root: Path) -> None:
    shutil.copy(root / "train" / MIDDLE, root / "train" / "shard-000009.tar")
    shutil.copytree(root / "train", root / "train2")
    (root / ".gitignore").write_text("hidden files are not data")
    assert kinds(root) == [("extra", "train2", 0), ("extra", "shard-000009.tar", 0)]
    assert_refused(root)


def test_swapped_shards_of_equal_size(root: Path, raw: Raw) -> None:
    swap(root / "train" / MIDDLE, root / "train" / "shard-000002.tar")
    assert kinds(root) == [("swapped", MIDDLE, 5), ("swapped", "shard-000002.tar", 5)]
    assert "holds the bytes of train/shard-000002.tar" in verify(root)[0].message
    assert failing(open_split(root, "train", resident_bytes=0), raw) == list(range(5, 15))


def test_shards_swapped_together_with_their_indices(root: Path) -> None:
    for suffix in ("tar", "idx.npz"):
        swap(root / "train" / f"shard-000001.{suffix}", root / "train" / f"shard-000002.{suffix}")
    assert {kind for kind, _, _ in kinds(root)} == {"index", "swapped"}
    assert len(kinds(root)) == 4
    assert_refused(root)


def swap(a: Path, b: Path) -> None:
    a.rename(a.with_name("c"))
    b.rename(a)
    a.with_name("c").rename(b)


@pytest.mark.parametrize("change", [None, cut(0), cut(700), flip(400), flip(1500), lambda c: c + b"x"])
def test_a_damaged_index(root: Path, change) -> None:
    path = root / "train" / "shard-000001.idx.npz"
    content = path.read_bytes()
    path.unlink() if change is None else path.write_bytes(change(content))
    assert kinds(root) == [("index", path.name, 0)]
    assert_refused(root)


def test_an_index_and_a_tar_both_damaged(root: Path) -> None:
    (root / "train" / "shard-000001.idx.npz").unlink()
    damage(root, cut(100))
    assert kinds(root) == [("index", "shard-000001.idx.npz", 0), ("size", MIDDLE, 0)]
    assert "an unknown number of its 5 samples" in verify(root)[1].message


def test_a_stale_manifest(root: Path, tmp_path) -> None:
    """Shards of another writing under the manifest of the first."""
    write_shards(tiny(seed=1), tmp_path / "y", samples_per_shard=5)
    shutil.copy(root / "manifest.json", tmp_path / "y" / "manifest.json")
    found = kinds(tmp_path / "y")
    assert [kind for kind, _, _ in found].count("stale") == 3
    assert {kind for kind, _, _ in found} == {"stale", "index"}
    assert_refused(tmp_path / "y")


@pytest.mark.parametrize("change", [None, cut(0), cut(500), lambda c: c.replace(b'"samples": 15', b'"samples": 16')])
def test_a_damaged_manifest(root: Path, change) -> None:
    path = root / "manifest.json"
    content = path.read_bytes()
    path.unlink() if change is None else path.write_bytes(change(content))
    assert kinds(root) == [("manifest", "manifest.json", 0)]
    assert_refused(root)


def test_flipped_bytes_of_the_manifest_are_found(root: Path) -> None:
    """Or changes nothing but the layout of the text."""
    path = root / "manifest.json"
    content, manifest = path.read_bytes(), read_manifest(root)
    for position in range(0, len(content), 5):
        path.write_bytes(flip(position)(content))
        with contextlib.suppress(DataError):
            assert read_manifest(root) == manifest


def test_a_manifest_of_another_format(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text().replace("gen-shards/1", "gen-shards/9"))
    with pytest.raises(DataError, match="found format 'gen-shards/9', allowed gen-shards/1"):
        read_manifest(root)


# ---- files that are consistent with each other and still wrong ------------------------------------------------------


def forge(root: Path, change: Callable[[Index], Index]) -> None:
    """Change the index of the middle shard and have the manifest vouch for it."""
    path = root / "train" / "shard-000001.idx.npz"
    content = change(read_index(path)[0]).dump()
    path.write_bytes(content)
    manifest = read_manifest(root)
    split = manifest.splits["train"]
    info = dataclasses.replace(split.shards[1].index, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    shards = (split.shards[0], dataclasses.replace(split.shards[1], index=info), split.shards[2])
    splits = {"train": dataclasses.replace(split, shards=shards)}
    (root / "manifest.json").write_text(dataclasses.replace(manifest, splits=splits).dump())


@pytest.mark.parametrize(
    "change",
    [
        lambda index: dataclasses.replace(index, label=(index.label + 1) % 3),
        lambda index: dataclasses.replace(index, key=index.key[::-1].copy()),
        lambda index: dataclasses.replace(index, pixels=index.pixels - 1),
        lambda index: dataclasses.replace(index, crc32=index.crc32 + np.uint32(1)),
        lambda index: dataclasses.replace(index, offset=index.offset[::-1].copy()),
    ],
)
def test_an_index_that_does_not_describe_its_tar(root: Path, change) -> None:
    forge(root, change)
    assert kinds(root) == [("index", "shard-000001.idx.npz", 0)]


@pytest.mark.parametrize(
    "change",
    [
        lambda index: dataclasses.replace(index, label=None),
        lambda index: dataclasses.replace(index, label=index.label + 3),
        lambda index: dataclasses.replace(index, offset=index.offset + 10**6),
        lambda index: dataclasses.replace(index, offset=index.offset - 1),
        lambda index: dataclasses.replace(index, pixels=index.pixels + RECORD),
        lambda index: dataclasses.replace(index, crc32=index.crc32[:3]),
    ],
)
def test_an_index_that_cannot_be_of_its_tar_is_not_opened(root: Path, change) -> None:
    forge(root, change)
    assert kinds(root) == [("index", "shard-000001.idx.npz", 0)]
    assert_refused(root)


@pytest.mark.parametrize("field", ["mean", "std", "class_counts", "pixels_sha256"])
def test_statistics_of_other_images(root: Path, field: str) -> None:
    manifest = read_manifest(root)
    wrong = {"mean": (0.5,), "std": (0.5,), "class_counts": (5, 5, 5), "pixels_sha256": "0" * 64}[field]
    splits = {"train": dataclasses.replace(manifest.splits["train"], **{field: wrong})}
    (root / "manifest.json").write_text(dataclasses.replace(manifest, splits=splits).dump())
    assert kinds(root) == [("statistics", "manifest.json", 0)]


def test_no_such_split(root: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'trian'\. Allowed: train\. Did you mean 'train'"):
        open_split(root, "trian")


def test_no_such_sample(root: Path) -> None:
    for budget in (0, 1 << 20):
        for wrong in (-1, 15):
            with pytest.raises(IndexError, match="15 samples"):
                open_split(root, "train", resident_bytes=budget).batch(np.array([0, wrong]))


def test_the_manifest_is_json_that_others_can_read(root: Path) -> None:
    assert json.loads((root / "manifest.json").read_text())["digest"] == read_manifest(root).digest
