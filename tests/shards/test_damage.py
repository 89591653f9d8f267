"""Every damage is found, by `verify` and by reading, with the exact samples that are lost; none is ever read.

The shards are 3 x 5 samples and the one in the middle is damaged, for data of several kinds: where to damage them is
found with Python's own tar reader.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gen.data.index import Index, read_index
from gen.data.manifest import read_manifest
from gen.data.reader import open_split
from gen.data.sample import Collection
from gen.errors import DataError
from gen.shards.verify import Damage, verify
from gen.shards.write import Format, write_shards
from tests.data.tiny import tiny, with_webdataset
from tests.shards.rich import arrays_of, assert_drawn, rich

MIDDLE = "shard-000001.tar"
KINDS: dict[str, tuple[Callable[[int], Collection], str]] = {
    "npy": (lambda seed: tiny(seed=seed), "npy"),
    "png": (lambda seed: rich(shape=(4, 4, 3), fields="label", seed=seed), "png"),
    "rich": (lambda seed: rich(seed=seed), "npy"),
    "rich png": (lambda seed: rich(shape=(2, 4, 4, 3), seed=seed), "png"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def raw(kind: str) -> Collection:
    return KINDS[kind][0](0)


@pytest.fixture
def form(kind: str) -> Format:
    return Format(samples=5, encode=KINDS[kind][1])


@pytest.fixture
def root(raw: Collection, form: Format, tmp_path: Path) -> Path:
    write_shards(raw, tmp_path / "x", form=form)
    return tmp_path / "x"


# ---- what is done to the tar -----------------------------------------------------------------------------------------


class Tar:
    """The bytes of the middle shard, and where the files of its five samples are."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            self.members = archive.getmembers()
        self.samples = [[m for m in self.members if m.name.startswith(f"{5 + k:08d}.")] for k in range(5)]
        self.end = len(content) - 1024

    def data(self, k: int, extension: str) -> int:
        """Of the first byte of a file's data; of the last header if there is no such file."""
        return next((m.offset_data for m in self.samples[k] if extension in m.name), self.samples[k][-1].offset)

    def cut(self, size: int) -> bytes:
        return self.content[:size]

    def flip(self, position: int) -> bytes:
        return flip(position)(self.content)


