"""Shards are tars that anyone can read, equal byte for byte, and whole or not there at all."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.data.decoding import decode
from gen.data.images import Prepare
from gen.data.manifest import manifest_digest, read_manifest
from gen.data.reader import open_split
from gen.data.sample import Arrays, Collection, Listed, Sample, Split, in_memory
from gen.errors import DataError, RecipeError
from gen.files import commit
from gen.shards import write as shards
from gen.shards.directory import replacing
from gen.shards.scan import scan
from gen.shards.verify import verify
from gen.shards.write import Format, write_shards
from tests.data.tiny import SOURCE, images_of, tiny, tree, with_webdataset
from tests.shards.rich import ATTRIBUTES, CLASSES, arrays_of, assert_drawn, coded, filed, photos, rich

# ---- what is written is what is read ---------------------------------------------------------------------------------

SIDES = st.integers(1, 9)
IMAGES = st.one_of(
    st.tuples(SIDES, SIDES, st.integers(1, 4)), st.tuples(st.integers(1, 4), SIDES, SIDES, st.sampled_from([1, 3]))
)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 12),
    shape=IMAGES,
    target=st.tuples(SIDES, SIDES, st.sampled_from([1, 3])),
    fields=st.sets(st.sampled_from(["label", "target", "caption", "attributes"])),
    encode=st.sampled_from(["npy", "png", "webp"]),
    per_shard=st.integers(1, 13),
    seed=st.integers(0, 99),
)
def test_round_trip(tmp_path_factory, count, shape, target, fields, encode, per_shard, seed) -> None:
    """Stock WebDataset, our two readers and the arrays that were written agree, for any shape and any cut."""
    if shape[-1] not in (1, 3):
        encode = "npy"
    raw = rich({"train": count}, shape, target, fields=" ".join(fields), seed=seed)
    arrays = arrays_of(raw)
    root = tmp_path_factory.mktemp("shards") / "x"
    write_shards(raw, root, form=Format(encode=encode, samples=per_shard))

    samples = with_webdataset(root / "train")
    assert [sample["__key__"] for sample in samples] == [f"{k:08d}" for k in range(count)]
    assert [stored(sample, "image", encode, shape) for sample in samples] == [x.tobytes() for x in arrays.images]
    none = [None] * count
    assert [sample.get("cls") for sample in samples] == (none if arrays.labels is None else arrays.labels.tolist())
    assert [sample.get("txt") for sample in samples] == (arrays.captions or none)
    if arrays.attributes is not None:
        assert [tuple(sample["json"]) for sample in samples] == [ATTRIBUTES] * count
        assert [list(sample["json"].values()) for sample in samples] == arrays.attributes.tolist()
    if arrays.targets is not None:
        assert [stored(sample, "target", encode, target) for sample in samples] == [x.tobytes() for x in arrays.targets]

    rows = np.random.default_rng(0).integers(0, count, 20)
    manifest = read_manifest(root)
    assert manifest.shape == (shape[-1], *shape[:-1])
    assert (manifest.classes, manifest.attributes) == (raw.classes, raw.attributes)
    for budget in (0, 1 << 30):
        reader = open_split(root, "train", resident_bytes=budget)
        assert len(reader) == count
        assert_drawn(reader.batch(rows), arrays, rows)
    assert verify(root) == []


def stored(sample: dict, field: str, encode: str, shape: tuple[int, ...]) -> bytes:
    """The pixels of a sample as WebDataset gives it; it leaves image files to others."""
    value = sample[f"{field}.{encode}"]
    if encode == "npy":
        assert (value.dtype, value.shape) == (np.uint8, shape)
        return value.tobytes()
    pixels = decode(value, what="", mode="L" if shape[-1] == 1 else "RGB")
    return pixels.tobytes()


@settings(max_examples=30, deadline=None)
@given(
    captions=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=50), min_size=1, max_size=5
    )
)
def test_any_text_is_a_caption(tmp_path_factory, captions: list[str]) -> None:
    arrays = Arrays(np.zeros((len(captions), 1, 1, 1), np.uint8), captions=captions)
    root = tmp_path_factory.mktemp("shards") / "x"
    write_shards(in_memory(SOURCE, {"train": arrays}), root, form=Format(samples=2))
    assert [sample["txt"] for sample in with_webdataset(root / "train")] == captions
    for budget in (0, 1 << 20):
        reader = open_split(root, "train", resident_bytes=budget)
        assert_drawn(reader.batch(np.arange(len(captions))), arrays, np.arange(len(captions)))
    longest = max(1, *(len(text.encode()) for text in captions), 1)
    assert read_manifest(root).fields["caption"].shape == (longest,)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a\0b", "holds a character of code 0"),
        ("half \ud83d of a sign", "is no text in UTF-8"),
        ("ä" * 32_769, "has 65,538 bytes, allowed are 65,536"),
    ],
)
def test_what_is_no_text_is_no_caption(tmp_path, caption: str, reason: str) -> None:
    """JSON can hold all of these."""
    arrays = Arrays(np.zeros((2, 1, 1, 1), np.uint8), captions=["good", caption])
    with pytest.raises(DataError, match=rf"row 1: its caption {reason}"):
        write_shards(in_memory(SOURCE, {"train": arrays}), tmp_path / "x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_attributes_are_finite(tmp_path, value: float) -> None:
    arrays = Arrays(np.zeros((2, 1, 1, 1), np.uint8), attributes=np.array([[1.0], [value]]))
    with pytest.raises(DataError, match=r"row 1: found the attribute .* allowed are finite numbers"):
        write_shards(in_memory(SOURCE, {"train": arrays}, attributes=["age"]), tmp_path / "x")


KINDS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp", "PPM": "ppm", "TIFF": "tiff", "GIF": "gif"}


def test_keep_stores_the_files_of_the_source(tmp_path) -> None:
    """Byte for byte, of any kinds together; what they show is what is read."""
    files = [photos(1, kind=kind, seed=k)[0] for k, kind in enumerate(KINDS)]
    raw = filed(files, labels=[k % 3 for k in range(len(files))])
    write_shards(raw, tmp_path / "x", form=Format(encode="keep", samples=3))
    samples = with_webdataset(tmp_path / "x" / "train")
    assert [sample[f"image.{suffix}"] for sample, suffix in zip(samples, KINDS.values(), strict=True)] == files
    extensions = read_manifest(tmp_path / "x").fields["image"].extensions
    assert extensions == tuple(sorted(f"image.{suffix}" for suffix in KINDS.values()))
    images = np.stack([decode(file, what="") for file in files])
    for budget in (0, 1 << 20):
        drawn = open_split(tmp_path / "x", "train", resident_bytes=budget).batch(np.arange(len(files)))
        np.testing.assert_array_equal(drawn.images.numpy(), images.transpose(0, 3, 1, 2))
    assert verify(tmp_path / "x") == []


def test_keep_knows_big_tiffs(tmp_path) -> None:
    """They are decoded, but begin in their own way."""
    contents = coded(np.zeros((4, 4, 1), np.uint8), "TIFF", big_tiff=True)
    assert contents[:3] != photos(1, kind="TIFF")[0][:3]
    write_shards(filed([contents]), tmp_path / "x", form=Format(encode="keep"))
    assert verify(tmp_path / "x") == []


def test_keep_needs_files_that_are_left_alone(tmp_path) -> None:
    with pytest.raises(RecipeError, match="encode: keep stores a source's own files, but this source gives pixels"):
        write_shards(tiny(), tmp_path / "x", form=Format(encode="keep"))
    for prepare in (Prepare(resize=(2, 2)), Prepare(mode="L"), Prepare(target_mode="index")):
        with pytest.raises(RecipeError, match="so they cannot be prepared"):
            write_shards(filed(photos(2)), tmp_path / "x", form=Format(encode="keep"), prepare=prepare)


def test_files_are_prepared_as_declared(tmp_path) -> None:
    prepare = Prepare(mode="L", crop="square", resize=(3, 3))
    files = photos(5)
    write_shards(filed(files), tmp_path / "x", prepare=prepare, form=Format(encode="png"))
    expected = np.stack([prepare.image(file, "") for file in files])
    drawn = open_split(tmp_path / "x", "train").batch(np.arange(5))
    np.testing.assert_array_equal(drawn.images.numpy(), expected.transpose(0, 3, 1, 2))
    assert read_manifest(tmp_path / "x").preparation["resize"] == [3, 3]


# ---- the same bytes --------------------------------------------------------------------------------------------------


def test_the_same_data_give_the_same_bytes(tmp_path, monkeypatch) -> None:
    raw, form = rich({"train": 12, "test": 3}), Format(samples=5)
    first = write_shards(raw, tmp_path / "a", form=form)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    second = write_shards(raw, tmp_path / "b", form=form)
    assert first == second == manifest_digest(tmp_path / "a")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert write_shards(rich({"train": 12, "test": 3}, seed=1), tmp_path / "c", form=form) != first


@pytest.mark.parametrize("raw", [tiny(), rich(), rich(shape=(2, 4, 4, 3))], ids=["tiny", "rich", "video"])
@pytest.mark.parametrize("encode", ["npy", "png", "webp"])
def test_the_tars_are_plain_ustar(tmp_path, raw: Collection, encode: str) -> None:
    """Nothing in a header depends on who wrote it, and the headers are those of Python's own tar writer."""
    write_shards(raw, tmp_path / "x", form=Format(encode=encode))
    path = tmp_path / "x" / "train" / "shard-000000.tar"
    with tarfile.open(path, "r:") as tar:
        members = tar.getmembers()
        rebuilt = io.BytesIO()
        with tarfile.open(fileobj=rebuilt, mode="w", format=tarfile.USTAR_FORMAT) as again:
            for member in members:
                again.addfile(member, tar.extractfile(member))
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    keys = [m.name.partition(".")[0] for m in members]
    assert keys == sorted(keys)
    content = path.read_bytes()
    assert rebuilt.getvalue()[: len(content)] == content


