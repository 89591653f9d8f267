"""The real data sets, as their publishers laid them out: counts, and contents against an independent reading."""

import csv
import gzip
import json
import pickle
import re
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen.data.sample import Collection
from gen.sources.arrays import arrays
from gen.sources.binarized_mnist import binarized_mnist
from gen.sources.captioned import captioned
from gen.sources.clips import clips
from gen.sources.folder import folder
from gen.sources.named import named
from gen.sources.pairs import pairs
from tests.sources.trees import read_elsewhere, same, samples

pytestmark = pytest.mark.real


def counts(collection: Collection) -> dict[str, int]:
    return {split: len(each) for split, each in collection.splits.items()}


def test_utkface(real_data: Path) -> None:
    options = {"pattern": "{age}_{gender}_{race}_*", "label": "gender", "classes": ["male", "female"]}
    found = named(real_data / "utkface", **options, attributes=["age", "race"])
    assert counts(found) == {"train": 9778}
    assert np.bincount(found.splits["train"].labels).tolist() == [4372, 5406]
    races = Counter()
    for sample in samples(found):
        age, gender, race = map(int, re.match(r"(\d+)_(\d)_(\d)_", sample.origin).groups())
        assert (sample.label, sample.attributes) == (gender, (age, race)) and 1 <= age <= 110
        races[race] += 1
    assert races == {0: 5265, 1: 405, 2: 1553, 3: 1452, 4: 1103}
    assert len(pickle.dumps(found)) < 9778 * 200
    assert same(read_elsewhere(found, "train", 5000), found.splits["train"].samples[5000])


def test_camvid(real_data: Path) -> None:
    found = pairs(real_data / "camvid")
    assert counts(found) == {"train": 367, "validation": 101, "test": 233}
    for split, word in (("train", "train"), ("validation", "val"), ("test", "test")):
        for sample in samples(found, split):
            path = real_data / "camvid" / sample.origin
            assert path.parent.name == word and sample.image == path.read_bytes()
            assert sample.target == (real_data / "camvid" / f"{word}annot" / f"{path.stem}.png").read_bytes()


def test_bsds300(real_data: Path) -> None:
    found = pairs(real_data / "BSDS300", images="images/{split}", targets="boundaries/{split}")
    assert counts(found) == {"train": 100, "test": 50} and len(found.files) == 300
    for sample in samples(found, "test"):
        photo = real_data / "BSDS300" / sample.origin
        assert sample.target == (real_data / "BSDS300/boundaries/test" / f"{photo.stem}.png").read_bytes()
        assert Image.open(photo).size in ((481, 321), (321, 481))


def test_emoji(real_data: Path) -> None:
    found = captioned(real_data / "emoji", label="category")
    assert counts(found) == {"train": 3786} and len(found.files) == 3787
    rows = [json.loads(line) for line in (real_data / "emoji/metadata.jsonl").read_text("utf-8").split("\n") if line]
    told = {row["file_name"]: (row["text"], row["category"]) for row in rows}
    assert {s.origin: (s.caption, found.classes[s.label]) for s in samples(found)} == told
    assert found.classes == tuple(sorted({category for _, category in told.values()}))


def test_emoji_as_csv(real_data: Path, tmp_path: Path) -> None:
    """The same table in the other format, beside copies of the first images."""
    rows = [json.loads(line) for line in (real_data / "emoji/metadata.jsonl").read_text("utf-8").split("\n")[:50]]
    with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "text"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        (tmp_path / row["file_name"]).write_bytes((real_data / "emoji" / row["file_name"]).read_bytes())
    assert [s.caption for s in samples(captioned(tmp_path))] == [row["text"] for row in rows]


def test_video(real_data: Path) -> None:
    found = clips(real_data / "video", classes=True)
    assert [name.split("_")[0] for name in found.classes] == ["bigbuckbunny", "bikes", "carphone"]
    assert np.bincount(found.splits["train"].labels).tolist() == [132 // 16, 250 // 16, 120 // 16]
    sizes = [(64, 112), (64, 152), (72, 88)]
    for k, sample in enumerate(samples(found)):
        first = real_data / "video" / sample.origin.partition(" to ")[0]
        files = [first.with_name(f"{int(first.stem) + t:04d}.png") for t in range(16)]
        np.testing.assert_array_equal(sample.image, np.stack([np.asarray(Image.open(file)) for file in files]), str(k))
        assert sample.image.shape == (16, *sizes[sample.label], 3)
    every = clips(real_data / "video", frames=1)
    assert counts(every) == {"train": 502} and len(every.files) == 502


def test_binarized_mnist(real_data: Path) -> None:
    found = binarized_mnist(real_data / "binarized_mnist")
    assert counts(found) == {"train": 50_000, "validation": 10_000, "test": 10_000}
    assert len(pickle.dumps(found)) < 5000
    for split, word in (("train", "train"), ("validation", "valid"), ("test", "test")):
        text = (real_data / f"binarized_mnist/binarized_mnist_{word}.amat").read_text("ascii")
        lines = text.split("\n")[:-1]
        read = found.splits[split].samples
        assert len(lines) == len(read)
        for k, line in enumerate(lines):
            sample = read[k]
            bits = line.replace(" ", "").encode()
            assert (sample.image // 255 + ord("0")).tobytes() == bits
            if k % 1000 == 0:
                assert sample.image.shape == (28, 28, 1) and set(np.unique(sample.image)) == {0, 255}
                assert bytes(sample.image.ravel()) == bytes(255 * int(bit) for bit in line.split())
    assert same(read_elsewhere(found, "test", 9999), found.splits["test"].samples[9999])


def test_mnist_idx(real_data: Path) -> None:
    found = arrays(real_data / "MNIST/raw")
    assert counts(found) == {"train": 60_000, "test": 10_000}
    assert found.classes == tuple("0123456789")
    for split, word in (("train", "train"), ("test", "t10k")):
        raw = gzip.decompress((real_data / f"MNIST/raw/{word}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((real_data / f"MNIST/raw/{word}-labels-idx1-ubyte.gz").read_bytes())[8:]
        count = struct.unpack(">4I", raw[:16])[1]
        read = found.splits[split].samples
        assert count == len(read) and found.splits[split].labels.tobytes() == np.array([*labels]).tobytes()
        for k in range(count):
            sample = read[k]
            assert sample.image.tobytes() == raw[16 + 784 * k : 16 + 784 * (k + 1)] and sample.label == labels[k]
        assert sample.image.shape == (28, 28, 1)


def test_omniglot(real_data: Path) -> None:
    found = folder(real_data / "omniglot/images_background_small1/images_background_small1")
    assert counts(found) == {"train": 2720}
    assert found.classes == ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
    for sample in samples(found):
        assert sample.origin.split("/")[0] == found.classes[sample.label]
    drawn = np.bincount(found.splits["train"].labels)
    assert (drawn == 20 * np.array([24, 22, 24, 40, 26])).all()  # every character by 20 people
    run = folder(real_data / "omniglot/all_runs/run01", classes=False)
    assert counts(run) == {"train": 20, "test": 20}