def flip(position: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def cut(size: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:size]


# The samples that are lost; and what plain WebDataset makes of it, when the others are whole: how many it still hands
# out of 15, those that lack files among them, before it raises an error ("loud") or ends as if all were well.
DAMAGES: dict[str, tuple[Callable[[Tar], bytes], list[int], str]] = {
    "cut inside a file's data": (lambda t: t.cut(t.data(2, "image") + 40), [2, 3, 4], "loud"),
    "cut at a member boundary": (lambda t: t.cut(t.samples[3][0].offset), [3, 4], "13"),
    "cut between label and image": (lambda t: t.cut(t.samples[3][1].offset), [3, 4], "13 and a part of one"),
    "cut inside a header": (lambda t: t.cut(t.samples[3][0].offset + 200), [3, 4], "13"),
    "a flipped byte in a header": (lambda t: t.flip(t.samples[3][0].offset + 3), [3], "13"),
    "a flipped byte in the data": (lambda t: t.flip(t.data(3, "image") + t.samples[3][-1].size - 5), [3], "15"),
    "a file of 0 bytes": (lambda t: b"", [0, 1, 2, 3, 4], "loud"),
    # beyond the seven
    "a flipped byte in a label": (lambda t: t.flip(t.data(4, ".cls")), [4], "15"),
    "a flipped byte in a caption": (lambda t: t.flip(t.data(4, ".txt")), [4], ""),
    "a flipped byte in an attribute": (lambda t: t.flip(t.data(4, ".json") + 9), [4], ""),
    "a flipped byte in a target": (lambda t: t.flip(t.data(4, "target") + 60), [4], ""),
    "a flipped byte in the padding": (lambda t: t.flip(t.samples[1][0].offset - 1), [0], "15"),
    "a flipped byte in the end": (lambda t: t.flip(t.end + 100), [], "15"),
    "bytes at the end": (lambda t: t.content + b"more", [], "15"),
    "one end missing": (lambda t: t.cut(t.end), [], "15"),
    "two samples overwritten": (
        lambda t: (
            t.content[: (a := t.samples[1][0].offset)]
            + bytes((b := t.samples[3][0].offset) - a)
            + t.content[b:]
        ),
        [1, 2],
        "11",
    ),
}  # fmt: skip
OF_OTHER_SIZE = ("cut", "a file of 0 bytes", "bytes at the end", "one end missing")
IN_PLACE = [name for name in DAMAGES if not name.startswith(OF_OTHER_SIZE)]


def damage(root: Path, change: Callable[[Tar], bytes]) -> Path:
    """Change the bytes of the middle shard in place, as a failing disk or a broken copy would."""
    path = root / "train" / MIDDLE
    changed = change(Tar(path.read_bytes()))
    assert changed != path.read_bytes()
    with path.open("r+b") as file:
        file.write(changed)
        file.truncate(len(changed))
    return path


def failing(reader, raw: Collection) -> list[int]:
    """Samples that cannot be read; the others are compared with what was written, in all their fields."""
    arrays, failed = arrays_of(raw), []
    for k in range(len(arrays)):
        try:
            drawn = reader.batch(np.array([k]))
        except DataError:
            failed.append(k)
        else:
            assert_drawn(drawn, arrays, np.array([k]))
    return failed


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


@pytest.mark.parametrize("kind", ["npy"])
@pytest.mark.parametrize("name", [name for name, (_, _, voice) in DAMAGES.items() if voice])
def test_what_plain_webdataset_makes_of_it(root: Path, name: str) -> None:
    """Why all this is here. Were WebDataset to change its mind, the docstrings that say so are out of date."""
    damage(root, DAMAGES[name][0])
    try:
        samples = with_webdataset(root / "train")
    except Exception:
        assert DAMAGES[name][2] == "loud"
        return
    whole = [sample for sample in samples if {"cls", "image.npy"} <= sample.keys()]
    parts = " and a part of one" if len(whole) < len(samples) else ""
    assert f"{len(whole)}{parts}" == DAMAGES[name][2]


@pytest.mark.parametrize("name", DAMAGES)
def test_opening_or_reading_finds_it(root: Path, raw: Collection, name: str) -> None:
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


@pytest.mark.parametrize("name", [name for name in DAMAGES if name.startswith(("cut", "a file of 0 bytes"))])
def test_a_shard_that_is_cut_while_it_is_read(root: Path, raw: Collection, name: str) -> None:
    """The memory map outlives the file's bytes: touching it would kill the process. The shard is refused instead."""
    reader = open_split(root, "train", resident_bytes=0)
    damage(root, DAMAGES[name][0])
    assert failing(reader, raw) == [5, 6, 7, 8, 9]


def test_every_byte_of_a_shard_is_watched(root: Path, raw: Collection) -> None:
    """Of which not one may differ: neither for `verify`, nor, where it is part of a sample, for a reader."""
    path = root / "train" / MIDDLE
    content = path.read_bytes()
    tar = Tar(content)
    rng = np.random.default_rng(0)
    bounds = [*(files[0].offset for files in tar.samples), tar.end]
    for position in [*rng.integers(0, len(content), 20).tolist(), len(content) - 1]:
        path.write_bytes(flip(position)(content))
        owners = [k for k in range(5) if bounds[k] <= position < bounds[k + 1]]
        (found,) = verify(root)
        assert (found.kind, found.lost) == ("content", tuple(f"{5 + k:08d}" for k in owners))
        reader = open_split(root, "train", resident_bytes=0)
        assert failing(reader, raw) == [5 + k for k in owners]


@pytest.mark.parametrize("kind", ["npy"])
def test_the_error_names_shard_sample_and_remedy(root: Path) -> None:
    damage(root, DAMAGES["two samples overwritten"][0])
    reader = open_split(root, "train", resident_bytes=0)
    with pytest.raises(DataError, match=rf"{MIDDLE}: sample '00000007'.*crc32.*2 of the 4 samples.*dvc"):
        reader.batch(np.array([0, 7, 14, 6]))


@pytest.mark.parametrize("kind", ["npy"])
def test_unchecked_reading_is_unchecked(root: Path) -> None:
    damage(root, DAMAGES["a flipped byte in the data"][0])
    reader = open_split(root, "train", resident_bytes=0, check=False)
    assert len(reader.batch(np.arange(15)).images) == 15


# ---- whole files -----------------------------------------------------------------------------------------------------


def kinds(root: Path) -> list[tuple[str, str, int]]:
    return [(found.kind, found.file.name, len(found.lost)) for found in verify(root)]


def assert_refused(root: Path) -> None:
    for budget in (0, 1 << 20):
        with pytest.raises(DataError):
            open_split(root, "train", resident_bytes=budget)


def test_sound_shards_are_sound(root: Path, raw: Collection) -> None:
    assert verify(root) == verify(root, fast=True) == []
    assert failing(open_split(root, "train", resident_bytes=0), raw) == []


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


def test_swapped_shards(root: Path, raw: Collection) -> None:
    """If they have one size, their samples are refused one by one, otherwise the shards are not opened."""
    first, second = root / "train" / MIDDLE, root / "train" / "shard-000002.tar"
    alike = first.stat().st_size == second.stat().st_size
    swap(first, second)
    assert kinds(root) == [("swapped", MIDDLE, 5), ("swapped", "shard-000002.tar", 5)]
    assert "holds the bytes of train/shard-000002.tar" in verify(root)[0].message
    if alike:
        assert failing(open_split(root, "train", resident_bytes=0), raw) == list(range(5, 15))
    else:
        assert_refused(root)


@pytest.mark.parametrize(("kind", "alike"), [("npy", True), ("rich", False)])
def test_some_shards_have_one_size(root: Path, alike: bool) -> None:
    """So that the test before this one tries both."""
    sizes = {(root / "train" / name).stat().st_size for name in (MIDDLE, "shard-000002.tar")}
    assert (len(sizes) == 1) == alike


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


@pytest.mark.parametrize("change", [None, cut(0), cut(700), lambda content: content + b"x"])
def test_a_damaged_index(root: Path, change) -> None:
    path = root / "train" / "shard-000001.idx.npz"
    content = path.read_bytes()
    path.unlink() if change is None else path.write_bytes(change(content))
    assert kinds(root) == [("index", path.name, 0)]
    assert_refused(root)


def test_every_flipped_byte_of_an_index(root: Path) -> None:
    path = root / "train" / "shard-000001.idx.npz"
    content = path.read_bytes()
    for position in range(0, len(content), 23):
        path.write_bytes(flip(position)(content))
        assert [(found.kind, found.file) for found in verify(root, fast=True)] == [("index", path)]
        with pytest.raises(DataError, match=r"shard-000001\.idx\.npz"):
            open_split(root, "train")


def test_an_index_and_a_tar_both_damaged(root: Path) -> None:
    (root / "train" / "shard-000001.idx.npz").unlink()
    damage(root, lambda tar: tar.cut(100))
    assert kinds(root) == [("index", "shard-000001.idx.npz", 0), ("size", MIDDLE, 0)]
    assert "an unknown number of its 5 samples" in verify(root)[1].message


def test_a_stale_manifest(root: Path, kind: str, form: Format, tmp_path) -> None:
    """Shards of another writing under the manifest of the first."""
    write_shards(KINDS[kind][0](1), tmp_path / "y", form=form)
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
    """Or change nothing but the layout of the text."""
    path = root / "manifest.json"
    content, manifest = path.read_bytes(), read_manifest(root)
    for position in range(0, len(content), 5):
        path.write_bytes(flip(position)(content))
        with contextlib.suppress(DataError):
            assert read_manifest(root) == manifest


@pytest.mark.parametrize("kind", ["npy"])
def test_a_manifest_of_another_format(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text().replace("gen-shards/2", "gen-shards/9"))
    with pytest.raises(DataError, match="found format 'gen-shards/9', allowed gen-shards/2"):
        read_manifest(root)


def test_many_damages_at_once_are_all_found(root: Path, tmp_path) -> None:
    train = root / "train"
    swap(train / "shard-000000.tar", train / "shard-000002.tar")
    damage(root, lambda tar: tar.flip(tar.data(2, "image") + 1))
    (train / "shard-000002.idx.npz").unlink()
    shutil.copy(train / MIDDLE, train / "shard-000003.tar")
    assert sorted((kind, name) for kind, name, _ in kinds(root)) == [
        ("content", MIDDLE),
        ("extra", "shard-000003.tar"),
        ("index", "shard-000002.idx.npz"),
        ("swapped", "shard-000000.tar"),
        ("swapped", "shard-000002.tar"),
    ]


# ---- files that are consistent with each other and still wrong -------------------------------------------------------


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


def changed(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Index], Index]:
    return lambda index: dataclasses.replace(index, **{name: change(getattr(index, name))})