@pytest.mark.parametrize("encode", ["npy", "png", "webp"])
@pytest.mark.parametrize("fields", ["", "label", "caption", "target attributes", "label target caption attributes"])
def test_the_tar_alone_gives_its_index(tmp_path, encode: str, fields: str) -> None:
    """Whoever writes and whoever reads a tar see the same in it."""
    raw = rich({"train": 7}, (3, 4, 3), fields=fields)
    write_shards(raw, tmp_path / "x", form=Format(encode=encode, samples=4))
    manifest = read_manifest(tmp_path / "x")
    shapes = {name: field.shape for name, field in manifest.fields.items() if name != "caption"}
    for known in (shapes, None):
        for shard in manifest.splits["train"].shards:
            path = tmp_path / "x" / "train" / shard.tar.name
            found = scan(path, classes=len(raw.classes), attributes=raw.attributes, shapes=known)
            if known is None and encode == "webp":
                continue  # it has no grey: the shape of grey targets cannot be told from the file
            assert found.index.dump() == (path.parent / shard.index.name).read_bytes()
            assert found.bad == []


def test_the_tar_of_videos_gives_its_index(tmp_path) -> None:
    """Frames of a picture file are one below the other: only the manifest knows how many."""
    write_shards(rich({"train": 5}, (3, 4, 4, 3)), tmp_path / "x", form=Format(encode="png"))
    manifest = read_manifest(tmp_path / "x")
    shapes = {name: field.shape for name, field in manifest.fields.items() if name != "caption"}
    path = tmp_path / "x" / "train" / "shard-000000.tar"
    found = scan(path, classes=3, attributes=ATTRIBUTES, shapes=shapes)
    assert found.index.dump() == path.with_suffix(".idx.npz").read_bytes()


