"""The real data sets through pull and shard: every count, pixel, label and word is that of their publishers' files.

What is expected is read from the files a second time, by Pillow and NumPy alone; what was written is read back by
stock WebDataset and by our own reader.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from webdataset import WebDataset

from gen.data.images import Prepare
from gen.data.manifest import Manifest, read_manifest
from gen.data.reader import open_split
from gen.data.sample import Collection
from gen.shards.verify import verify
from gen.shards.write import Format, write_shards
from gen.sources.pull import Origin, pull, reopen
from pipelines.writers import writers

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Expected:
    """What a split must hold, one entry for each sample; pictures as arrays (H, W, C) or (T, H, W, C).

    Attributes:
        images: all of them, each time it is asked for anew.
        labels: indices of classes.
        targets: arrays.
        captions: texts.
        attributes: rows of numbers.
        files: the contents of the source's own files, where these are kept.
    """

    images: Iterable[np.ndarray]
    labels: list[int] | None = None
    targets: list[np.ndarray] | None = None
    captions: list[str] | None = None
    attributes: list[tuple[float, ...]] | None = None
    files: list[bytes] = field(default_factory=list)


class Each:
    """Images that are opened when they are asked for, once more each time."""

    def __init__(self, paths: list[Path], open_: Any) -> None:
        self.paths, self.open = paths, open_

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.open, self.paths)


def hold(
    folder: Path,
    origin: Origin,
    expected: Mapping[str, Expected],
    *,
    prepare: Prepare | None = None,
    form: Format | None = None,
) -> Manifest:
    """Pull and shard a data set, and compare everything that comes out with what is expected."""
    form = form or Format()
    pull("real", origin, folder / "raw")
    collection = reopen("real", origin, folder / "raw")
    assert isinstance(collection, Collection)
    with writers() as run:
        write_shards(collection, folder / "shards", prepare=prepare, form=form, run=run)
    manifest = read_manifest(folder / "shards")
    assert list(manifest.splits) == list(expected)
    for name, split in expected.items():
        _hold_manifest(manifest, name, split)
        _hold_webdataset(folder / "shards" / name, manifest, split, form.encode)
        _hold_reader(folder / "shards", name, split)
    assert verify(folder / "shards") == []
    return manifest


def _hold_manifest(manifest: Manifest, name: str, expected: Expected) -> None:
    digests = [hashlib.sha256(image.tobytes()).digest() for image in expected.images]
    info = manifest.splits[name]
    assert info.samples == sum(shard.samples for shard in info.shards) == len(digests)
    assert info.pixels_sha256 == hashlib.sha256(b"".join(digests)).hexdigest()
    assert info.quarantined == ()
    if expected.labels is not None:
        assert info.class_counts == tuple(np.bincount(expected.labels, minlength=len(manifest.classes)))


def _hold_webdataset(folder: Path, manifest: Manifest, expected: Expected, encode: str) -> None:
    tars = [str(path) for path in sorted(folder.glob("*.tar"))]
    count = 0
    for k, (sample, image) in enumerate(
        zip(WebDataset(tars, shardshuffle=False).decode(), expected.images, strict=True)
    ):
        assert sample["__key__"] == f"{k:08d}"
        assert np.array_equal(_stored(sample, "image", manifest), image)
        if expected.labels is not None:
            assert sample["cls"] == expected.labels[k]
        if expected.targets is not None:
            assert np.array_equal(_stored(sample, "target", manifest), expected.targets[k])
        if expected.captions is not None:
            assert sample["txt"] == expected.captions[k]
        if expected.attributes is not None:
            assert tuple(sample["json"][name] for name in manifest.attributes) == expected.attributes[k]
        if expected.files:
            assert sample[manifest.fields["image"].extensions[0]] == expected.files[k]
        count += 1
    assert count == len(list(expected.images))


def _stored(sample: dict[str, Any], name: str, manifest: Manifest) -> np.ndarray:
    """A picture as WebDataset gives it: an array, or a file that Pillow opens."""
    (extension,), shape = manifest.fields[name].extensions, manifest.fields[name].shape
    value = sample[extension]
    if isinstance(value, bytes):
        image = Image.open(BytesIO(value))
        value = np.asarray(image.convert("L" if shape[-1] == 1 else "RGB"))
    return value.reshape(shape)


def _hold_reader(root: Path, name: str, expected: Expected) -> None:
    reader = open_split(root, name, resident_bytes=0)
    rng, images = np.random.default_rng(0), list(expected.images)
    for _ in range(5):
        rows = rng.integers(0, len(images), 32)
        drawn = reader.batch(rows)
        np.testing.assert_array_equal(drawn.images.movedim(1, -1).numpy(), np.stack([images[k] for k in rows]))
        if expected.labels is not None:
            assert drawn.labels.tolist() == [expected.labels[k] for k in rows]
        if expected.targets is not None:
            targets = np.stack([expected.targets[k] for k in rows])
            np.testing.assert_array_equal(drawn.targets.movedim(1, -1).numpy(), targets)
        if expected.captions is not None:
            texts = [bytes(line).rstrip(b"\0").decode() for line in drawn.captions.numpy()]
            assert texts == [expected.captions[k] for k in rows]
        if expected.attributes is not None:
            assert drawn.attributes.tolist() == [list(expected.attributes[k]) for k in rows]


def opened(path: Path) -> np.ndarray:
    """An image file as Pillow gives it, (H, W, C)."""
    array = np.asarray(Image.open(path))
    return array if array.ndim == 3 else array[..., None]


def middle(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """The centre of an image."""
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return array[top : top + height, left : left + width]


# ---- digits and small photos ----------------------------------------------------------------------------------------


def mnist(root: Path) -> dict[str, Expected]:
    found = {}
    for split, word, count in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        pixels = gzip.decompress((root / f"{word}-images-idx3-ubyte.gz").read_bytes())[16:]
        labels = gzip.decompress((root / f"{word}-labels-idx1-ubyte.gz").read_bytes())[8:]
        found[split] = Expected(np.frombuffer(pixels, np.uint8).reshape(count, 28, 28, 1), list(labels))
    return found


@pytest.mark.slow
def test_mnist_of_torchvision(real_data: Path, tmp_path: Path) -> None:
    """Which unpacks the published files where they are."""
    shutil.copytree(real_data / "MNIST", tmp_path / "MNIST")
    origin = Origin(source="torchvision", path=str(tmp_path), options={"name": "MNIST", "download": True})
    manifest = hold(tmp_path, origin, mnist(real_data / "MNIST" / "raw"))
    assert manifest.shape == (1, 28, 28) and len(manifest.classes) == 10
    np.testing.assert_allclose(manifest.splits["train"].mean, [0.1307], atol=5e-5)  # as everybody normalises it
    np.testing.assert_allclose(manifest.splits["train"].std, [0.3081], atol=5e-5)


@pytest.mark.slow
def test_mnist_of_idx_files(real_data: Path, tmp_path: Path) -> None:
    origin = Origin(source="arrays", path=str(real_data / "MNIST" / "raw"))
    manifest = hold(tmp_path, origin, mnist(real_data / "MNIST" / "raw"), form=Format(encode="png", samples=5_000))
    assert manifest.classes == tuple("0123456789")


@pytest.mark.slow
def test_binarized_mnist(real_data: Path, tmp_path: Path) -> None:
    expected = {}
    for split, word in (("train", "train"), ("validation", "valid"), ("test", "test")):
        with (real_data / "binarized_mnist" / f"binarized_mnist_{word}.amat").open() as lines:
            bits = np.array([np.fromstring(line, np.uint8, sep=" ") for line in lines])
        expected[split] = Expected((bits * 255).reshape(-1, 28, 28, 1))
    origin = Origin(source="binarized_mnist", path=str(real_data / "binarized_mnist"))
    manifest = hold(tmp_path, origin, expected)
    assert {name: split.samples for name, split in manifest.splits.items()} == {
        "train": 50_000,
        "validation": 10_000,
        "test": 10_000,
    }


@pytest.mark.slow
def test_cifar10(real_data: Path, tmp_path: Path) -> None:
    folder, expected = real_data / "cifar-10-batches-py", {}
    for split, names in (("train", [f"data_batch_{k}" for k in range(1, 6)]), ("test", ["test_batch"])):
        batches = [pickle.loads((folder / name).read_bytes(), encoding="latin1") for name in names]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = [label for batch in batches for label in batch["labels"]]
        expected[split] = Expected(np.ascontiguousarray(pixels), labels)
    origin = Origin(source="torchvision", path=str(real_data), options={"name": "CIFAR10"})
    manifest = hold(tmp_path, origin, expected)
    assert manifest.classes[:3] == ("airplane", "automobile", "bird")
    np.testing.assert_allclose(manifest.splits["train"].mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(manifest.splits["train"].std, [0.2470, 0.2435, 0.2616], atol=5e-5)


# ---- files ----------------------------------------------------------------------------------------------------------

FACES = {
    "pattern": "{age}_{gender}_{race}_*",
    "label": "gender",
    "classes": ["male", "female"],
    "attributes": ["age", "race"],
}


def faces(root: Path, **more: Any) -> Expected:
    paths = sorted((root / "utkface").iterdir(), key=lambda path: path.name)
    known = [tuple(map(int, path.name.split("_")[:3])) for path in paths]
    return Expected(
        Each(paths, more.pop("open_", opened)),
        [gender for _, gender, _ in known],
        attributes=[(age, race) for age, _, race in known],
        files=[path.read_bytes() for path in paths] if more else [],
    )


@pytest.mark.slow
def test_utkface_as_it_is(real_data: Path, tmp_path: Path) -> None:
    origin = Origin(source="named", path=str(real_data / "utkface"), options=FACES)
    manifest = hold(tmp_path, origin, {"train": faces(real_data, files=True)}, form=Format(encode="keep"))
    assert manifest.fields["image"].extensions == ("image.jpg",)
    assert manifest.splits["train"].class_counts == (4372, 5406)


@pytest.mark.slow
def test_utkface_in_small(real_data: Path, tmp_path: Path) -> None:
    def small(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).resize((32, 32), Image.Resampling.LANCZOS))

    origin = Origin(source="named", path=str(real_data / "utkface"), options=FACES)
    expected = {"train": faces(real_data, open_=small)}
    manifest = hold(tmp_path, origin, expected, prepare=Prepare(resize=(32, 32)), form=Format(bytes=10 << 20))
    assert manifest.shape == (3, 32, 32)


def test_camvid(real_data: Path, tmp_path: Path) -> None:
    """Label maps keep their numbers: 0 to 11, of which the last is unlabelled."""
    root, expected = real_data / "camvid", {}
    for split, word in (("train", "train"), ("validation", "val"), ("test", "test")):
        photos = sorted((root / word).iterdir(), key=lambda path: path.name)
        maps = [opened(root / f"{word}annot" / f"{path.stem}.png") for path in photos]
        assert max(each.max() for each in maps) == 11
        expected[split] = Expected(Each(photos, opened), targets=maps)
    origin = Origin(source="pairs", path=str(root))
    manifest = hold(tmp_path, origin, expected, prepare=Prepare(target_mode="index"), form=Format(encode="png"))
    assert {name: split.samples for name, split in manifest.splits.items()} == {
        "train": 367,
        "validation": 101,
        "test": 233,
    }
    assert (manifest.shape, manifest.fields["target"].shape) == ((3, 132, 176), (132, 176, 1))


def test_bsds300(real_data: Path, tmp_path: Path) -> None:
    """Upright and lying photos, of which the middle is taken, and of their outlines the same."""
    root, expected = real_data / "BSDS300", {}
    for split in ("train", "test"):
        photos = sorted((root / "images" / split).iterdir(), key=lambda path: path.name)
        outlines = [opened(root / "boundaries" / split / f"{path.stem}.png") for path in photos]
        expected[split] = Expected(
            Each(photos, lambda path: middle(opened(path), 321, 321)),
            targets=[middle(outline, 321, 321) for outline in outlines],
        )
    options = {"images": "images/{split}", "targets": "boundaries/{split}"}
    origin = Origin(source="pairs", path=str(root), options=options)
    manifest = hold(tmp_path, origin, expected, prepare=Prepare(crop="square"), form=Format(samples=20))
    assert manifest.shape == (3, 321, 321)


@pytest.mark.parametrize("encode", ["webp", "png"])
def test_captioned_emoji(real_data: Path, tmp_path: Path, encode: str) -> None:
    lines = (real_data / "emoji" / "metadata.jsonl").read_text("utf-8").split("\n")
    rows = sorted((json.loads(line) for line in lines if line), key=lambda row: row["file_name"])
    classes = sorted({row["category"] for row in rows})
    expected = Expected(
        Each([real_data / "emoji" / row["file_name"] for row in rows], opened),
        [classes.index(row["category"]) for row in rows],
        captions=[row["text"] for row in rows],
    )
    assert len(rows) == 3786
    origin = Origin(source="captioned", path=str(real_data / "emoji"), options={"label": "category"})
    manifest = hold(tmp_path, origin, {"train": expected}, form=Format(encode=encode))
    assert manifest.classes == tuple(classes)


@pytest.mark.parametrize("encode", ["npy", "png"])
def test_video_clips(real_data: Path, tmp_path: Path, encode: str) -> None:
    """Three clips of three sizes, of which the middle is taken; 16 frames each, four of them in two windows."""
    windows, labels = [], []
    for label, clip in enumerate(sorted((real_data / "video").iterdir(), key=lambda path: path.name)):
        frames = sorted(clip.iterdir(), key=lambda path: path.name)
        for start in range(0, len(frames) - 15, 12):
            windows.append(np.stack([middle(opened(frame), 64, 88) for frame in frames[start : start + 16]]))
            labels.append(label)
    origin = Origin(source="clips", path=str(real_data / "video"), options={"frames": 16, "hop": 12, "classes": True})
    expected = {"train": Expected(windows, labels)}
    manifest = hold(tmp_path, origin, expected, prepare=Prepare(crop=(64, 88)), form=Format(encode=encode, samples=8))
    assert manifest.shape == (3, 16, 64, 88)
    assert manifest.splits["train"].samples == len(windows) == 39