def spans(change: Callable[[np.ndarray], np.ndarray], field: str = "image") -> Callable[[Index], Index]:
    return lambda index: dataclasses.replace(index, spans={**index.spans, field: change(index.spans[field])})


@pytest.mark.parametrize(
    "change",
    [
        changed("label", lambda label: (label + 1) % 3),
        changed("key", lambda key: key[::-1].copy()),
        changed("crc32", lambda crc32: crc32 + np.uint32(1)),
        changed("offset", lambda offset: offset[::-1].copy()),
        spans(lambda span: span - [1, 0]),
    ],
)
def test_an_index_that_does_not_describe_its_tar(root: Path, change) -> None:
    forge(root, change)
    assert kinds(root) == [("index", "shard-000001.idx.npz", 0)]


@pytest.mark.parametrize("kind", ["rich"])
@pytest.mark.parametrize(
    "change",
    [
        changed("attributes", lambda numbers: numbers + 1),
        spans(lambda span: span[::-1].copy(), "caption"),
        spans(lambda span: span - [1, 0], "target"),
    ],
)
def test_an_index_that_does_not_describe_the_other_fields(root: Path, change) -> None:
    forge(root, change)
    assert kinds(root) == [("index", "shard-000001.idx.npz", 0)]


@pytest.mark.parametrize(
    "change",
    [
        changed("label", lambda label: None),
        changed("label", lambda label: label + 3),
        changed("label", lambda label: label.astype(np.float64)),
        changed("key", lambda key: np.arange(5)),
        changed("offset", lambda offset: offset + 10**6),
        changed("offset", lambda offset: offset - 1),
        changed("offset", lambda offset: offset.astype(np.float64)),
        changed("offset", lambda offset: offset + (2**63 - 1 - offset.max())),
        changed("size", lambda size: size + 10**6),
        changed("crc32", lambda crc32: crc32[:3]),
        changed("crc32", lambda crc32: crc32.astype(np.int64)),
        changed("attributes", lambda numbers: np.zeros((5, 3))),
        changed("spans", lambda found: {}),
        changed("spans", lambda found: {**found, "target": found["image"][:3]}),
        spans(lambda span: np.add(span, (10**6, 0))),
        spans(lambda span: np.add(span, (0, 10**6))),
        spans(lambda span: np.add(span, (2**63 - 1 - span[:, 0].max(), 0))),
        spans(lambda span: np.multiply(span, (1, -1))),
    ],
)
def test_an_index_that_cannot_be_of_its_tar_is_not_opened(root: Path, change) -> None:
    forge(root, change)
    assert kinds(root) == [("index", "shard-000001.idx.npz", 0)]
    assert_refused(root)