def test_tasks_carry_their_own_samples_only(tmp_path) -> None:
    """They are sent to other processes."""
    raw = filed(photos(60))
    plan = shards.Plan(raw, form=Format(samples=10))
    sizes = [len(pickle.dumps(task)) for task in plan.tasks(tmp_path)]
    assert sum(sizes) < 1.5 * sum(len(contents) for _, contents in raw.splits["train"].samples.items) + 6 * 3_000


# ---- the manifest ----------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_is_in_the_shards(digits_data: Collection, digits_shards: Path) -> None:
    manifest = read_manifest(digits_shards)
    assert (manifest.shape, manifest.classes) == ((1, 28, 28), tuple("0123456789"))
    assert manifest.source == digits_data.source
    for name, split in digits_data.splits.items():
        info, scaled = manifest.splits[name], images_of(split) / 255
        np.testing.assert_allclose(info.mean, [scaled.mean()], rtol=1e-12)
        np.testing.assert_allclose(info.std, [scaled.std()], rtol=1e-12)
        assert info.class_counts == tuple(np.bincount(split.labels))
        assert info.samples == len(split) == sum(shard.samples for shard in info.shards)
        digests = [hashlib.sha256(image.tobytes()).digest() for image in images_of(split)]
        assert info.pixels_sha256 == hashlib.sha256(b"".join(digests)).hexdigest()
    # The identity of the default data: were it to change, no two results would be comparable any more.
    assert manifest.splits["train"].pixels_sha256 == "f4ef7ed5427562ba565d3ee6b2f34006d4ae6824ab549f657b0e8df2e55712c9"


