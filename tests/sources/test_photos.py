"""Crops of photos: where they are, that none share a pixel, and the two photos that ship with scikit-learn."""

import pickle
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from gen.errors import DataError
from gen.sources.catalogue import open_source
from gen.sources.photos import photos
from tests.sources.trees import origins, plant, png, read_elsewhere, same, samples

EMBEDDED = Path(sklearn.datasets.__file__).parent / "images"


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> tuple[bytes, np.ndarray]:
    """A PNG of noise, and its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    return file.getvalue(), pixels


def places(sample) -> tuple[str, int, int]:
    name, _, place = sample.origin.rpartition(" at ")
    top, left = place.split(", ")
    return name, int(top), int(left)


def test_a_photo_is_cut_about_its_middle(tmp_path) -> None:
    contents, pixels = picture(11, 17)
    found = photos(plant(tmp_path, "a.png", contents=contents), size=4, colour=True)
    expected = [(top, left) for top in (1, 5) for left in (0, 4, 8, 12)]  # 3 rows and 1 column are left over
    assert [places(sample)[1:] for sample in samples(found)] == expected
    for sample in samples(found):
        _, top, left = places(sample)
        np.testing.assert_array_equal(sample.image, pixels[top : top + 4, left : left + 4])
        assert sample.image.flags["C_CONTIGUOUS"]
    assert found.files == (tmp_path / "a.png",)


def test_crops_are_grey_unless_colours_are_asked_for(tmp_path) -> None:
    contents, pixels = picture(4, 4)
    plant(tmp_path, "a.png", contents=contents)
    (grey,) = samples(photos(tmp_path, size=4))
    assert grey.image.shape == (4, 4, 1)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey.image[..., 0] - luma).max() <= 1
    plant(tmp_path, "a.png", contents=picture(4, 4, channels=1)[0])
    (coloured,) = samples(photos(tmp_path, size=4, colour=True))
    assert coloured.image.shape == (4, 4, 3)


def test_splits_are_those_of_the_folders_and_small_photos_are_left_out(tmp_path) -> None:
    plant(tmp_path, "train/b.png", "test/a.png", contents=png(3, (8, 9)))
    plant(tmp_path, "train/small.png", contents=png(4, (8, 3)))
    found = photos(tmp_path, size=4)
    assert origins(found) == {
        split: [f"{name} at {top}, {left}" for top in (0, 4) for left in (0, 4)]
        for split, name in (("train", "train/b.png"), ("test", "test/a.png"))
    }
    only = photos(tmp_path, size=4, folders={"train": "test"})
    assert {split: len(each) for split, each in only.splits.items()} == {"train": 4}


def test_impossible_options_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"size: found 0, allowed 1 or more"):
        photos(size=0)
    with pytest.raises(DataError, match="without `path`"):
        photos(folders={"train": "."})
    with pytest.raises(DataError, match="no photo of 9 x 9 or more"):
        photos(plant(tmp_path, "a.png", contents=png(0, (8, 20))), size=9)
    plant(tmp_path, "b.png", contents=b"\x89PNG no more")
    with pytest.raises(DataError, match=r"b\.png: cannot be decoded"):
        photos(tmp_path, size=4)


# --- the two photos


def test_the_embedded_photos_are_split_without_a_common_pixel() -> None:
    found = open_source("photos")
    assert {split: len(each) for split, each in found.splits.items()} == {"train": 364, "validation": 52, "test": 104}
    assert (found.classes, found.files, found.source.name) == ((), (), "photos")
    taken = {"china.jpg": np.zeros((427, 640), int), "flower.jpg": np.zeros((427, 640), int)}
    grey = {name: np.asarray(Image.open(EMBEDDED / name).convert("L")) for name in taken}
    for split in found.splits:
        for sample in samples(found, split):
            name, top, left = places(sample)
            taken[name][top : top + 32, left : left + 32] += 1
            np.testing.assert_array_equal(sample.image[..., 0], grey[name][top : top + 32, left : left + 32])
    for each in taken.values():
        assert each.max() == 1
        assert each.sum() == 416 * 640, "11 of 427 rows do not fit"


def test_every_split_shows_both_photos_and_comes_out_the_same_every_time() -> None:
    first, again = photos(size=64), photos(size=64)
    assert pickle.dumps(first) == pickle.dumps(again)
    assert origins(first) == origins(again)
    for split, names in origins(first).items():
        assert {name.split()[0] for name in names} == {"china.jpg", "flower.jpg"}, split
    assert same(read_elsewhere(first, "test", 3), first.splits["test"].samples[3])


def test_another_edition_of_the_photos_is_refused(monkeypatch, tmp_path) -> None:
    plant(tmp_path, "china.jpg", "flower.jpg")
    names = [str(tmp_path / name) for name in ("china.jpg", "flower.jpg")]
    monkeypatch.setattr(sklearn.datasets, "load_sample_images", lambda: SimpleNamespace(filenames=names))
    with pytest.raises(DataError, match=r"china\.jpg inside the installed scikit-learn is not the known one"):
        photos()


# --- BSDS300


@pytest.mark.real
def test_bsds300(real_data: Path) -> None:
    found = photos(real_data / "BSDS300/images")
    # 321 x 481 or turned: 10 times 15 crops each
    assert {split: len(each) for split, each in found.splits.items()} == {"train": 15_000, "test": 7_500}
    assert len(found.files) == 150
    for split, k in (("train", 0), ("train", 7_771), ("test", 7_499)):
        sample = found.splits[split].samples[k]
        name, top, left = places(sample)
        grey = np.asarray(Image.open(real_data / "BSDS300/images" / name).convert("L"))
        np.testing.assert_array_equal(sample.image[..., 0], grey[top : top + 32, left : left + 32])
    assert len(pickle.dumps(found)) < 22_500 * 100
