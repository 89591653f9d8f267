"""Folders of images: which files, in which order, under which labels, in which split; and every way it can be wrong."""

import os
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError, validate_call

from gen.data.decoding import LIMITS
from gen.errors import DataError
from gen.sources.folder import folder
from tests.sources.trees import origins, plant, png, read_elsewhere, same, samples


def test_files_and_labels_are_those_of_torchvisions_image_folder(tmp_path) -> None:
    from gen.vision import torchvision

    names = [f"{kind}/{name}" for kind in ("dog", "Cat", "a b", "émeu") for name in ("10.png", "9.png", "in/er/x.PNG")]
    plant(tmp_path, *names)
    expected = torchvision.datasets.ImageFolder(str(tmp_path))
    found = folder(tmp_path)
    assert list(found.classes) == expected.classes == ["Cat", "a b", "dog", "émeu"]
    assert sorted((str(tmp_path / s.origin), s.label) for s in samples(found)) == sorted(expected.samples)


def test_samples_are_the_files_bytes_in_order_of_their_names(tmp_path) -> None:
    names = ["b/2.png", "a/10.png", "a/9.jpeg", "b/sub/1.webp", "a/B.png", "a/a.png"]
    plant(tmp_path, *names)
    found = folder(tmp_path)
    assert origins(found) == {"train": ["a/10.png", "a/9.jpeg", "a/B.png", "a/a.png", "b/2.png", "b/sub/1.webp"]}
    for sample in samples(found):
        assert sample.image == (tmp_path / sample.origin).read_bytes()
        assert sample.label == ["a", "b"].index(sample.origin[0])
        assert (sample.target, sample.caption, sample.attributes) == (None, None, ())
    assert list(found.files) == [tmp_path / name for name in sorted(names)]


def test_nothing_is_read_before_it_is_asked_for(tmp_path) -> None:
    found = folder(plant(tmp_path, "a/1.png", "a/2.png"))
    (tmp_path / "a/2.png").unlink()
    assert found.splits["train"].labels.tolist() == [0, 0]
    assert found.splits["train"].samples[0].image == png(0)
    with pytest.raises(DataError, match=r"a/2\.png: cannot be read: No such file.*Restore it"):
        found.splits["train"].samples[1]


def test_suffixes_of_any_case_are_images_and_the_rest_is_not(tmp_path) -> None:
    suffixes = ["png", "PNG", "jpg", "jpeg", "JPEG", "webp", "bmp", "ppm", "pgm", "tif", "tiff", "gif", "Gif"]
    names = [f"a/{k}.{suffix}" for k, suffix in enumerate(suffixes)]
    plant(tmp_path, *names, "a/notes.txt", "a/png", "a/x.png.txt", "README.md", "a/.hidden.png", ".git/a/x.png")
    plant(tmp_path, "__MACOSX/a/1.png", "a/.DS_Store")
    assert origins(folder(tmp_path)) == {"train": sorted(names)}


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("validation", ["validation", "val", "valid", "dev", "VAL"])
def test_folders_named_like_splits_are_the_splits(tmp_path, train, validation) -> None:
    plant(tmp_path, f"{validation}/b/1.png", f"{train}/a/1.png", f"{train}/c/1.png", "test/c/7.png", "README.md")
    found = folder(tmp_path)
    assert list(found.splits) == ["train", "validation", "test"]
    assert found.classes == ("a", "b", "c")  # of all splits together
    assert {k: v.labels.tolist() for k, v in found.splits.items()} == {"train": [0, 2], "validation": [1], "test": [2]}


def test_folders_can_be_named(tmp_path) -> None:
    plant(tmp_path, "part1/a/1.png", "more/held out/b/1.png", "rest/c/1.png")
    found = folder(tmp_path, folders={"train": "part1", "validation": "more/./held out/"})
    assert origins(found) == {"train": ["part1/a/1.png"], "validation": ["more/held out/b/1.png"]}
    assert found.classes == ("a", "b")
    assert len(folder(tmp_path, folders={"train": "."}).classes) == 3


def test_without_classes_everything_below_is_taken(tmp_path) -> None:
    plant(tmp_path, "2.png", "deep/er/1.png", "10.png")
    (tmp_path / "empty").mkdir()
    found = folder(tmp_path, classes=False)
    assert origins(found) == {"train": ["10.png", "2.png", "deep/er/1.png"]}
    assert found.classes == () and found.splits["train"].labels is None


def test_another_process_reads_the_same_from_a_small_pickle(tmp_path, monkeypatch) -> None:
    plant(tmp_path, *(f"{kind}/image_{k:05d}.png" for kind in "ab" for k in range(100)))
    monkeypatch.chdir(tmp_path.parent)
    found = folder(Path(tmp_path.name))  # relative to where this process works
    assert len(pickle.dumps(found)) < 200 * 100
    assert same(read_elsewhere(found, "train", 150), found.splits["train"].samples[150])
    assert found.files[0] == Path(tmp_path.name) / "a/image_00000.png"


def test_links_to_files_of_the_data_set_are_followed(tmp_path) -> None:
    plant(tmp_path / "data", "a/1.png")
    (tmp_path / "data/a/2.png").symlink_to("1.png")
    (tmp_path / "link").symlink_to("data")  # the data set itself may be reached through a link
    assert [s.image for s in samples(folder(tmp_path / "link"))] == [png(0), png(0)]