@pytest.mark.parametrize("shape", [(3, 5, 3), (2, 3, 5, 3), (200, 200, 3)])  # the last are counted in several goes
def test_statistics_are_per_channel_and_do_not_depend_on_the_cut_or_the_encoding(tmp_path, shape) -> None:
    raw = tiny({"train": 11}, shape)
    infos = []
    for per_shard, encode in itertools.product((1, 4, 100), ("npy", "png", "webp")):
        root = tmp_path / f"{per_shard}-{encode}"
        write_shards(raw, root, form=Format(encode=encode, samples=per_shard))
        infos.append(read_manifest(root).splits["train"])
    assert len({(info.mean, info.std, info.class_counts, info.pixels_sha256) for info in infos}) == 1
    scaled = images_of(raw.splits["train"]) / 255
    axes = tuple(range(scaled.ndim - 1))
    np.testing.assert_allclose(infos[0].mean, scaled.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(infos[0].std, scaled.std(axes), rtol=1e-12)


# ---- how samples are dealt out ---------------------------------------------------------------------------------------


def sizes(root: Path, split: str = "train") -> list[int]:
    return [shard.samples for shard in read_manifest(root).splits[split].shards]


def test_shards_of_so_many_samples(tmp_path) -> None:
    write_shards(tiny({"train": 23, "test": 4}), tmp_path / "x", form=Format(samples=10))
    assert (sizes(tmp_path / "x"), sizes(tmp_path / "x", "test")) == ([10, 10, 3], [4])


@pytest.mark.parametrize("fields", ["", "label", "label target caption attributes"])
@pytest.mark.parametrize("encode", ["npy", "png"])
def test_shards_of_so_many_bytes(tmp_path, fields: str, encode: str) -> None:
    """As near as the sizes of the first samples tell."""
    raw = rich({"train": 300}, (8, 8, 3), fields=fields)
    write_shards(raw, tmp_path / "x", form=Format(bytes=100_000, encode=encode))
    written = [shard.tar.bytes for shard in read_manifest(tmp_path / "x").splits["train"].shards]
    assert len(written) > 3
    assert all(0.95 * 100_000 < size < 1.05 * 100_000 for size in written[:-1]), written
    write_shards(raw, tmp_path / "x", form=Format(bytes=1, encode=encode))
    assert set(sizes(tmp_path / "x")) == {1}


def test_shuffled_shards_hold_the_same_samples(tmp_path) -> None:
    raw = rich({"train": 40, "test": 7})
    order = {}
    for name in ("a", "b"):
        write_shards(raw, tmp_path / name, form=Format(samples=8, shuffle=True))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    for split, count in raw.counts.items():
        arrays = arrays_of(raw, split)
        drawn = open_split(tmp_path / "a", split).batch(np.arange(count))
        rows = {image.tobytes(): row for row, image in enumerate(arrays.images.transpose(0, 3, 1, 2))}
        order[split] = np.array([rows[image.tobytes()] for image in drawn.images.numpy()])
        assert sorted(order[split]) == list(range(count))
        assert (order[split] != np.arange(count)).any()
        assert_drawn(drawn, arrays, order[split])  # labels, captions and all the rest went with their images
    assert len(set(order["train"][:8] // 8)) > 1, "shards were shuffled, not samples"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"samples": 0}, "samples: found 0, allowed 1 or more"),
        ({"bytes": 0}, "bytes: found 0, allowed 1 or more"),
        ({"encode": "jpg"}, "encode: found 'jpg', allowed: npy, png, webp, keep"),
    ],
)
def test_impossible_forms_are_refused(form, message) -> None:
    with pytest.raises(RecipeError, match=message):
        Format(**form)


def test_names_of_splits_that_would_lead_elsewhere_are_refused(tmp_path) -> None:
    for name in ("..", "a/b", ".hidden", "", "manifest.json"):
        with pytest.raises(RecipeError, match="allowed are names of letters"):
            write_shards(tiny({"train": 9}), tmp_path / "x", splits={name: 2})
    assert not list(tmp_path.iterdir())


# ---- samples that do not go together ---------------------------------------------------------------------------------


def odd(change: Callable[[Sample], Sample]) -> Collection:
    """A data set in which one sample, the twelfth, differs from the others."""
    return Collection(
        SOURCE,
        {"train": Split(Listed(list(range(15)), partial(_odd, change)), np.zeros(15, np.int64))},
        CLASSES,
        ATTRIBUTES,
    )


def _odd(change: Callable[[Sample], Sample], k: int) -> Sample:
    sample = arrays_of(rich())[k]
    return change(sample) if k == 11 else sample


def _replaced(sample: Sample, **fields: object) -> Sample:
    names = ("image", "label", "target", "caption", "attributes", "origin")
    return Sample(**{name: getattr(sample, name) for name in names} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": np.zeros((4, 5, 1), np.uint8)}, r"row 11: its pictures are .*\(4, 5, 1\).*prepare:"),
        ({"image": np.zeros((4, 4, 3), np.uint8)}, r"row 11: its pictures are .*\(4, 4, 3\)"),
        ({"image": np.zeros((2, 4, 4, 1), np.uint8)}, r"row 11: its pictures are .*\(2, 4, 4, 1\)"),
        ({"target": np.zeros((1, 1, 1), np.uint8)}, r"row 11: its pictures are .*\(1, 1, 1\)"),
        ({"target": None}, "row 11: its pictures are"),
        ({"caption": None}, "row 11: all samples have a caption, or none has"),
        ({"attributes": (1.0,)}, "row 11: found 1 attributes, expected 2: age"),
        ({"attributes": ()}, "row 11: found 0 attributes, expected 2: age"),
    ],
)
def test_a_sample_unlike_the_others_is_refused_and_named(tmp_path, fields, message) -> None:
    for policy in ("fail", "quarantine(0.5)"):  # it is not damaged, the data set is not understood
        with pytest.raises(DataError, match=message):
            write_shards(odd(partial(_replaced, **fields)), tmp_path / "x", form=Format(samples=5), damaged=policy)
    assert not list(tmp_path.iterdir())


