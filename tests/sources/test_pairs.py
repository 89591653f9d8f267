"""Pairs are found by their names, in all usual layouts, and nothing without a partner goes unseen."""

import pickle

import pytest

from gen.errors import DataError
from gen.sources.pairs import pairs
from tests.sources.trees import plant, read_elsewhere, same, samples


def test_camvids_layout_is_the_default(tmp_path) -> None:
    for split in ("train", "val", "test"):
        plant(tmp_path, *(f"{split}/{k}.jpg" for k in (10, 9)), *(f"{split}annot/{k}.png" for k in (9, 10)))
    found = pairs(tmp_path)
    assert list(found.splits) == ["train", "validation", "test"]
    for split, word in (("train", "train"), ("validation", "val"), ("test", "test")):
        both = samples(found, split)
        assert [s.origin for s in both] == [f"{word}/10.jpg", f"{word}/9.jpg"]
        for sample in both:
            assert sample.image == (tmp_path / sample.origin).read_bytes()
            target = sample.origin.replace("/", "annot/").replace("jpg", "png")
            assert sample.target == (tmp_path / target).read_bytes() != sample.image
    assert len(found.files) == len(set(found.files)) == 12
    assert found.classes == () and found.splits["train"].labels is None
    assert same(read_elsewhere(found, "test", 1), samples(found, "test")[1])


def test_other_layouts_are_said_in_two_patterns(tmp_path) -> None:
    plant(tmp_path, "x/train/sub/1.JPG", "y/train/sub/1.png", "x/held/1.b.png", "y/held/1.b.tif", "ignored/1.png")
    options = {"images": "x/{split}", "targets": "y/{split}"}
    assert list(pairs(tmp_path, **options).splits) == ["train"]
    both = pairs(tmp_path, **options, folders={"train": "train", "test": "held"})
    assert [(s.origin, s.target) for s in samples(both, "test")] == [
        ("x/held/1.b.png", (tmp_path / "y/held/1.b.tif").read_bytes())
    ]
    assert [path.name for path in both.files] == ["1.b.png", "1.JPG", "1.b.tif", "1.png"]
    whole = pairs(tmp_path, images="x/held", targets="y/held")
    assert {k: len(v) for k, v in whole.splits.items()} == {"train": 1}


def test_the_pickle_is_small(tmp_path) -> None:
    plant(tmp_path, *(f"{part}/{k:05}.png" for part in ("train", "trainannot") for k in range(100)))
    assert len(pickle.dumps(pairs(tmp_path))) < 100 * 300


XY = {"images": "x", "targets": "y"}
EACH = {"images": "x/{split}", "targets": "y/{split}"}
WRONG = {
    "no target": (
        "x/1.png x/2.png y/1.png",
        XY,
        r"x: found 1 of 2 images without a partner .* in .*y \(x/2\.png\), allowed",
    ),
    "no image": ("x/1.png y/1.png y/2.png", XY, r"y: found 1 of 2 images without a partner .* in .*x \(y/2\.png\)"),
    "no pair": (
        "x/1.png x/2.png x/3.png x/4.png y/0.png",
        XY,
        r"found 4 of 4 .*\(x/1\.png, x/2\.png, x/3\.png and 1 more\)",
    ),
    "one stem": (
        "x/1.png x/1.jpg y/1.png",
        XY,
        r"found both x/1\.jpg and x/1\.png, allowed one image of a name\. Remove",
    ),
    "two targets": ("x/1.png y/1.jpg y/1.png", XY, r"found both y/1\.jpg and y/1\.png"),
    "empty": ("x/1.png y/1.txt", XY, r"y: found no images \(1 \.txt\)"),
    "no folder": (
        "x/1.png z/1.png",
        XY,
        r"targets: found no folder 'y' in it; its folders are x, z\..* Correct `targets`",
    ),
    "one folder": (
        "x/1.png",
        {"images": "x", "targets": "x"},
        r"found 'x' \(images of train\) inside 'x' \(targets of train",
    ),
    "nested": (
        "x/1.png x/y/1.png",
        {"images": "x", "targets": "x/y"},
        r"'x/y' \(targets of train\) inside 'x' \(images of t",
    ),
    "outside": (
        "x/1.png",
        {"images": "../x", "targets": "x"},
        r"images: found '\.\./x', allowed the path of a folder below",
    ),
    "half": (
        "x/1.png",
        {"images": "x", "targets": "{split}"},
        r"images 'x' and targets '\{split\}', allowed \{split\} in bo",
    ),
    "no splits": (
        "x/1.png",
        {},
        r"found nothing named '\{split\}', where .* train, training, .*testing\. Correct `images`, or",
    ),
    "two splits": (
        "x/val/1.png x/dev/1.png",
        EACH,
        r"both 'val' and 'dev', allowed one of them, .* split validation\. Corr",
    ),
    "idle": (
        "x/1.png y/1.png",
        {**XY, "folders": {"train": "a"}},
        r"folders: found \{'train': 'a'\}, but no \{split\}",
    ),
    "same": (
        "x/a/1.png y/a/1.png",
        {**EACH, "folders": {"train": "a", "test": "a"}},
        r"'x/a' \(images of train\) inside",
    ),
}


@pytest.mark.parametrize(("files", "options", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path, files, options, message) -> None:
    root = plant(tmp_path / "root", *files.split())
    with pytest.raises(DataError, match=message) as problem:
        pairs(root, **options)
    assert "root" in str(problem.value)