def link(name: str, to: str):
    def make(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(to)

    return make


def fifo(root: Path) -> None:
    os.mkfifo(root / "a/pipe.png")


def latin1(root: Path) -> None:
    Path(os.fsdecode(bytes(root / "a") + b"/\xe9.png")).write_bytes(b"")


def nothing(root: Path) -> None:
    pass


WRONG = {
    "link out": (
        "a/1.png",
        link("a/x.png", "/etc/passwd"),
        None,
        r"x\.png: is a symbolic link to /etc/passwd, .*cp -rL",
    ),
    "link up": (
        "a/1.png",
        link("a/x.png", "../../no.png"),
        None,
        r"x\.png: is a symbolic link .*no\.png, which is outside",
    ),
    "folder up": ("a/1.png", link("out", ".."), None, r"out: is a symbolic link to .*outside"),
    "circle": ("a/1.png", link("a/again", "."), None, r"again: is a symbolic link to a folder, allowed links to files"),
    "linked split": ("a/1.png", link("test", "a"), None, r"test: is a symbolic link to a folder"),
    "dangling": ("a/1.png", link("a/x.png", "gone.png"), None, r"x\.png: is a symbolic link to nothing"),
    "link to itself": ("a/1.png", link("a/x.png", "x.png"), None, r"x\.png: is a symbolic link to nothing"),
    "named link": ("a/1.png", link("b", "a"), {"train": "b"}, r"b: is reached through a symbolic link"),
    "pipe": ("a/1.png", fifo, None, r"pipe\.png: is neither a file nor a folder\. Remove it"),
    "latin-1": ("a/1.png", latin1, None, r"found a file named '\\udce9\.png', allowed names in UTF-8\. Rename it"),
    "empty": (
        "",
        nothing,
        None,
        r"no images \(no file\), allowed are files with suffix \.bmp, .*\.webp\. Correct the path",
    ),
    "no images": ("a/1.txt b/2.TXT c", nothing, None, r"no images \(1 without suffix, 2 \.txt\)"),
    "some loose": (
        "a/1.png x.png y.png",
        nothing,
        None,
        r"2 of 3 images in no class's folder \(x\.png, y\.png\).*classes: f",
    ),
    "all loose": ("1.png", nothing, None, r"found 1 of 1 images in no class's folder"),
    "empty class": (
        "a/1.png b/x.txt",
        nothing,
        None,
        r"no images for b, allowed at least one .* Remove the empty folders",
    ),
    "empty split": ("train/a/1.png test/x.txt", nothing, None, r"test: found no images \(1 \.txt\)"),
    "val, valid": (
        "val/a/1.png valid/a/1.png",
        nothing,
        None,
        r"'val' and 'valid', allowed one .* validation\. Say which",
    ),
    "other folder": (
        "train/a/1.png b/1.png",
        nothing,
        None,
        r"splits \(train\), and beside them b\. .*\{train: train\}",
    ),
    "loose image": ("train/a/1.png 1.png", nothing, None, r"and beside them 1\.png"),
    "typo": ("tran/a/1.png", nothing, {"train": "train"}, r"folders\.train: found no folder 'train'.*mean 'tran'"),
    "dots": ("a/1.png", nothing, {"train": "a/../a"}, r"folders\.train: found 'a/\.\./a', allowed .*without '\.\.'"),
    "absolute": ("a/1.png", nothing, {"train": "/etc"}, r"found '/etc', allowed the path of a folder below it"),
    "file": ("a/1.png", nothing, {"train": "a/1.png"}, r"found no folder 'a/1\.png' in it; its folders are a"),
    "nested": (
        "a/b/1.png",
        nothing,
        {"train": ".", "test": "a"},
        r"'a' \(folders\.test\) inside '\.' \(folders\.train\)",
    ),
    "twice": ("a/b/1.png", nothing, {"train": "a", "test": "a/."}, r"found 'a' .* inside 'a'"),
    "split's name": (
        "a/b/1.png",
        nothing,
        {"my split": "a"},
        r"folders: found a split 'my split', allowed names of letters",
    ),
    "none": ("a/b/1.png", nothing, {}, r"found splits \{\}"),
}


@pytest.mark.parametrize(("files", "more", "folders", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path, files, more, folders, message) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "no.png").write_bytes(png())
    more(plant(root, *files.split()))
    with pytest.raises(DataError, match=message) as problem:
        folder(root, folders=folders)
    assert "root" in str(problem.value)


def test_a_path_that_is_no_folder_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"gone: found nothing, allowed a folder\. Correct `path`"):
        folder(tmp_path / "gone")
    with pytest.raises(DataError, match=r"1\.png: found a file, allowed a folder"):
        folder(plant(tmp_path, "1.png") / "1.png")


def test_a_file_too_large_for_an_image_is_not_read_into_memory(tmp_path) -> None:
    found = folder(plant(tmp_path, "a/1.png"))
    with (tmp_path / "a/1.png").open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(DataError, match=rf"1\.png: has more than {LIMITS.bytes:,} bytes"):
        found.splits["train"].samples[0]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch) -> None:
    plant(tmp_path, "a/1.png")
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"a: cannot be listed: Permission denied\. Correct"):
        folder(tmp_path)


def test_options_are_typed_strictly(tmp_path) -> None:
    """The signature is the schema of `options:`."""
    strict = validate_call(config={"strict": True})(folder)
    plant(tmp_path, "a/b/1.png")
    assert len(strict(tmp_path, folders={"train": "a"}).splits) == 1
    with pytest.raises(ValidationError, match=r"valid boolean"):
        strict(tmp_path, classes="no")
    with pytest.raises(ValidationError, match=r"valid string"):
        strict(tmp_path, folders={"train": 3})
