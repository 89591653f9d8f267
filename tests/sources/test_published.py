"""Every row of the table is held to the installed torchvision: counts, labels, classes and pixels.

The data sets are small fakes in the publisher's layout, written below and read by torchvision itself. Only its
checks of MD5 sums are turned off. MNIST and CIFAR-10 are also compared in full where the real files are at hand.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
from PIL import Image

from gen.data.sample import Collection
from gen.errors import DataError
from gen.sources.common.published_table import CATALOGUE
from gen.sources.torchvision import torchvision
from gen.vision import torchvision as vision

PER_CLASS = 3


@pytest.fixture(autouse=True)
def no_checksums(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes have other MD5 sums than the published files; torchvision still checks that files are there."""
    if request.node.get_closest_marker("real"):
        return
    for module in vars(vision.datasets).values():
        if hasattr(module, "check_integrity"):
            monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(seed: int, *shape: int) -> np.ndarray:
    return rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(path: Path, values: np.ndarray) -> None:
    kind = {"uint8": 8, "int32": 12}[values.dtype.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, kind, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(head + values.astype(values.dtype.newbyteorder(">")).tobytes())


def picture(path: Path, seed: int, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    Image.fromarray(pixels(seed, *shape)).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def mnist(folder: str, prefix: str = "{}", names: tuple[str, str] = ("train", "t10k"), classes: int = 10) -> Callable:
    def write(root: Path) -> None:
        for seed, name in enumerate(names):
            labels = np.arange(seed, classes + seed, dtype=np.uint8) % classes
            start = root / folder / "raw" / prefix.format(name)
            idx(start.with_name(f"{start.name}-images-idx3-ubyte"), pixels(seed, classes, 28, 28))
            idx(start.with_name(f"{start.name}-labels-idx1-ubyte"), labels)

    return write


def emnist(split: str) -> Callable:
    count = len(vision.datasets.EMNIST.classes_split_dict[split])

    def write(root: Path) -> None:
        mnist("EMNIST", f"emnist-{split}-{{}}", ("train", "test"), count)(root)
        if split == "letters":  # labelled from 1 on
            for name in ("train", "test"):
                path = root / "EMNIST" / "raw" / f"emnist-letters-{name}-labels-idx1-ubyte"
                idx(path, (np.arange(count, dtype=np.uint8) % 26) + np.uint8(1))

    return write


def qmnist(root: Path) -> None:
    for seed, name in enumerate(("train", "test")):
        labels = rng(seed).integers(0, 10, (5, 8), dtype=np.int32)
        idx(root / "QMNIST" / "raw" / f"qmnist-{name}-images-idx3-ubyte", pixels(seed, 5, 28, 28))
        idx(root / "QMNIST" / "raw" / f"qmnist-{name}-labels-idx2-int", labels)


def usps(root: Path) -> None:
    for seed, name in enumerate(("usps.bz2", "usps.t.bz2")):
        rows = rng(seed).uniform(-1, 1, (4, 256)).round(4)
        lines = [
            f"{k + 1} " + " ".join(f"{i + 1}:{v}" for i, v in enumerate(row)) + " \n" for k, row in enumerate(rows)
        ]
        (root / name).write_bytes(bz2.compress("".join(lines).encode()))


def semeion(root: Path) -> None:
    one_hot = np.eye(10)[[3, 0, 9, 1]]
    np.savetxt(root / "semeion.data", np.hstack([rng(0).integers(0, 2, (4, 256)), one_hot]), fmt="%.4f")


def omniglot(root: Path) -> None:
    for name, alphabets in (("images_background", ("Greek", "Latin")), ("images_evaluation", ("Angelic",))):
        text(root / "omniglot-py" / f"{name}.zip", "not looked at")
        for a, alphabet in enumerate(alphabets):
            for c in (2, 1):
                for k in (2, 1):
                    file = f"character{c:02d}/{a}{c}_{k:02d}.png"
                    picture(root / "omniglot-py" / name / alphabet / file, 100 * a + 10 * c + k, mode="L")


def moving_mnist(root: Path) -> None:
    (root / "MovingMNIST").mkdir()
    np.save(root / "MovingMNIST" / "mnist_test_seq.npy", pixels(0, 20, 3, 64, 64))


def cifar(folder: str, batches: tuple[str, ...], meta: str, key: str, labels: str, count: int) -> Callable:
    def write(root: Path) -> None:
        (root / folder).mkdir()
        for seed, name in enumerate(batches):
            batch = {"data": pixels(seed, 4, 3072), labels: rng(seed).integers(0, count, 4).tolist()}
            (root / folder / name).write_bytes(pickle.dumps(batch))
        (root / folder / meta).write_bytes(pickle.dumps({key: [f"class {k}" for k in range(count)]}))

    return write


def svhn(*splits: str) -> Callable:
    def write(root: Path) -> None:
        for seed, split in enumerate(splits):
            labels = np.array([[10], [1], [9], [10]], np.uint8)  # 10 stands for the digit 0
            scipy.io.savemat(root / f"{split}_32x32.mat", {"X": pixels(seed, 32, 32, 3, 4), "y": labels})

    return write


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    text(folder / "class_names.txt", *(f"class {k}" for k in range(10)))
    for seed, name in enumerate(("train", "test", "unlabeled")):
        (folder / f"{name}_X.bin").write_bytes(pixels(seed, 3, 3 * 96 * 96).tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes(bytes([10, 1, 5]))


def celeba(root: Path) -> None:
    files = [f"{k:06d}.jpg" for k in range(1, 8)]
    names = [f"Attribute_{k}" for k in range(40)]
    signs = rng(0).choice([-1, 1], (len(files), 40))
    for seed, file in enumerate(files):
        picture(root / "celeba" / "img_align_celeba" / file, seed)
    folder = root / "celeba"
    table = [f"{file}  " + " ".join(f"{s:2d}" for s in row) for file, row in zip(files, signs, strict=True)]
    text(folder / "list_attr_celeba.txt", "7", " ".join(names) + " ", *table)
    text(folder / "list_eval_partition.txt", *(f"{file} {k % 3}" for k, file in enumerate(files)))
    text(folder / "identity_CelebA.txt", *(f"{file} {k}" for k, file in enumerate(files)))
    text(folder / "list_bbox_celeba.txt", "7", "image_id x_1 y_1 width height", *(f"{file} 1 2 3 4" for file in files))
    text(folder / "list_landmarks_align_celeba.txt", "7", "a b", *(f"{file} 1 2" for file in files))


def lfw(folder: str, archive: str) -> Callable:
    def write(root: Path) -> None:
        base = root / "lfw-py"
        text(base / archive, "not looked at")
        text(base / "lfw-names.txt", "Ada\t2", "Bob\t1", "Cyd\t1")
        text(base / "peopleDevTrain.txt", "2", "Ada\t2", "Cyd\t1")
        text(base / "peopleDevTest.txt", "1", "Bob\t1")
        for seed, file in enumerate(("Ada/Ada_0001", "Ada/Ada_0002", "Bob/Bob_0001", "Cyd/Cyd_0001")):
            picture(base / folder / f"{file}.jpg", seed)

    return write


def caltech101(root: Path) -> None:
    folder = root / "caltech101" / "101_ObjectCategories"
    for a, name in enumerate(("BACKGROUND_Google", "Faces", "ant")):
        for k in range(1, PER_CLASS + 1):
            picture(folder / name / f"image_{k:04d}.jpg", 10 * a + k)
            if name != "BACKGROUND_Google":
                mat = root / "caltech101" / "Annotations" / {"Faces": "Faces_2"}.get(name, name)
                mat.mkdir(parents=True, exist_ok=True)


def caltech256(root: Path) -> None:
    for a, name in enumerate(("001.ak47", "002.flag"), 1):
        for k in range(1, PER_CLASS + 1):
            picture(root / "caltech256" / "256_ObjectCategories" / name / f"{a:03d}_{k:04d}.jpg", 10 * a + k)


def flowers102(root: Path) -> None:
    base = root / "flowers-102"
    for k in range(1, 8):
        picture(base / "jpg" / f"image_{k:05d}.jpg", k)
    scipy.io.savemat(base / "imagelabels.mat", {"labels": [[5, 102, 1, 1, 7, 7, 3]]})
    scipy.io.savemat(base / "setid.mat", {"trnid": [[3, 1]], "valid": [[2, 7]], "tstid": [[4, 5, 6]]})


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    for split, ids in {"trainval": ("Boxer_1", "Sphynx_7"), "test": ("Sphynx_2", "Boxer_5", "Boxer_6")}.items():
        rows = [f"{name} {1 + name.startswith('S')} 1 1" for name in ids]
        text(base / "annotations" / f"{split}.txt", *rows)
        for seed, name in enumerate(ids):
            picture(base / "images" / f"{name}.jpg", seed)
            picture(base / "annotations" / "trimaps" / f"{name}.png", seed, mode="L")


def food101(root: Path) -> None:
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    for split, numbers in {"train": (3, 1), "test": (2,)}.items():
        listed = {name: [f"{name}/{k}" for k in numbers] for name in ("waffles", "apple_pie")}
        (base / "meta" / f"{split}.json").write_text(json.dumps(listed))
        for a, files in enumerate(listed.values()):
            for file, k in zip(files, numbers, strict=True):
                picture(base / "images" / f"{file}.jpg", 10 * a + k)


def gtsrb(root: Path) -> None:
    base = root / "gtsrb"
    for sign in range(43):
        picture(base / "GTSRB" / "Training" / f"{sign:05d}" / "00000_00000.ppm", sign)
    for k in range(3):
        picture(base / "GTSRB" / "Final_Test" / "Images" / f"{k:05d}.ppm", 50 + k)
    rows = [f"{k:05d}.ppm;9;12;1;1;8;11;{sign}" for k, sign in enumerate((42, 0, 7))]
    text(base / "GT-final_test.csv", "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *rows)


def eurosat(root: Path) -> None:
    for a, name in enumerate(("River", "Forest")):
        for k in range(1, PER_CLASS + 1):
            picture(root / "eurosat" / "2750" / name / f"{name}_{k}.jpg", 10 * a + k)


def dtd(root: Path) -> None:
    base = root / "dtd" / "dtd"
    for k, split in enumerate(("train", "val", "test")):
        files = [f"{name}/{name}_{k:04d}.jpg" for name in ("banded", "zigzagged")]
        text(base / "labels" / f"{split}1.txt", *files)
        for seed, file in enumerate(files):
            picture(base / "images" / file, 10 * seed + k)


def imagenette(folder: str) -> Callable:
    def write(root: Path) -> None:
        for s, split in enumerate(("train", "val")):
            for a, name in enumerate(vision.datasets.Imagenette._WNID_TO_CLASS):
                picture(root / folder / split / name / f"{name}_{s}.JPEG", 10 * a + s)

    return write


def aircraft(root: Path) -> None:
    base = root / "fgvc-aircraft-2013b" / "data"
    text(base / "variants.txt", "707-320", "Boeing 717")
    for k, split in enumerate(("train", "val", "test")):
        text(base / f"images_variant_{split}.txt", f"{k}00001 Boeing 717", f"{k}00002 707-320")
        for seed in (1, 2):
            picture(base / "images" / f"{k}0000{seed}.jpg", 10 * k + seed)


def country211(root: Path) -> None:
    for k, split in enumerate(("train", "valid", "test")):
        for a, name in enumerate(("AD", "ZW")):
            picture(root / "country211" / split / name / f"{k}.jpg", 10 * a + k)


FAKES: dict[str, Callable[[Path], None]] = {
    "MNIST": mnist("MNIST"),
    "FashionMNIST": mnist("FashionMNIST"),
    "KMNIST": mnist("KMNIST"),
    "QMNIST": qmnist,
    **{f"EMNIST/{split}": emnist(split) for split in vision.datasets.EMNIST.splits},
    "USPS": usps,
    "SEMEION": semeion,
    "Omniglot": omniglot,
    "MovingMNIST": moving_mnist,
    "CIFAR10": cifar(
        "cifar-10-batches-py",
        (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"),
        "batches.meta",
        "label_names",
        "labels",
        10,
    ),
    "CIFAR100": cifar("cifar-100-python", ("train", "test"), "meta", "fine_label_names", "fine_labels", 100),
    "SVHN": svhn("train", "test"),
    "SVHN/extra": svhn("train", "test", "extra"),
    "STL10": stl10,
    "STL10/unlabelled": stl10,
    "CelebA": celeba,
    **{
        f"LFWPeople/{alignment}": lfw(folder, archive)
        for alignment, (folder, archive, _) in vision.datasets.LFWPeople.file_dict.items()
    },
    "Caltech101": caltech101,
    "Caltech256": caltech256,
    "Flowers102": flowers102,
    "OxfordIIITPet": pets,
    "Food101": food101,
    "GTSRB": gtsrb,
    "EuroSAT": eurosat,
    "DTD": dtd,
    **{
        f"Imagenette/{size}": imagenette(folder)
        for size, folder in (("full", "imagenette2"), ("320px", "imagenette2-320"), ("160px", "imagenette2-160"))
    },
    "FGVCAircraft": aircraft,
    "Country211": country211,
}
"""Writes a small data set in the publisher's layout."""

NOT_ITS_OWN = ("omniglot-py/*.zip", "lfw-py/*.tgz", "caltech101/*/BACKGROUND_Google/*", "stl10_binary/unlabeled_X.bin")
"""What a fake holds beside the files that samples are made of: packed copies, other variants."""


def decoded(image: Any) -> np.ndarray:
    """As uint8 (H, W), (H, W, C) or (T, H, W, C), by Pillow."""
    if isinstance(image, bytes):
        return np.asarray(Image.open(io.BytesIO(image)))
    return np.asarray(image)


def shown(image: Any) -> np.ndarray:
    """What torchvision gives: a picture of Pillow, or a tensor (T, C, H, W)."""
    return np.asarray(image) if isinstance(image, Image.Image) else np.moveaxis(np.asarray(image), 1, -1)


def originals(root: Path, name: str, split: str) -> Iterator[tuple[Any, Any]]:
    """(image, target) as torchvision gives them, in our order, axes and labels."""
    row = CATALOGUE[name]
    loaded = getattr(vision.datasets, row.loader)(str(root), download=False, **row.splits[split])
    pairs = [loaded[k] if name != "MovingMNIST" else (loaded[k], None) for k in range(len(loaded))]
    if name.startswith("EMNIST"):
        pairs = [
            (image.transpose(Image.Transpose.TRANSPOSE), target - (name == "EMNIST/letters")) for image, target in pairs
        ]
    if name == "STL10/unlabelled":
        pairs = [(image, None) for image, _ in pairs]
    yield from pairs


@pytest.fixture(params=FAKES)
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Collection]:
    """Name, root and collection of every data set of the table."""
    FAKES[request.param](tmp_path)
    return request.param, tmp_path, torchvision(tmp_path, name=request.param)


def test_every_row_has_a_fake() -> None:
    assert set(FAKES) == set(CATALOGUE)


def test_samples_are_torchvisions(fake: tuple[str, Path, Collection]) -> None:
    name, root, collection = fake
    for split, part in collection.splits.items():
        expected = list(originals(root, name, split))
        found = [part.samples[k] for k in range(len(part))]
        assert len(part) == len(expected) > 0
        if name == "Omniglot":  # the order of torchvision's depends on the file system
            assert sorted(decoded(s.image).tobytes() for s in found) == sorted(shown(i).tobytes() for i, _ in expected)
            continue
        for k, (sample, (image, target)) in enumerate(zip(found, expected, strict=True)):
            np.testing.assert_array_equal(decoded(sample.image).squeeze(), shown(image).squeeze())
            if isinstance(sample.image, np.ndarray):
                assert sample.image.dtype == np.uint8 and sample.image.flags.c_contiguous
            if name == "CelebA":
                assert sample.attributes == tuple(target.tolist())
            else:
                assert sample.label == (None if target is None else int(target))
            if part.labels is not None:
                assert part.labels[k] == sample.label
            assert sample.origin


def test_class_names_are_torchvisions(fake: tuple[str, Path, Collection]) -> None:
    name, root, collection = fake
    row = CATALOGUE[name]
    loaded = getattr(vision.datasets, row.loader)(str(root), download=False, **next(iter(row.splits.values())))
    if not collection.classes:
        assert name in ("CelebA", "MovingMNIST", "STL10/unlabelled")
    elif name in ("MNIST", "QMNIST"):
        assert [f"{each} - " in long for each, long in zip(collection.classes, loaded.classes, strict=True)] == [
            True
        ] * 10
    elif name == "EMNIST/letters":
        assert list(collection.classes) == loaded.classes[1:]
    elif name.startswith("Imagenette"):
        assert all(each in names for each, names in zip(collection.classes, loaded.classes, strict=True))
    elif hasattr(loaded, "classes"):
        assert list(collection.classes) == list(loaded.classes)
    elif hasattr(loaded, "categories"):
        assert list(collection.classes) == loaded.categories
    else:
        assert name in ("USPS", "SEMEION", "SVHN", "SVHN/extra", "GTSRB", "Omniglot") or name.startswith("LFW")


def test_files_are_its_own(fake: tuple[str, Path, Collection]) -> None:
    """All that it is made of, and nothing else that lies below the root."""
    name, root, collection = fake
    text(root / "other" / "data_batch_1", "of another data set")
    text(root / "notes.txt", "mine")
    again = torchvision(root, name=name)
    assert again.files == collection.files
    written = {path for path in root.rglob("*") if path.is_file()} - {
        root / "other" / "data_batch_1",
        root / "notes.txt",
    }
    if name == "STL10/unlabelled":
        assert set(collection.files) == {root / "stl10_binary" / "unlabeled_X.bin"}
    else:
        assert set(collection.files) == written - {path for each in NOT_ITS_OWN for path in root.glob(each)}


def test_samples_are_a_few_words_to_other_processes(fake: tuple[str, Path, Collection]) -> None:
    _, root, collection = fake
    for part in collection.splits.values():
        assert len(pickle.dumps(part.samples)) < 300 + len(str(root))
        again = pickle.loads(pickle.dumps(part.samples))
        assert decoded(again[0].image).tobytes() == decoded(part.samples[0].image).tobytes()


def first_bytes(collection: Collection) -> bytes:
    return decoded(collection.splits["test"].samples[1].image).tobytes()


def test_another_process_elsewhere_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root was given relative to a directory the other process is not in."""
    (tmp_path / "data").mkdir()
    food101(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    collection = torchvision(Path("data"), name="Food101")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        monkeypatch.chdir("/")
        assert pool.submit(first_bytes, collection).result() == first_bytes(collection)


def test_targets_are_the_trimaps(tmp_path: Path) -> None:
    pets(tmp_path)
    samples = torchvision(tmp_path, name="OxfordIIITPet").splits["test"].samples
    trimap = tmp_path / "oxford-iiit-pet" / "annotations" / "trimaps" / "Boxer_5.png"
    assert samples[1].target == trimap.read_bytes()
    assert samples[1].origin == "oxford-iiit-pet/images/Boxer_5.jpg"


def test_celebas_attributes(tmp_path: Path) -> None:
    celeba(tmp_path)
    collection = torchvision(tmp_path, name="CelebA")
    assert collection.attributes == tuple(f"Attribute_{k}" for k in range(40))
    assert {len(part) for part in collection.splits.values()} == {3, 2}
    assert set(collection.splits["train"].samples[0].attributes) == {0.0, 1.0}


def test_omniglots_splits_share_one_sorted_list_of_characters(tmp_path: Path) -> None:
    omniglot(tmp_path)
    collection = torchvision(tmp_path, name="Omniglot")
    assert collection.classes == tuple(f"{a}/character{c:02d}" for a in ("Angelic", "Greek", "Latin") for c in (1, 2))
    assert collection.splits["train"].labels.tolist() == [2, 2, 3, 3, 4, 4, 5, 5]
    assert collection.splits["test"].labels.tolist() == [0, 0, 1, 1]
    for part in collection.splits.values():
        for k in range(len(part)):
            sample = part.samples[k]
            assert f"/{collection.classes[sample.label]}/" in sample.origin


def test_emnist_is_upright(tmp_path: Path) -> None:
    """Its files hold pictures mirrored about the diagonal."""
    emnist("digits")(tmp_path)
    stored = pixels(0, 10, 28, 28)
    sample = torchvision(tmp_path, name="EMNIST/digits").splits["train"].samples[3]
    np.testing.assert_array_equal(sample.image[..., 0], stored[3].T)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mnist", "Did you mean 'MNIST'"),
        ("CIFAR-10", "Did you mean 'CIFAR10'"),
        ("celeb", "Did you mean 'CelebA'"),
        ("EMNIST", "Name the variant: EMNIST/byclass, "),
    ],
)
def test_unknown_names_are_met_with_the_nearest(tmp_path: Path, name: str, meant: str) -> None:
    with pytest.raises(DataError, match=rf"found '{name}', which is not .*Allowed: MNIST, .*{meant}"):
        torchvision(tmp_path, name=name)


def test_nothing_there_and_nothing_written(tmp_path: Path) -> None:
    for name in CATALOGUE:
        with pytest.raises(DataError, match=r"found none of the files.*download: true"):
            torchvision(tmp_path / "nowhere", name=name)
    assert not (tmp_path / "nowhere").exists()


def packed(root: Path) -> None:
    mnist("MNIST")(root)
    for path in (root / "MNIST" / "raw").iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def test_packed_files_are_unpacked_on_request_without_a_network(tmp_path: Path) -> None:
    packed(tmp_path)
    with pytest.raises(DataError, match=r"only packed \(t10k-images-idx3-ubyte\.gz, .*`download: true`.*without a net"):
        torchvision(tmp_path, name="MNIST")
    collection = torchvision(tmp_path, name="MNIST", download=True)
    assert [len(part) for part in collection.splits.values()] == [10, 10]
    assert [path.name for path in collection.files] == sorted(
        f"{split}-{what}" for split in ("t10k", "train") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Give a `path` that can be written to"),
        (OSError(errno.EROFS, "Read-only file system"), "Give a `path` that can be written to"),
        (URLError("no route to host"), "no route to host.*Check the network and try again"),
        (RuntimeError("File not found or corrupted."), "not found or corrupted. Check the network"),
    ],
)
def test_downloads_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception, message: str) -> None:
    def fails(self: Any) -> None:
        raise problem

    monkeypatch.setattr(vision.datasets.MNIST, "download", fails)
    with pytest.raises(DataError, match=rf"cannot download MNIST: .*{message}.*by hand: MNIST/raw/\*-ubyte"):
        torchvision(tmp_path, name="MNIST", download=True)


def test_what_is_there_is_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where torchvision refuses to download at all, as it does for LFW."""
    FAKES["LFWPeople/funneled"](tmp_path)
    assert len(torchvision(tmp_path, name="LFWPeople/funneled", download=True).splits) == 2
    mnist("MNIST")(tmp_path)
    monkeypatch.setattr(vision.datasets.MNIST, "download", None)
    assert len(torchvision(tmp_path, name="MNIST", download=True).splits) == 2


def test_damaged_files_are_named(tmp_path: Path) -> None:
    mnist("MNIST")(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"cannot open the split 'test' of MNIST: .*MNIST/raw/\*-ubyte.*Remove"):
        torchvision(tmp_path, name="MNIST")


def test_a_file_that_went_missing_is_named(tmp_path: Path) -> None:
    eurosat(tmp_path)
    samples = torchvision(tmp_path, name="EuroSAT").splits["train"].samples
    (tmp_path / "eurosat" / "2750" / "Forest" / "Forest_2.jpg").unlink()
    with pytest.raises(DataError, match=r"Forest_2\.jpg: cannot be read"):
        samples[1]


def test_splits_with_different_classes_are_refused(tmp_path: Path) -> None:
    dtd(tmp_path)
    text(tmp_path / "dtd" / "dtd" / "labels" / "val1.txt", "banded/banded_0001.jpg")
    with pytest.raises(DataError, match="the split 'validation' has 1 classes, others have 2"):
        torchvision(tmp_path, name="DTD")


@pytest.mark.real
def test_the_real_mnist(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "MNIST", tmp_path / "MNIST", copy_function=shutil.copyfile)
    (tmp_path / "MNIST" / "raw").chmod(0o755)
    check_in_full(tmp_path, torchvision(tmp_path, name="MNIST", download=True), {"train": 60_000, "test": 10_000})


@pytest.mark.real
def test_the_real_cifar10(real_data: Path) -> None:
    collection = torchvision(real_data, name="CIFAR10")
    check_in_full(real_data, collection, {"train": 50_000, "test": 10_000})
    birds_to = ("bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert collection.classes == ("airplane", "automobile", *birds_to)
    assert len(collection.files) == 7


def check_in_full(root: Path, collection: Collection, sizes: dict[str, int]) -> None:
    row = CATALOGUE[collection.source.name]
    assert {name: len(part) for name, part in collection.splits.items()} == sizes
    for split, part in collection.splits.items():
        loaded = getattr(vision.datasets, row.loader)(str(root), **row.splits[split])
        images = np.stack([part.samples[k].image for k in range(len(part))])
        np.testing.assert_array_equal(images.squeeze(), np.asarray(loaded.data))
        np.testing.assert_array_equal(part.labels, np.asarray(loaded.targets))
        assert [part.samples[k].label for k in range(0, len(part), 997)] == part.labels[::997].tolist()