def test_all_samples_with_too_few_attributes_are_refused(tmp_path) -> None:
    raw = in_memory(SOURCE, {"train": Arrays(np.zeros((3, 2, 2, 1), np.uint8))}, attributes=["age"])
    with pytest.raises(DataError, match="row 0: found 0 attributes, expected 1: age"):
        write_shards(raw, tmp_path / "x")


def test_pixels_that_an_encoding_cannot_store_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="png stores 1 or 3 channels"):
        write_shards(tiny(shape=(4, 4, 2)), tmp_path / "x", form=Format(encode="png"))


# ---- whole or not there ----------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path) -> Path:
    """Shards that are there already and must survive every failure."""
    write_shards(tiny(seed=1), tmp_path / "x", form=Format(samples=5))
    return tmp_path / "x"


def assert_untouched(root: Path, before: dict[str, bytes]) -> None:
    assert tree(root) == before
    assert verify(root) == []
    assert [path.name for path in root.parent.iterdir()] == [root.name], "something was left beside the shards"


def test_shards_are_replaced_whole(old: Path) -> None:
    write_shards(tiny({"test": 3}), old)
    assert list(read_manifest(old).splits) == ["test"]
    assert verify(old) == []
    assert [path.name for path in old.parent.iterdir()] == [old.name]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failing_half_way_leaves_the_old_shards(old: Path, monkeypatch, error) -> None:
    before, real, calls = tree(old), shards.write_shard, []

    def fails_third(task):
        calls.append(task)
        if len(calls) == 3:
            raise error
        return real(task)

    monkeypatch.setattr(shards, "write_shard", fails_third)
    with pytest.raises(DataError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write_shards(tiny(), old, form=Format(samples=5))
    if isinstance(error, OSError):
        assert str(old) in str(caught.value)
        assert "It needs 3" in str(caught.value)  # some 32,000 bytes: 15 records of 2,048 and three indices
        assert "Free some space" in str(caught.value)
    assert_untouched(old, before)


def test_a_disk_that_reports_full_only_when_synced(old: Path, monkeypatch) -> None:
    """As network file systems do: every write has succeeded by then."""
    before = tree(old)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="full"):
        write_shards(tiny(), old)
    assert_untouched(old, before)