@pytest.mark.parametrize("kind", ["rich"])
def test_a_caption_longer_than_the_longest_is_not_opened(root: Path) -> None:
    forge(root, spans(lambda span: np.stack([span[:, 0] * 0, span[:, 1] + 600], 1), "caption"))
    assert_refused(root)


def assert_statistics(found: list[Damage]) -> None:
    assert [(damage.kind, damage.file.name) for damage in found] == [("statistics", "manifest.json")]


@pytest.mark.parametrize("field", ["mean", "std", "class_counts", "pixels_sha256"])
def test_statistics_of_other_images(root: Path, field: str) -> None:
    manifest = read_manifest(root)
    wrong = {"mean": (0.5,), "std": (0.5,), "class_counts": (5, 5, 5), "pixels_sha256": "0" * 64}[field]
    splits = {"train": dataclasses.replace(manifest.splits["train"], **{field: wrong})}
    (root / "manifest.json").write_text(dataclasses.replace(manifest, splits=splits).dump())
    assert_statistics(verify(root))


@pytest.mark.parametrize("kind", ["npy"])
def test_statistics_are_compared_although_a_file_lies_beside_the_shards(root: Path) -> None:
    manifest = read_manifest(root)
    splits = {"train": dataclasses.replace(manifest.splits["train"], mean=(0.5,))}
    (root / "manifest.json").write_text(dataclasses.replace(manifest, splits=splits).dump())
    (root / "train" / "notes.txt").write_text("")
    assert [found.kind for found in verify(root)] == ["extra", "statistics"]


@pytest.mark.parametrize("kind", ["npy"])
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


def test_verify_tells_its_progress(root: Path) -> None:
    told = []
    verify(root, progress=lambda done, total: told.append((done, total)))
    assert told == [(5, 15), (10, 15), (15, 15)]
