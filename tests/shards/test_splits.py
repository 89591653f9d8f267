"""Splits are exact, stratified and always the same; what cannot be read is left out, counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen.data.manifest import read_manifest
from gen.data.quarantine import Bad, Policy
from gen.data.reader import open_split
from gen.data.sample import Arrays, Listed, Sample, Split
from gen.errors import DataError, RecipeError
from gen.shards.splits import carve
from gen.shards.verify import verify
from gen.shards.write import Format, write_shards
from tests.data.tiny import with_webdataset
from tests.shards.rich import arrays_of, assert_drawn, filed, photos, rich

# ---- splits --------------------------------------------------------------------------------------------------------


def numbered(count: int, labels: np.ndarray | None = None) -> Split:
    """A split whose k-th sample says k."""
    return Split(Listed(list(range(count)), _numbered), labels)


def _numbered(k: int) -> Sample:
    return Sample(image=b"", origin=str(k))


def rows(split: Split) -> list[int]:
    return [int(split.samples[k].origin) for k in range(len(split))]


@st.composite
def cuts(draw) -> tuple[np.ndarray | None, dict[str, float]]:
    """Labels of some samples, and sizes that leave at least one of them."""
    count = draw(st.integers(2, 200))
    labels = draw(st.none() | st.lists(st.integers(0, 5), min_size=count, max_size=count).map(np.array))
    left, sizes = count - 1, {}
    for name in draw(st.lists(st.sampled_from(["validation", "test", "extra"]), max_size=3, unique=True)):
        if left:
            sizes[name] = draw(st.integers(1, left))
            left -= sizes[name]
    return np.zeros(count) if labels is None else labels, sizes


@given(cut=cuts(), unlabelled=st.booleans())
def test_every_sample_is_in_one_split_in_its_order(cut, unlabelled: bool) -> None:
    labels, sizes = cut
    whole = numbered(len(labels), None if unlabelled else labels)
    carved = carve({"train": whole}, sizes)
    assert list(carved) == ["train", *sizes]
    assert {name: len(split) for name, split in carved.items() if name != "train"} == sizes
    assert all(rows(split) == sorted(rows(split)) for split in carved.values())
    assert sorted(row for split in carved.values() for row in rows(split)) == list(range(len(labels)))
    for split in carved.values():
        assert (split.labels is None) if unlabelled else (split.labels == labels[rows(split)]).all()


@given(cut=cuts())
def test_every_class_gives_its_share(cut) -> None:
    """To the next whole number, up or down, of what is left of it."""
    labels, sizes = cut
    carved = carve({"train": numbered(len(labels), labels)}, sizes)
    left = np.bincount(labels.astype(int), minlength=6)
    for name, size in sizes.items():
        given_ = np.bincount(carved[name].labels.astype(int), minlength=6)
        assert (np.abs(given_ - left * size / left.sum()) < 1).all()
        left = left - given_
    np.testing.assert_array_equal(np.bincount(carved["train"].labels.astype(int), minlength=6), left)


def test_equal_classes_give_equal_shares() -> None:
    labels = np.repeat(np.arange(10), 100)
    carved = carve({"train": numbered(1000, labels)}, {"validation": 0.1, "test": 200})
    assert {name: np.bincount(split.labels).tolist() for name, split in carved.items()} == {
        "train": [70] * 10,
        "validation": [10] * 10,
        "test": [20] * 10,
    }


def test_shares_are_of_the_whole_and_rounded() -> None:
    carved = carve({"train": numbered(999)}, {"a": 0.25, "b": 0.25, "c": 0.001})
    assert {name: len(split) for name, split in carved.items()} == {"train": 498, "a": 250, "b": 250, "c": 1}


@given(cut=cuts())
def test_it_comes_out_the_same_and_does_not_depend_on_what_is_named_after_it(cut) -> None:
    labels, sizes = cut
    carved = carve({"train": numbered(len(labels), labels)}, sizes)
    for count in range(1, len(sizes) + 1):
        fewer = carve({"train": numbered(len(labels), labels)}, dict(list(sizes.items())[:count]))
        for name in list(sizes)[:count]:
            assert rows(fewer[name]) == rows(carved[name])


def test_samples_are_chosen_by_chance() -> None:
    """Data often lie in an order: of time, or of persons."""
    chosen = np.array(rows(carve({"train": numbered(10_000)}, {"test": 1_000})["test"]))
    assert abs(chosen.mean() - 4999.5) < 4 * 10_000 / np.sqrt(12 * 1_000)
    assert np.histogram(chosen, 10, (0, 10_000))[0].min() > 60


def test_a_known_split_stays_what_it_is() -> None:
    """Were it to change, no result on data that were split by us could be compared with an older one."""
    carved = carve({"train": numbered(20, np.arange(20) % 2)}, {"test": 6})
    assert rows(carved["test"]) == [4, 5, 7, 8, 12, 19]


def test_the_splits_of_the_source_are_kept() -> None:
    given_ = {"train": numbered(10), "test": numbered(5)}
    carved = carve(given_, {"validation": 2})
    assert list(carved) == ["train", "test", "validation"]
    assert carved["test"] is given_["test"]
    assert carve(given_, {}) == given_


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"test": 2}, "splits.test: the source has a split 'test' of its own"),
        ({"train": 2}, "splits.train: the source has a split 'train' of its own"),
        ({"validation": 10}, "'train' has 10 samples and must keep at least one"),
        ({"validation": 6, "extra": 4}, "must keep at least one"),
        ({"validation": 0.99}, "must keep at least one"),
        ({"validation": 0.01}, r"found 0.01, which is 0 of 10 samples; allowed 1 or more"),
        ({"validation": 0}, "which is 0 of 10 samples"),
        ({"validation": -1}, "which is -1 of 10 samples"),
        ({"validation": 1.5}, "splits.validation: found 1.5; give a whole number of samples, or a share below 1"),
        ({"validation": float("nan")}, "found nan; give a whole number"),
        ({"validation": float("inf")}, "found inf; give a whole number"),
    ],
)
def test_impossible_splits_are_refused(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        carve({"train": numbered(10), "test": numbered(5)}, sizes)


def test_without_train_there_is_nothing_to_take_from() -> None:
    with pytest.raises(RecipeError, match="found no split 'train' to take others from; the source has test"):
        carve({"test": numbered(10)}, {"validation": 2})


def test_split_data_are_written_and_read(tmp_path: Path) -> None:
    raw = rich({"train": 50})
    write_shards(raw, tmp_path / "x", splits={"validation": 10, "test": 0.2}, form=Format(samples=4))
    manifest = read_manifest(tmp_path / "x")
    assert {name: split.samples for name, split in manifest.splits.items()} == {
        "train": 30,
        "validation": 10,
        "test": 10,
    }
    arrays, seen = arrays_of(raw), set()
    for name, split in manifest.splits.items():
        drawn = open_split(tmp_path / "x", name).batch(np.arange(split.samples))
        found = {image.tobytes(): row for row, image in enumerate(arrays.images.transpose(0, 3, 1, 2))}
        rows_ = np.array([found[image.tobytes()] for image in drawn.images.numpy()])
        assert_drawn(drawn, arrays, rows_)
        seen |= set(rows_.tolist())
        assert split.class_counts == tuple(np.bincount(arrays.labels[rows_], minlength=3))
    assert seen == set(range(50))


# ---- quarantine: the policy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fraction"),
    [("fail", 0), ("quarantine(0.01)", 0.01), (" quarantine(1e-3) ", 0.001), ("quarantine(.5)", 0.5)],
)
def test_policies(text: str, fraction: float) -> None:
    assert Policy.parse(text).fraction == fraction


@pytest.mark.parametrize(
    "text",
    ["", "ignore", "quarantine", "quarantine()", "quarantine(0)", "quarantine(1)", "quarantine(-0.1)", "quarantine(e)"],
)
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"allowed are fail, and quarantine\(F\)"):
        Policy.parse(text)


def test_the_limit_is_exact() -> None:
    bad = [Bad(str(k), "", "broken") for k in range(3)]
    Policy.parse("quarantine(0.03)").check("x", bad, 100)
    with pytest.raises(DataError, match=r"x: 3 of 99 samples cannot be read, more than the 3\.000% that `damaged`"):
        Policy.parse("quarantine(0.03)").check("x", bad, 99)
    Policy.parse("fail").check("x", [], 1)
    with pytest.raises(DataError, match="1 of 100 samples cannot be read, and `damaged` is fail"):
        Policy.parse("fail").check("x", bad[:1], 100)


@pytest.mark.parametrize(("count", "more"), [(5, ""), (6, r"  and 1 more\n"), (2000, r"  and 1,995 more\n")])
def test_a_long_list_is_shortened(count: int, more: str) -> None:
    with pytest.raises(DataError, match=rf"0: broken\n(.*\n){{3}}  4: broken\n{more}Mend"):
        Policy.parse("fail").check("x", [Bad(str(k), "", "broken") for k in range(count)], 10_000)


# ---- quarantine: at writing ------------------------------------------------------------------------------------------

BROKEN = {
    "cut short": lambda contents: contents[: len(contents) // 2],
    "a flipped byte": lambda contents: contents[:60] + bytes([contents[60] ^ 1]) + contents[61:],
    "not an image": lambda contents: b"<html>404 Not Found</html>",
    "empty": lambda contents: b"",
    "cannot be opened": lambda contents: None,
}


@pytest.fixture
def broken() -> tuple[list[bytes | None], list[int]]:
    """100 image files, of which five cannot be read, and their numbers."""
    files: list[bytes | None] = list(photos(100))
    for k, change in zip((0, 17, 18, 60, 99), BROKEN.values(), strict=True):
        files[k] = change(files[k])
    return files, [0, 17, 18, 60, 99]


@pytest.mark.parametrize("encode", ["npy", "png", "keep"])
def test_what_cannot_be_read_is_left_out_and_listed(tmp_path: Path, broken, encode: str) -> None:
    files, numbers = broken
    labels = [k % 3 for k in range(100)]
    form = Format(samples=10, encode=encode)
    write_shards(filed(files, labels), tmp_path / "x", form=form, damaged="quarantine(0.05)")
    split = read_manifest(tmp_path / "x").splits["train"]
    assert [key for key, _, _ in split.quarantined] == [f"{k:08d}" for k in numbers]
    for (_, _, reason), k in zip(split.quarantined, numbers, strict=True):
        assert reason.startswith(f"photo {k}: cannot be")
    assert split.samples == 95 == sum(shard.samples for shard in split.shards)
    kept = [k for k in range(100) if k not in numbers]
    assert split.class_counts == tuple(np.bincount([labels[k] for k in kept]))
    assert [sample["__key__"] for sample in with_webdataset(tmp_path / "x" / "train")] == [f"{k:08d}" for k in kept]
    # The rest is what it would be if the broken files had never been there.
    write_shards(filed([files[k] for k in kept], [labels[k] for k in kept]), tmp_path / "y", form=form)
    assert read_manifest(tmp_path / "y").splits["train"].pixels_sha256 == split.pixels_sha256
    sound, mended = open_split(tmp_path / "y", "train"), open_split(tmp_path / "x", "train")
    assert (sound.batch(np.arange(95)).images == mended.batch(np.arange(95)).images).all()
    assert (sound.labels == mended.labels).all()
    assert verify(tmp_path / "x") == []


def test_over_the_limit_they_are_named(tmp_path: Path, broken) -> None:
    for policy, message in {
        "quarantine(0.04)": r"tiny: train: 5 of 100 samples cannot be read, more than the 4\.000%.*00000000: photo 0: "
        r"cannot be decoded.*00000099: photo 99: cannot be read.*Mend or remove them at the source, or set `damaged",
        "fail": r"tiny: train: [12] of 100 samples cannot be read, and `damaged` is fail.*photo 0",
    }.items():
        with pytest.raises(DataError, match=f"(?s){message}"):
            write_shards(filed(broken[0]), tmp_path / "x", form=Format(samples=10), damaged=policy)
    assert not list(tmp_path.iterdir())


def test_the_limit_is_for_every_split(tmp_path: Path) -> None:
    files = [*photos(95), None, None, None, None, None]
    raw = filed(files)
    write_shards(raw, tmp_path / "x", damaged="quarantine(0.05)")
    with pytest.raises(DataError, match=r"(train|test): [345] of 50 samples cannot be read"):
        write_shards(raw, tmp_path / "x", splits={"test": 0.5}, damaged="quarantine(0.05)")


def test_a_shard_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    """And that is the first, from which the shape would be known."""
    files = [None, None, *photos(8)]
    write_shards(filed(files), tmp_path / "x", form=Format(samples=2), damaged="quarantine(0.2)")
    split = read_manifest(tmp_path / "x").splits["train"]
    assert [shard.tar.name for shard in split.shards] == [f"shard-{k:06d}.tar" for k in range(1, 5)]
    assert len(open_split(tmp_path / "x", "train")) == 8
    assert verify(tmp_path / "x") == []


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="photo 0: cannot be read"):
        write_shards(filed([None] * 5), tmp_path / "x", damaged="quarantine(0.9)")


def test_captions_and_attributes_can_be_damaged_too(tmp_path: Path) -> None:
    arrays = arrays_of(rich({"train": 10}))
    captions = [*arrays.captions[:4], "half \udc00", *arrays.captions[5:]]
    attributes = arrays.attributes.copy()
    attributes[7, 1] = np.nan
    raw = rich({"train": 10})
    changed = Arrays(arrays.images, arrays.labels, arrays.targets, captions, attributes)
    raw = type(raw)(raw.source, {"train": Split(changed, arrays.labels)}, raw.classes, raw.attributes)
    write_shards(raw, tmp_path / "x", damaged="quarantine(0.2)")
    kept = np.array([0, 1, 2, 3, 5, 6, 8, 9])
    assert_drawn(open_split(tmp_path / "x", "train").batch(np.arange(8)), arrays, kept)
    reasons = {key: reason for key, _, reason in read_manifest(tmp_path / "x").splits["train"].quarantined}
    assert "no text in UTF-8" in reasons["00000004"] and "found the attribute nan" in reasons["00000007"]


# ---- quarantine: at reading ------------------------------------------------------------------------------------------


@pytest.fixture(params=["npy", "png"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_shards(
        rich({"train": 40}, (4, 4, 3)),
        tmp_path / "x",
        form=Format(samples=10, encode=request.param),
        damaged="quarantine(0.1)",
    )
    return tmp_path / "x"


def flip(root: Path, rows_: list[int]) -> None:
    """Damage some samples in place."""
    for row in rows_:
        path = root / "train" / f"shard-{row // 10:06d}.tar"
        content = bytearray(path.read_bytes())
        content[content.index(f"{row:08d}.image".encode()) + 512 + 100] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_damaged_samples_are_left_out(root: Path, budget: int) -> None:
    sound = open_split(root, "train", resident_bytes=budget)
    assert (sound.digest, sound.quarantined, len(sound)) == (read_manifest(root).digest, (), 40)
    bad = [0, 9, 20, 39]
    flip(root, bad)
    reader = open_split(root, "train", resident_bytes=budget)
    kept = np.array([k for k in range(40) if k not in bad])
    arrays = arrays_of(rich({"train": 40}, (4, 4, 3)))
    assert_drawn(reader.batch(np.arange(36)), arrays, kept)
    assert [(each.key, each.origin) for each in reader.quarantined] == [
        (f"{k:08d}", f"train/shard-{k // 10:06d}.tar") for k in bad
    ]
    assert all("damaged (crc32" in each.reason for each in reader.quarantined)
    assert reader.shard_sizes == (8, 10, 9, 9)
    np.testing.assert_array_equal(reader.labels, arrays.labels[kept])
    np.testing.assert_array_equal(reader.attributes, arrays.attributes[kept])
    with pytest.raises(IndexError, match="36 samples"):
        reader.batch(np.array([36]))


def test_other_samples_are_other_data(root: Path) -> None:
    """A run that goes on with fewer samples is another run."""
    digests = [open_split(root, "train").digest]
    for bad in ([3], [4]):
        flip(root, bad)
        digests.append(open_split(root, "train").digest)
    assert len(set(digests)) == 3
    assert digests[-1] == open_split(root, "train", resident_bytes=0).digest


def test_too_many_damaged_samples_are_refused(root: Path) -> None:
    flip(root, [0, 1, 2, 3, 4])
    with pytest.raises(DataError, match=r"(?s)train: 5 of 40 samples cannot be read, more than the 10\.000%.*00000000"):
        open_split(root, "train")


def test_without_the_policy_one_is_too_many(root: Path, tmp_path: Path) -> None:
    write_shards(rich({"train": 40}, (4, 4, 3)), tmp_path / "y", form=Format(samples=10))
    flip(tmp_path / "y", [7])
    with pytest.raises(DataError, match="sample '00000007' is damaged"):
        open_split(tmp_path / "y", "train")


def test_verify_reports_what_the_reader_leaves_out(root: Path) -> None:
    """Quarantine keeps training going; it does not make damaged shards sound."""
    flip(root, [3])
    assert [(found.kind, found.lost) for found in verify(root)] == [("content", ("00000003",))]


def test_the_manifest_lists_what_was_left_out_as_json(tmp_path: Path, broken) -> None:
    write_shards(filed(broken[0]), tmp_path / "x", damaged="quarantine(0.05)")
    listed = json.loads((tmp_path / "x" / "manifest.json").read_text())["splits"]["train"]["quarantined"]
    assert [entry[0] for entry in listed] == ["00000000", "00000017", "00000018", "00000060", "00000099"]