def test_a_real_limit_on_the_size_of_files(old: Path) -> None:
    """The kernel stops the write in the middle of a shard (RLIMIT_FSIZE)."""
    before = tree(old)
    code = f"""
        import resource
        from pathlib import Path
        from gen.shards.write import write_shards
        from gen.errors import DataError
        from tests.data.tiny import tiny
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            write_shards(tiny(), Path({str(old)!r}))
        except DataError as error:
            raise SystemExit(f"DataError: {{error}}")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DataError" in done.stderr and str(old) in done.stderr and "ulimit -f" in done.stderr, done.stderr
    assert_untouched(old, before)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_place_that_cannot_be_written(tmp_path, monkeypatch, code) -> None:
    """Tests may run as root, whom no mode stops: the system call itself refuses."""

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match=r"x: could not be written.*hoose another place.*It needs"):
        write_shards(tiny(), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_place_below_a_file(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        write_shards(tiny(), tmp_path / "file" / "x")


def test_a_directory_of_somebody_else_is_not_replaced(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds no manifest\.json, so it is not replaced"):
        write_shards(tiny(), tmp_path)
    assert tree(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_failure_without_a_name_to_resume_leaves_nothing(tmp_path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        write_shards(filed([*photos(7), None]), tmp_path / "x", form=Format(samples=2))
    assert not list(tmp_path.iterdir())


# ---- killed, and resumed ---------------------------------------------------------------------------------------------


def run_killed(write: Callable[[], object], moment: int) -> bool:
    """Run it in another process, and kill that at its ``moment``-th call of a function; whether it came so far."""
    child = os.fork()
    if child == 0:
        calls = itertools.count()

        def count(*_: object) -> None:
            if next(calls) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(count)
            write()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def calls_of(write: Callable[[], object]) -> int:
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls))
    try:
        write()
    finally:
        sys.setprofile(None)
    return next(calls)


def finished(staging: Path) -> dict[str, tuple[int, int]]:
    """Tars whose index is there, by name below the staging directory, with their inode and time of change."""
    tars = {index: index.with_name(index.name.replace(".idx.npz", ".tar")) for index in staging.rglob("*.idx.npz")}
    return {
        str(index.relative_to(staging)): (tar.stat().st_ino, tar.stat().st_mtime_ns)
        for index, tar in tars.items()
        if index.name.startswith("shard-") and tar.exists()
    }


@pytest.mark.parametrize("encode", ["npy", "png"])
def test_killed_at_any_moment_and_resumed_it_gives_the_same_bytes(tmp_path, encode: str) -> None:
    """Old shards are there or new ones, never anything between; no finished shard is written twice."""
    write = partial(write_shards, rich({"train": 17, "test": 4}), form=Format(encode=encode, samples=3))
    expected = write(tmp_path / "whole")
    moments = calls_of(partial(write, tmp_path / "again", resume="name"))
    kept, rng = 0, random.Random(0)
    for trial, moment in enumerate(sorted(rng.sample(range(moments), 25))):
        root = tmp_path / f"trial{trial}" / "x"
        write_shards(tiny(), root)
        before = tree(root)
        run_killed(partial(write, root, resume="name"), moment)  # unless it is done by then
        assert tree(root) in (before, tree(tmp_path / "whole")), f"killed at {moment} of {moments}"
        staging = root.with_name(".x.name.part")
        done = finished(staging) if tree(root) == before else {}
        kept += len(done)
        assert write(root, resume="name") == expected
        assert tree(root) == tree(tmp_path / "whole")
        again = finished(root)
        assert {name: again[name] for name in done} == done, "a finished shard was written again"
        assert [path.name for path in root.parent.iterdir()] == ["x"]
    assert kept > 25, "the moments were badly chosen"


def test_killed_several_times_over(tmp_path) -> None:
    """Every attempt goes on behind the shards of those before it."""
    raw, form = rich({"train": 40}), Format(samples=2)
    expected = write_shards(raw, tmp_path / "whole", form=form)
    write = partial(write_shards, raw, tmp_path / "x", form=form, resume="name")
    staging, done = tmp_path / ".x.name.part", dict[str, tuple[int, int]]()
    for moment in (10_000, 25_000, 50_000):
        assert run_killed(write, moment)
        assert finished(staging).items() >= done.items()
        assert len(finished(staging)) > len(done)
        done = finished(staging)
    assert write() == expected
    assert tree(tmp_path / "x") == tree(tmp_path / "whole")


def test_killed_while_the_new_take_the_place_of_the_old(tmp_path) -> None:
    """At every single step: there is no moment without shards."""
    seen, moment, alive = [], 0, True
    while alive:
        new, root = tmp_path / f"{moment}" / ".x.name.part", tmp_path / f"{moment}" / "x"
        for folder in (new, root):
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(folder.name)
        alive = run_killed(partial(commit, new, root), moment)
        seen.append((root / "manifest.json").read_text())
        with replacing(root, marker="manifest.json", needed=0) as staging:
            (staging / "manifest.json").write_text("next")
        assert tree(root.parent) == {"x/manifest.json": b"next"}, "something was left behind"
        moment += 2
    assert seen == sorted(seen, reverse=True) and set(seen) == {"x", ".x.name.part"}


def test_a_killed_process_of_the_command_line(old: Path, tmp_path) -> None:
    """The same from outside, without a name: the next writer clears up."""
    before = tree(old)
    code = f"""
        import os, signal
        from pathlib import Path
        from gen.shards import write as shards
        from tests.data.tiny import tiny
        shards.describe = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        shards.write_shards(tiny(), Path({str(old)!r}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    assert tree(old) == before
    assert len(list(tmp_path.iterdir())) == 2
    digest = write_shards(tiny(), old)
    assert manifest_digest(old) == digest
    assert [path.name for path in tmp_path.iterdir()] == [old.name]


@pytest.fixture
def interrupted(tmp_path) -> Callable[..., str]:
    """Write 5 shards with a name to resume, of which the last cannot be read at first; the others stay finished."""
    write = partial(
        write_shards, destination=tmp_path / "x", form=Format(samples=2, encode="png"), damaged="quarantine(0.1)"
    )
    files = photos(10)
    with pytest.raises(DataError, match="2 of 10 samples cannot be read"):
        write(filed([*files[:8], None, None]), resume="name")
    assert len(finished(tmp_path / ".x.name.part")) == 4
    return partial(write, filed(files))


def test_what_was_damaged_since_is_written_again(tmp_path, interrupted) -> None:
    staging = tmp_path / ".x.name.part" / "train"
    done = finished(staging.parent)
    (staging / "shard-000000.tar").write_bytes(b"")
    content = (staging / "shard-000001.tar").read_bytes()
    (staging / "shard-000001.tar").write_bytes(content[:700] + b"?" + content[701:])
    (staging / "shard-000002.idx.npz").write_bytes(b"PK")
    (staging / "shard-000004.part").write_bytes(b"half")
    (staging / ".shard-000004.idx.npz.99.part").write_bytes(b"half")
    interrupted(resume="name")
    again = finished(tmp_path / "x")
    assert {name for name in done if again[name] == done[name]} == {"train/shard-000003.idx.npz"}
    interrupted(destination=tmp_path / "whole")
    assert tree(tmp_path / "x") == tree(tmp_path / "whole")


def test_another_name_starts_anew(tmp_path, interrupted) -> None:
    done = finished(tmp_path / ".x.name.part")
    interrupted(resume="other")
    again = finished(tmp_path / "x")
    assert not {name for name in done if again[name] == done[name]}
    assert [path.name for path in tmp_path.iterdir()] == ["x"], "what cannot be resumed any more was left behind"


@pytest.mark.parametrize("name", ["name", "9876543210"])
def test_no_name_starts_anew(tmp_path, interrupted, name: str) -> None:
    """Also where the name looks like the number of a process."""
    (tmp_path / ".x.name.part").rename(tmp_path / f".x.{name}.part")
    interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert verify(tmp_path / "x") == []


def test_what_was_left_out_is_left_out_again(tmp_path) -> None:
    """The shard knows which samples are missing, the source says why, and nobody else may know."""
    files = photos(8)
    raw = filed([files[0], files[1][:60], *files[2:7], None], labels=[0, 1, 2, 0, 1, 2, 0, 1])
    write = partial(write_shards, raw, form=Format(samples=2), damaged="quarantine(0.5)")
    write(tmp_path / "whole")
    calls = calls_of(partial(write, tmp_path / "x", resume="name"))
    shutil.rmtree(tmp_path / "x")
    assert run_killed(partial(write, tmp_path / "x", resume="name"), 3 * calls // 4)
    assert len(finished(tmp_path / ".x.name.part")) >= 2
    write(tmp_path / "x", resume="name")
    assert tree(tmp_path / "x") == tree(tmp_path / "whole")
    assert [key for key, _, _ in read_manifest(tmp_path / "x").splits["train"].quarantined] == ["00000001", "00000007"]


def test_a_sample_that_can_be_read_again_is_taken_in(tmp_path, interrupted) -> None:
    """A resumed attempt does not trust what an earlier one failed to read."""
    staging = tmp_path / ".x.name.part"
    with pytest.raises(DataError):
        write_shards(
            filed([*photos(7), None, None, None]),
            tmp_path / "x",
            form=Format(samples=2, encode="png"),
            damaged="quarantine(0.1)",
            resume="other",
        )
    other = tmp_path / ".x.other.part"
    assert len(finished(other)) == 4  # the last of them with one sample
    other.rename(staging)
    interrupted(resume="name")
    assert read_manifest(tmp_path / "x").splits["train"].samples == 10
    assert read_manifest(tmp_path / "x").splits["train"].quarantined == ()


def test_progress_is_told(tmp_path) -> None:
    told = []
    write_shards(
        tiny({"train": 7, "test": 2}),
        tmp_path / "x",
        form=Format(samples=3),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(3, 9), (6, 9), (7, 9), (9, 9)]
