"""Somebody else's tars are used as they are: what they hold is found, and what is wrong with them is said."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import webdataset as wds

from gen.data.decoding import decode
from gen.data.manifest import read_manifest
from gen.data.reader import open_split
from gen.data.sample import Source
from gen.errors import DataError, RecipeError
from gen.remote.cache import Cache
from gen.shards.adopt import adopt_tars
from gen.shards.verify import verify
from gen.shards.write import Format, write_shards
from tests.data.tiny import tree
from tests.shards.rich import ATTRIBUTES, CAPTIONS, CLASSES, arrays_of, assert_drawn, coded, photos, rich

THEIRS = Source("theirs", "somebody's tars")
SHAPE = (6, 8, 3)


def samples(
    count: int, *, kind: str = "PNG", first: int = 0, shape: tuple[int, int, int] = SHAPE
) -> list[dict[str, Any]]:
    """Samples as one gives them to WebDataset's writer."""
    files = photos(count, shape, kind=kind, seed=first)
    return [
        {
            "__key__": f"{first + k:04d}",
            {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[kind]: files[k],
            "cls": (first + k) % 3,
            "txt": CAPTIONS[k % len(CAPTIONS)],
            "json": {"age": k / 7, "größe": -k, "other": "text"},
        }
        for k in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """A tar by WebDataset's own writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, wds.TarWriter(file) as sink:
        for row in rows:
            sink.write(row)
    return str(path)


def tarred(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT) -> str:
    """A tar by Python's own writer."""
    with tarfile.open(path, "w", format=format) as archive:
        for name, contents in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(contents), 1_700_000_000
            archive.addfile(info, io.BytesIO(contents))
    return str(path)


def adopt(places: list[str], root: Path, **options: Any) -> str:
    return adopt_tars(THEIRS, {"train": places}, root, **options)


ALL = {"classes": CLASSES, "attributes": ATTRIBUTES}


def assert_read(root: Path, rows: list[dict[str, Any]], image: str) -> None:
    """Both our readers give what was given to the writer."""
    for budget in (0, 1 << 20):
        drawn = open_split(root, "train", resident_bytes=budget).batch(np.arange(len(rows)))
        expected = np.stack([decode(row[image], what="") for row in rows])
        np.testing.assert_array_equal(drawn.images.numpy(), expected.transpose(0, 3, 1, 2))
        assert drawn.labels.tolist() == [row["cls"] for row in rows]
        assert [bytes(line).rstrip(b"\0").decode() for line in drawn.captions.numpy()] == [row["txt"] for row in rows]
        numbers = [[row["json"][name] for name in ATTRIBUTES] for row in rows]
        np.testing.assert_array_equal(drawn.attributes.numpy(), np.array(numbers, np.float32))


# ---- as they are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_tars_of_the_usual_writer(tmp_path: Path, kind: str, suffix: str) -> None:
    rows = samples(17, kind=kind)
    with wds.ShardWriter(f"{tmp_path}/train-%06d.tar", maxcount=7, verbose=0) as sink:
        for row in rows:
            sink.write(row)
    tars = sorted(tmp_path.glob("*.tar"))
    adopt([str(path) for path in tars], tmp_path / "x", **ALL)
    assert_read(tmp_path / "x", rows, suffix)
    manifest = read_manifest(tmp_path / "x")
    assert (manifest.source, manifest.classes, manifest.attributes) == (THEIRS, CLASSES, ATTRIBUTES)
    assert {name: field.extensions for name, field in manifest.fields.items()} == {
        "image": (suffix,),
        "caption": ("txt",),
    }
    split = manifest.splits["train"]
    assert [shard.samples for shard in split.shards] == [7, 7, 3]
    assert [shard.tar.name for shard in split.shards] == [path.name for path in tars]
    for path in tars:
        assert (tmp_path / "x" / "train" / path.name).read_bytes() == path.read_bytes(), "not copied byte for byte"
    assert verify(tmp_path / "x") == []


def test_labels_and_numbers_are_left_alone_unless_named(tmp_path: Path) -> None:
    place = write(tmp_path / "a.tar", samples(3))
    adopt([place], tmp_path / "x")
    drawn = open_split(tmp_path / "x", "train").batch(np.arange(3))
    assert drawn.labels is None and drawn.attributes is None


def test_the_same_tars_give_the_same_manifest(tmp_path: Path) -> None:
    """Wherever they lie, and whatever cannot be read in them."""
    broken = samples(4)
    broken[2]["png"] = b"nothing"
    options = {**ALL, "damaged": "quarantine(0.5)"}
    first, second = write(tmp_path / "a" / "1.tar", broken), write(tmp_path / "b" / "1.tar", broken)
    Path(second).write_bytes(Path(first).read_bytes())  # the writer dates its members
    assert adopt([first], tmp_path / "x", **options) == adopt([second], tmp_path / "elsewhere" / "y", **options)
    assert tree(tmp_path / "x") == tree(tmp_path / "elsewhere" / "y")


def test_splits_of_uneven_tars_with_equal_names(tmp_path: Path) -> None:
    places = {
        split: [write(tmp_path / split / f"{k}.tar", samples(count, first=10 * k)) for k, count in enumerate(counts)]
        for split, counts in {"train": (1, 9, 4), "val": (2,)}.items()
    }
    adopt_tars(THEIRS, places, tmp_path / "x", **ALL)
    manifest = read_manifest(tmp_path / "x")
    assert {name: [shard.samples for shard in split.shards] for name, split in manifest.splits.items()} == {
        "train": [1, 9, 4],
        "val": [2],
    }
    assert open_split(tmp_path / "x", "train").shard_sizes == (1, 9, 4)
    assert verify(tmp_path / "x") == []


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("folder", ["", "sub/", "./", "a.b/c d/", "deep/" * 40])
def test_names_of_all_kinds(tmp_path: Path, format: int, folder: str) -> None:
    if len(folder) > 100 and format == tarfile.USTAR_FORMAT:
        folder = "deep/" * 20
    files = photos(3)
    members = [
        (f"{folder}{key}.{extension}", contents)
        for k, key in enumerate(["a", "größe" if format != tarfile.USTAR_FORMAT else "b", "x" * 60])
        for extension, contents in (("jpeg" if k else "JPEG", files[k]), ("CLS" if k else "cls", b"%d\n" % k))
    ]
    adopt([tarred(tmp_path / "a.tar", members, format)], tmp_path / "x", classes=CLASSES)
    drawn = open_split(tmp_path / "x", "train", resident_bytes=0).batch(np.arange(3))
    expected = np.stack([decode(file, what="") for file in files])
    np.testing.assert_array_equal(drawn.images.numpy(), expected.transpose(0, 3, 1, 2))
    assert drawn.labels.tolist() == [0, 1, 2]
    assert verify(tmp_path / "x") == []


def test_files_that_are_no_samples_are_passed_over(tmp_path: Path) -> None:
    first, second = photos(2)
    members = [
        ("README", b"hello"),
        ("._1.png", b""),
        ("1.png", first),
        (".DS_Store", b""),
        ("1.cls", b"2"),
        ("2.png", second),
    ]
    place = tarred(tmp_path / "a.tar", [*members, ("2.cls", b"0"), ("LICENSE", b"")])
    adopt([place], tmp_path / "x", classes=CLASSES)
    assert open_split(tmp_path / "x", "train").batch(np.arange(2)).labels.tolist() == [2, 0]
    assert verify(tmp_path / "x") == []


def test_arrays(tmp_path: Path) -> None:
    """WebDataset's writer encodes them; their pixels are at the end of the file, behind a header."""
    arrays = arrays_of(rich({"train": 9}, (3, 4, 4, 3)))
    rows = [
        {"__key__": f"{k}", "npy": arrays.images[k], "target.npy": arrays.targets[k], "cls": int(arrays.labels[k])}
        for k in range(9)
    ]
    places = [write(tmp_path / "a.tar", rows[:5]), write(tmp_path / "b.tar", rows[5:])]
    adopt(places, tmp_path / "x", classes=CLASSES)
    assert read_manifest(tmp_path / "x").fields["image"].raw
    order = np.array([8, 0, 3, 3])
    for budget in (0, 1 << 20):
        drawn = open_split(tmp_path / "x", "train", resident_bytes=budget).batch(order)
        assert_drawn(drawn, type(arrays)(arrays.images, arrays.labels, arrays.targets), order)
    assert verify(tmp_path / "x") == []


@pytest.mark.parametrize("encode", ["npy", "png", "webp"])
def test_our_own_tars_are_found_to_be_what_they_are(tmp_path: Path, encode: str) -> None:
    raw = rich(shape=SHAPE)
    write_shards(raw, tmp_path / "ours", form=Format(samples=4, encode=encode))
    tars = sorted(str(path) for path in (tmp_path / "ours").rglob("*.tar"))
    adopt(tars, tmp_path / "x", **ALL)
    ours, theirs = (read_manifest(tmp_path / name) for name in ("ours", "x"))
    assert (ours.fields, ours.splits) == (theirs.fields, theirs.splits)
    assert_drawn(open_split(tmp_path / "x", "train").batch(np.arange(15)), arrays_of(raw), np.arange(15))


def test_grey_among_colours_becomes_colour(tmp_path: Path) -> None:
    """As in ImageNet, a few of whose JPEGs are grey."""
    grey = coded(np.arange(48, dtype=np.uint8).reshape(6, 8, 1))
    place = write(tmp_path / "a.tar", [{"__key__": "0", "png": photos(1)[0]}, {"__key__": "1", "png": grey}])
    adopt([place], tmp_path / "x")
    images = open_split(tmp_path / "x", "train", resident_bytes=0).batch(np.arange(2)).images
    assert (images[1] == images[1, :1]).all() and images[1, 0].flatten().tolist() == list(range(48))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    """Stock WebDataset does it unasked; whoever made the tar then runs what he likes."""
    canary = tmp_path / "canary"
    poison = pickle.dumps(Canary(canary))
    files = photos(2)
    members = {
        "0.png": files[0], "0.pkl": poison, "0.pth": poison, "0.pickle": poison, "0.pyd": poison, "0.npz": poison,
        "1.png": files[1], "1.pkl": poison,
    }  # fmt: skip
    adopt([tarred(tmp_path / "a.tar", members)], tmp_path / "x")
    assert verify(tmp_path / "x") == []
    for budget in (0, 1 << 20):
        assert open_split(tmp_path / "x", "train", resident_bytes=budget).batch(np.arange(2)).images.shape[0] == 2
    objects = io.BytesIO()
    np.save(objects, np.array([Canary(canary)], object), allow_pickle=True)
    place = tarred(tmp_path / "b.tar", {"0.npy": objects.getvalue()})
    with pytest.raises(DataError, match="npy"):
        adopt([place], tmp_path / "y")
    assert not canary.exists()
    pickle.loads(poison)
    assert canary.exists(), "the canary does not sing"


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


# ---- elsewhere ------------------------------------------------------------------------------------------------------


def test_tars_of_a_server_stay_there(tmp_path: Path) -> None:
    rows = samples(11)
    store = fsspec.filesystem("memory")
    for k in (0, 1):
        local = Path(write(tmp_path / f"{k}.tar", rows[6 * k : 6 * k + 6]))
        store.pipe_file(f"/theirs/{k}.tar", local.read_bytes())
    places = ["memory://theirs/0.tar", "memory://theirs/1.tar"]
    adopt(places, tmp_path / "x", **ALL)
    manifest = read_manifest(tmp_path / "x")
    assert [shard.place for shard in manifest.splits["train"].shards] == places
    assert [path.name for path in (tmp_path / "x").rglob("*.tar")] == []
    reader = open_split(tmp_path / "x", "train", resident_bytes=0, cache=partial(Cache, directory=tmp_path / "cache"))
    expected = np.stack([decode(rows[k]["png"], what="") for k in (10, 0, 6)])
    drawn = reader.batch(np.array([10, 0, 6]))
    np.testing.assert_array_equal(drawn.images.numpy(), expected.transpose(0, 3, 1, 2))
    assert drawn.labels.tolist() == [10 % 3, 0, 0]
    assert verify(tmp_path / "x") == []
    content = bytearray(store.cat_file("/theirs/1.tar"))
    content[1000] ^= 1
    store.pipe_file("/theirs/1.tar", bytes(content))
    assert [(found.kind, found.file.name) for found in verify(tmp_path / "x")] == [("content", "1.tar")]


def test_a_tar_that_is_not_there(tmp_path: Path) -> None:
    for place in (str(tmp_path / "none.tar"), str(tmp_path), "memory://theirs/none.tar"):
        with pytest.raises(DataError, match=r"none\.tar|not a file"):
            adopt([place], tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_two_tars_of_one_name(tmp_path: Path) -> None:
    places = [write(tmp_path / folder / "1.tar", samples(2)) for folder in ("a", "b")]
    with pytest.raises(DataError, match="two of its tars have the same name"):
        adopt(places, tmp_path / "x")


def test_names_of_splits_that_would_lead_elsewhere(tmp_path: Path) -> None:
    place = write(tmp_path / "in" / "1.tar", samples(2))
    with pytest.raises(RecipeError, match=r"found a split '\.\./y'"):
        adopt_tars(THEIRS, {"../y": [place]}, tmp_path / "out" / "x")
    assert not list((tmp_path / "out").iterdir())


# ---- what is refused ------------------------------------------------------------------------------------------------


def image(**options: Any) -> bytes:
    return coded(np.zeros(options.pop("shape", SHAPE), np.uint8), **options)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


GOOD = {"0.png": image(), "0.cls": b"1", "0.txt": b"text", "0.json": b'{"age": 1, "gr\xc3\xb6\xc3\x9fe": 2}'}
DEEP = b"[" * 100_000

# The files of the second sample, of which one is exchanged or missing; the message.
ODD: dict[str, tuple[dict[str, bytes | None], str]] = {
    "another size": ({"png": image(shape=(6, 9, 3))}, r"found an image of shape \(6, 9, 3\), expected \(6, 8, 3\)"),
    "no image": ({"png": None}, "has no image, only cls, json, txt"),
    "two images": ({"jpg": image(kind="JPEG")}, "has more than one image: jpg, png"),
    "a target": ({"seg.png": image()}, "has caption, image, target, the others have caption, image"),
    "no caption": ({"txt": None}, "has image, the others have caption, image"),
    "an array": ({"png": None, "npy": npy(np.zeros(SHAPE, np.uint8))}, "its image is stored as npy, .* others as png"),
    "an array by another name": ({"png": npy(np.zeros(SHAPE, np.uint8))}, "holds an array of NumPy"),
    "an image cut short": ({"png": image()[:50]}, "cannot be decoded"),
    "no label": ({"cls": None}, r"has no label \(a member '\.cls'\); allowed is a whole number from 0 to 2"),
    "a text as label": ({"cls": b"cat"}, "has the label b'cat'; allowed is a whole number"),
    "a label too large": ({"cls": b"3"}, "has the label 3; allowed is 0 to 2"),
    "a negative label": ({"cls": b"-1"}, "has the label -1"),
    "no numbers": ({"json": None}, "must give the numbers age, größe"),
    "not all numbers": ({"json": b'{"age": 1}'}, "must give the numbers"),
    "a text as number": ({"json": '{"age": "x", "größe": 2}'.encode()}, "must give the numbers"),
    "a list": ({"json": b"[1, 2]"}, "must give the numbers"),
    "no JSON": ({"json": b"{"}, "must give the numbers"),
    "JSON that is too deep": ({"json": DEEP}, "must give the numbers"),
    "not a number": ({"json": '{"age": NaN, "größe": 2}'.encode()}, "found the attribute nan"),
    "a number too large": ({"json": b'{"age": 1%s, "gr\xc3\xb6\xc3\x9fe": 2}' % (b"0" * 400)}, "must give the numbers"),
    "Latin-1": ({"txt": "größe".encode("latin-1")}, "its caption is no text in UTF-8"),
    "a text with a zero": ({"txt": b"a\0"}, "holds a character of code 0"),
}  # fmt: skip


def with_odd(change: dict[str, bytes | None]) -> list[tuple[str, bytes]]:
    """Three samples, of which that in the middle is odd."""
    rows = []
    for k in range(3):
        files = {name.partition(".")[2]: contents for name, contents in GOOD.items()} | (change if k == 1 else {})
        rows += [(f"{k}.{name}", contents) for name, contents in files.items() if contents is not None]
    return rows


@pytest.mark.parametrize("name", ODD)
def test_a_sample_unlike_the_others_is_refused_or_left_out(tmp_path: Path, name: str) -> None:
    change, message = ODD[name]
    place = tarred(tmp_path / "a.tar", with_odd(change))
    with pytest.raises(
        DataError, match=rf"(?s)theirs: train: 1 of 3 samples cannot be read.*1 \(a\.tar\): .*{message}"
    ):
        adopt([place], tmp_path / "x", **ALL)
    with pytest.raises(DataError, match=r"more than the 30\.000%"):
        adopt([place], tmp_path / "x", **ALL, damaged="quarantine(0.3)")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
    adopt([place], tmp_path / "x", **ALL, damaged="quarantine(0.34)")
    split = read_manifest(tmp_path / "x").splits["train"]
    ((key, origin, reason),) = split.quarantined
    assert (key, origin, split.samples) == ("1", "a.tar", 2)
    assert str(tmp_path) not in reason
    assert len(open_split(tmp_path / "x", "train")) == 2
    assert verify(tmp_path / "x") == []


@pytest.mark.parametrize(
    "contents",
    [
        npy(np.zeros((6, 9, 3), np.uint8)),
        npy(np.zeros((6, 8, 3), np.float32)),
        npy(np.zeros((6, 8), np.uint8)),
        npy(np.asfortranarray(np.zeros((6, 8, 3), np.uint8))),
        npy(np.zeros((6, 8, 3), np.uint8))[:-1],
        npy(np.zeros((6, 8, 3), np.uint8)) + b"x",
        image(),
        b"",
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, contents: bytes) -> None:
    place = tarred(tmp_path / "a.tar", {"0.npy": npy(np.zeros(SHAPE, np.uint8)), "1.npy": contents})
    with pytest.raises(DataError, match=r"(?s)1 of 2 samples cannot be read.*npy"):
        adopt([place], tmp_path / "x")


def test_colours_among_grey_are_not_thrown_away(tmp_path: Path) -> None:
    place = tarred(tmp_path / "a.tar", {"0.png": image(shape=(6, 8, 1)), "1.png": photos(1)[0]})
    with pytest.raises(DataError, match="has colours, the others are grey"):
        adopt([place], tmp_path / "x")


OTHERS = {
    "another size": {"0.png": image(shape=(6, 9, 3))},
    "grey": {"0.png": image(shape=(6, 8, 1))},
    "arrays": {"0.npy": npy(np.zeros(SHAPE, np.uint8))},
    "captions": {"0.png": image(), "0.txt": b"text"},
    "targets": {"0.png": image(), "0.seg.png": image()},
}


@pytest.mark.parametrize("name", OTHERS)
def test_tars_that_do_not_go_together_are_refused(tmp_path: Path, name: str) -> None:
    places = [tarred(tmp_path / "a.tar", {"0.png": image()}), tarred(tmp_path / "b.tar", OTHERS[name])]
    with pytest.raises(DataError, match=r"b\.tar: its samples have .* those of .*a\.tar have .*all must be alike"):
        adopt(places, tmp_path / "x", damaged="quarantine(0.9)")


APART = [("0.png", image()), ("1.png", image()), ("0.cls", b"1"), ("1.cls", b"1")]
TARS: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "members apart": (APART, "the members of sample '0' are not next to each other"),
    "twins": ([("0.png", image()), ("0.PNG", image())], r"two members are called '0\.PNG'"),
    "nothing": ([], "holds no sample that can be read"),
    "no samples": ([("README", b"")], "holds no sample that can be read"),
    "no images": ([("0.cls", b"1")], "holds no sample that can be read: .*has no image, only cls"),
}


@pytest.mark.parametrize("name", TARS)
def test_tars_that_are_not_of_samples_are_refused(tmp_path: Path, name: str) -> None:
    place = tarred(tmp_path / "a.tar", TARS[name][0])
    with pytest.raises(DataError, match=rf"a\.tar: .*{TARS[name][1]}"):
        adopt([place], tmp_path / "x", damaged="quarantine(0.9)")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars_are_refused(tmp_path: Path, kind: str) -> None:
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as archive:
        archive.addfile(tarfile.TarInfo("0.png"))
    with pytest.raises(DataError, match=r"a\.tar: is not a whole tar .*compressed with (gzip|bzip2|xz).*decompress it"):
        adopt([str(tmp_path / "a.tar")], tmp_path / "x")


@pytest.mark.parametrize("change", ["cut", "cut inside", "empty", "joined", "zeros", "garbage", "link"])
def test_damaged_tars_are_refused(tmp_path: Path, change: str) -> None:
    """No policy helps: what a broken tar held cannot be counted."""
    path = Path(tarred(tmp_path / "a.tar", GOOD | {f"1{name[1:]}": contents for name, contents in GOOD.items()}))
    content = path.read_bytes()
    second = content.index(b"1.png\0")
    path.write_bytes({
        "cut": content[:second],
        "cut inside": content[: second + 600],
        "empty": b"",
        "joined": content + content,
        "zeros": content[:second] + bytes(1024) + content[second + 1024 :],
        "garbage": b"<html>404</html>" * 100,
        "link": content[: second + 156] + b"2" + content[second + 157 :],
    }[change])  # fmt: skip
    with pytest.raises(DataError, match=r"a\.tar: is not a whole tar of samples"):
        adopt([str(path)], tmp_path / "x", damaged="quarantine(0.9)")


def test_many_samples_left_out_are_counted_and_listed(tmp_path: Path) -> None:
    rows = samples(60)
    bad = [3, 4, 21, 59]
    for k in bad:
        rows[k]["png"] = rows[k]["png"][:-20]
    places = [write(tmp_path / f"{k}.tar", rows[20 * k : 20 * k + 20]) for k in range(3)]
    with pytest.raises(DataError, match=r"4 of 60 samples cannot be read, more than the 6\.000%"):
        adopt(places, tmp_path / "x", **ALL, damaged="quarantine(0.06)")
    adopt(places, tmp_path / "x", **ALL, damaged="quarantine(0.07)")
    split = read_manifest(tmp_path / "x").splits["train"]
    assert [(key, origin) for key, origin, _ in split.quarantined] == [(f"{k:04d}", f"{k // 20}.tar") for k in bad]
    assert [shard.samples for shard in split.shards] == [18, 19, 19]
    assert_read(tmp_path / "x", [row for k, row in enumerate(rows) if k not in bad], "png")
    assert verify(tmp_path / "x") == []
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["damaged"] == "quarantine(0.07)"
    path = tmp_path / "x" / "train" / "0.tar"
    content = bytearray(path.read_bytes())
    content[content.index(b"0007.png\0") + 600] ^= 1
    path.write_bytes(content)
    assert [(found.kind, found.lost) for found in verify(tmp_path / "x")] == [("content", ("0007",))]
    assert len(open_split(tmp_path / "x", "train")) == 55


def test_old_shards_survive(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "a.tar", samples(3)), tarred(tmp_path / "b.tar", APART)
    adopt([good], tmp_path / "x")
    before = tree(tmp_path / "x")
    with pytest.raises(DataError):
        adopt([good, bad], tmp_path / "x")
    assert tree(tmp_path / "x") == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "b.tar", "x"}


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write(tmp_path / "a.tar", samples(3))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        DataError, match=rf"x: could not be written: the disk is full.*It needs {Path(place).stat().st_size:,} b"
    ):
        adopt([place], tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    places = [write(tmp_path / f"{k}.tar", samples(2)) for k in range(3)]
    adopt(places, tmp_path / "x", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
