"""Arrays in every format and layout, against what was saved; damage, doubt and pickles are refused."""

import gzip
import pickle
import struct
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.errors import DataError
from gen.sources.arrays import arrays
from gen.sources.binarized_mnist import binarized_mnist
from gen.sources.common import stored
from tests.sources.trees import origins, plant, read_elsewhere, same, samples

X = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
Y = np.array([2, 0, 1, 1, 0, 2])


def idx(array, code: int = 0x08) -> bytes:
    """The idx format, written out a second time from its description."""
    big = array.astype(array.dtype.newbyteorder(">"))
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + big.tobytes()


def npy(array) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def images(collection, split: str = "train"):
    return np.stack([sample.image for sample in samples(collection, split)])


def test_one_npz(tmp_path) -> None:
    np.savez_compressed(tmp_path / "toys.npz", images=X, labels=Y, more=np.zeros(3))
    found = arrays(tmp_path / "toys.npz")
    np.testing.assert_array_equal(images(found), X[..., None])
    assert found.splits["train"].labels.tolist() == Y.tolist()
    assert found.classes == ("0", "1", "2")
    assert origins(found)["train"][3] == "toys.npz, images, row 3"
    assert found.files == (tmp_path / "toys.npz",) and found.source.name == "toys"


def test_names_of_arrays_with_splits(tmp_path) -> None:
    """As MedMNIST and Keras name theirs."""
    np.savez(tmp_path / "a.npz", train_images=X, val_images=X[:2], test_images=X[:1], train_labels=Y[:, None],
             val_labels=Y[:2, None], test_labels=Y[:1, None])  # fmt: skip
    found = arrays(tmp_path / "a.npz", images="{split}_images", labels="{split}_labels")
    assert {k: len(v) for k, v in found.splits.items()} == {"train": 6, "validation": 2, "test": 1}
    assert found.splits["validation"].labels.tolist() == [2, 0]
    np.savez(tmp_path / "b.npz", x_train=X, y_train=Y, x_test=X[3:], y_test=Y[3:])
    found = arrays(tmp_path / "b.npz", images="x_{split}", labels="y_{split}", classes=["cat", "dog", "emu"])
    assert found.classes == ("cat", "dog", "emu") and found.splits["test"].labels.tolist() == [1, 0, 2]
    np.testing.assert_array_equal(images(found, "test"), X[3:, ..., None])


def test_a_file_for_each_split(tmp_path) -> None:
    np.savez(tmp_path / "test.npz", images=X[:2], labels=Y[:2])
    np.savez(tmp_path / "train.npz", images=X, labels=Y % 2)
    np.savez(tmp_path / "valid.npz", images=X[:3], labels=Y[:3])
    found = arrays(tmp_path)
    assert list(found.splits) == ["train", "validation", "test"]
    assert found.classes == ("0", "1", "2")  # of all splits together
    assert origins(found)["validation"][0] == "valid.npz, images, row 0"
    assert list(found.files) == [tmp_path / f"{name}.npz" for name in ("test", "train", "valid")]


def test_npy_files(tmp_path) -> None:
    plant(tmp_path / "a", "images.npy", contents=npy(X))
    plant(tmp_path / "a", "labels.npy", contents=npy(Y))
    found = arrays(tmp_path / "a")
    np.testing.assert_array_equal(images(found), X[..., None])
    assert origins(found)["train"][5] == "images.npy, row 5"
    alone = arrays(tmp_path / "a/images.npy")
    assert alone.classes == () and len(alone.splits["train"]) == 6
    for split, x, y in (("train", X, Y), ("test", X[:2], Y[:2])):
        plant(tmp_path / "b", f"{split}/x.npy", contents=npy(x))
        plant(tmp_path / "b", f"{split}/y.npy", contents=npy(y))
    found = arrays(tmp_path / "b", images="{split}/x", labels="{split}/y")
    assert {k: len(v) for k, v in found.splits.items()} == {"train": 6, "test": 2}
    assert origins(found)["test"][1] == "test/x.npy, row 1"


def test_npy_files_are_mapped_and_others_read_once(tmp_path) -> None:
    plant(tmp_path, "images.npy", contents=npy(X))
    np.savez(tmp_path / "x.npz", images=X)
    mapped = stored.values(stored.Stored(tmp_path / "images.npy"))
    assert isinstance(mapped, np.memmap)
    member = stored.Stored(tmp_path / "x.npz", "images")
    assert stored.values(member) is stored.values(stored.Stored(tmp_path / "x.npz", "images"))
    sample = arrays(tmp_path / "images.npy").splits["train"].samples[0]
    assert type(sample.image) is np.ndarray and sample.image.flags.owndata and sample.image.flags.c_contiguous
    sample.image[:] = 0  # the sample's own: the file and later samples stay
    assert arrays(tmp_path / "images.npy").splits["train"].samples[0].image.any()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_files_of_mnist(tmp_path, suffix, dot) -> None:
    pack = gzip.compress if suffix else bytes
    for word, x, y in (("t10k", X[:2], Y[:2]), ("train", X, Y)):
        plant(tmp_path, f"{word}-images{dot}idx3-ubyte{suffix}", contents=pack(idx(x)))
        plant(tmp_path, f"{word}-labels{dot}idx1-ubyte{suffix}", contents=pack(idx(y.astype(np.uint8))))
    found = arrays(tmp_path)
    assert list(found.splits) == ["train", "test"] and len(found.files) == 4
    np.testing.assert_array_equal(images(found), X[..., None])
    np.testing.assert_array_equal(images(found, "test"), X[:2, ..., None])
    assert found.splits["train"].labels.tolist() == Y.tolist()
    alone = arrays(tmp_path / f"train-images{dot}idx3-ubyte{suffix}")
    np.testing.assert_array_equal(images(alone), X[..., None])
    assert arrays(tmp_path, labels="").classes == ()


def test_of_an_idx_file_and_its_gz_one_is_read(tmp_path) -> None:
    plant(tmp_path, "train-images-idx3-ubyte", contents=idx(X))
    plant(tmp_path, "train-images-idx3-ubyte.gz", contents=gzip.compress(idx(X)))
    found = arrays(tmp_path, labels="")
    assert [path.name for path in found.files] == ["train-images-idx3-ubyte"]


@pytest.mark.parametrize(("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4")])
def test_labels_of_any_whole_numbers(tmp_path, code, dtype) -> None:
    plant(tmp_path, "train-images-idx3-ubyte", contents=idx(X))
    plant(tmp_path, "train-labels-idx1-ubyte", contents=idx(Y.astype(dtype), code))
    assert [s.label for s in samples(arrays(tmp_path))] == Y.tolist()


def test_labels_that_are_texts_or_truth_values(tmp_path) -> None:
    np.savez(tmp_path / "train.npz", images=X[:3], labels=np.array(["emu", "cat", "emu"]))
    np.savez(tmp_path / "test.npz", images=X[:2], labels=np.array(["a long name", "cat"]))
    found = arrays(tmp_path)
    assert found.classes == ("a long name", "cat", "emu")
    assert {k: v.labels.tolist() for k, v in found.splits.items()} == {"train": [2, 1, 2], "test": [0, 1]}
    assert [s.label for s in samples(found)] == [2, 1, 2]
    chosen = arrays(tmp_path, classes=["emu", "cat", "ant", "a long name"])
    assert chosen.splits["test"].labels.tolist() == [3, 1]
    np.savez(tmp_path / "b.npz", images=X, labels=Y > 0)
    assert arrays(tmp_path / "b.npz").splits["train"].labels.tolist() == (Y > 0).tolist()


def test_bool_is_stored_as_black_and_white(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", images=X > 99)
    np.testing.assert_array_equal(images(arrays(tmp_path / "a.npz", labels="")), np.where(X > 99, 255, 0)[..., None])


LAYOUTS = [
    ((6, 4, 5), "auto", "NHW"),
    ((6, 4, 5), "NHW", "NHW"),
    ((6, 3, 5), "auto", "NHW"),
    ((6, 5, 6, 3), "auto", "NHWC"),
    ((6, 5, 5, 1), "auto", "NHWC"),
    ((6, 5, 5, 7), "NHWC", "NHWC"),
    ((6, 3, 5, 5), "auto", "NCHW"),
    ((6, 1, 5, 5), "auto", "NCHW"),
    ((6, 3, 5, 3), "NCHW", "NCHW"),
    ((6, 3, 5, 3), "NHWC", "NHWC"),
    ((6, 8, 5, 5, 3), "auto", "NTHWC"),
    ((6, 8, 5, 5, 2), "NTHWC", "NTHWC"),
]


@pytest.mark.parametrize(("shape", "layout", "meant"), LAYOUTS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_layouts(tmp_path, shape, layout, meant, order) -> None:
    x = np.asarray(np.random.default_rng(1).integers(0, 256, shape, np.uint8), order=order)
    plant(tmp_path, "x.npy", contents=npy(x))
    expected = {"NHW": lambda: x[..., None], "NCHW": lambda: np.einsum("nchw->nhwc", x)}.get(meant, lambda: x)()
    found = arrays(tmp_path / "x.npy", layout=layout)
    np.testing.assert_array_equal(images(found), expected)
    assert all(sample.image.flags.c_contiguous for sample in samples(found))


@pytest.mark.parametrize(
    ("shape", "layout", "reason"),
    [
        ((6, 3, 5, 3), "auto", r"for the layout auto, which can be NHWC, NCHW, allowed are .* Name the layout"),
        ((6, 1, 5, 4), "auto", "which can be NHWC, NCHW"),
        ((6, 5, 5, 5), "auto", "for the layout auto, allowed"),
        ((6, 8, 3, 5, 5), "auto", "for the layout auto, allowed"),
        ((6, 20), "auto", "or reshape the array"),
        ((6,), "auto", "or reshape"),
        ((6, 4, 5), "NHWC", r"found shape \(6, 4, 5\) for the layout NHWC, allowed"),
        ((6, 4, 5, 3), "NHW", "for the layout NHW"),
        ((6, 0, 5), "auto", "of no size 0"),
        ((0, 4, 5), "auto", "of no size 0"),
    ],
)
def test_layouts_in_doubt_are_refused(tmp_path, shape, layout, reason) -> None:
    plant(tmp_path, "x.npy", contents=npy(np.zeros(shape, np.uint8)))
    with pytest.raises(DataError, match=reason):
        arrays(tmp_path / "x.npy", layout=layout)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint16", "int8", "<U3", "complex64"])
def test_images_of_other_types_are_refused(tmp_path, dtype) -> None:
    plant(tmp_path, "x.npy", contents=npy(np.zeros((2, 4, 4), dtype)))
    with pytest.raises(
        DataError, match=rf"x\.npy: found {dtype} of shape \(2, 4, 4\), allowed uint8 .*round\(\)\.astype"
    ):
        arrays(tmp_path / "x.npy")


class Payload:
    """Unpickled, it leaves a trace."""

    ran = False

    def __reduce__(self):
        return setattr, (Payload, "ran", True)


def test_nothing_is_unpickled(tmp_path) -> None:
    objects = np.array([Payload()] * 4).reshape(4, 1, 1)
    plant(tmp_path, "x.npy", contents=npy(objects))
    np.savez(tmp_path / "x.npz", images=X[:4], labels=objects.ravel())
    for path in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match=r"holds Python objects, which are never unpickled; save an array"):
            arrays(tmp_path / path)
    assert not Payload.ran


WRONG = {
    "no array": (
        {"images": X, "label": Y},
        {},
        r"labels: found no array 'labels', there are images, label\. Did.*for none",
    ),
    "no images": (
        {"image": X},
        {},
        r"images: found no array 'images', there are image\. Did you mean 'image'\? Correct `im",
    ),
    "no split": (
        {"a": X},
        {"images": "x_{split}"},
        r"found nothing named 'x_\{split\}', where .* train, .* Correct `images`",
    ),
    "two": (
        {"val": X, "dev": X},
        {"images": "{split}", "labels": ""},
        r"both 'val' and 'dev', allowed one .* rename the ar",
    ),
    "one-hot": (
        {"images": X, "labels": np.eye(6)},
        {},
        r"found labels float64 of shape \(6, 6\), .*`labels\.argmax\(1\)`",
    ),
    "too few": (
        {"images": X, "labels": Y[:5]},
        {},
        r"labels: found labels int64 of shape \(5,\), allowed .* \(6,\), one fo",
    ),
    "floats": (
        {"images": X, "labels": Y * 1.0},
        {},
        r"found labels float64 of shape \(6,\), allowed whole numbers or texts",
    ),
    "negative": (
        {"images": X, "labels": Y - 1},
        {},
        r"labels: found -1 to 1, allowed 0 to 99,999, as they number the clas",
    ),
    "numbers": ({"images": X, "labels": Y * 10**6}, {}, r"found 0 to 2000000, .*return_inverse"),
    "many": (
        {"images": X, "labels": Y},
        {"classes": ["a", "b"]},
        r"found labels from 0 to 2, allowed 0 to 1, one for each",
    ),
    "stranger": (
        {"images": X, "labels": np.array(list("abcabc"))},
        {"classes": ["a", "b"]},
        r"found labels c, allowed are",
    ),
}


@pytest.mark.parametrize(("contents", "options", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path, contents, options, message) -> None:
    np.savez(tmp_path / "file.npz", **contents)
    with pytest.raises(DataError, match=message):
        arrays(tmp_path / "file.npz", **options)


def test_texts_and_numbers_as_labels_do_not_mix(tmp_path) -> None:
    np.savez(tmp_path / "train.npz", images=X, labels=Y.astype(str))
    np.savez(tmp_path / "test.npz", images=X, labels=Y)
    with pytest.raises(DataError, match=r"labels: found texts in train alone, allowed in all splits or none"):
        arrays(tmp_path)


FOLDERS = {
    "empty": (
        [],
        r"found no arrays, allowed either images\.npy and labels\.npy; or train\.npz.*train-images-idx3-ubyte",
    ),
    "other npz": (
        ["train.npz", "extra.npz"],
        r"found extra\.npz, allowed train\.npz, validation\.npz and test\.npz\. Rename",
    ),
    "two npz": (["val.npz", "dev.npz"], r"both 'dev' and 'val', allowed one of them"),
    "two formats": (
        ["train.npz", "images.npy", "labels.npy"],
        r"found arrays in \.npy files and an \.npz file for each spl",
    ),
    "other npy": (["x.npy"], r"images: found no array 'images', there are x\."),
    "no labels": (
        ["images.npy"],
        r"labels: found no array 'labels', there are images\..*Correct `labels` \(`labels: \"\"",
    ),
    "idx images": (
        ["train-images-idx3-ubyte"],
        r"found the idx file of the images of train alone, allowed images and lab",
    ),
    "idx labels": (["t10k-labels-idx1-ubyte.gz"], r"found the idx file of the labels of test alone"),
}


@pytest.mark.parametrize(("names", "message"), FOLDERS.values(), ids=FOLDERS)
def test_folders_that_are_not_understood_are_refused(tmp_path, names, message) -> None:
    for name in names:
        np.savez(tmp_path / name, images=X, labels=Y) if name.endswith("npz") else plant(tmp_path, name)
    with pytest.raises(DataError, match=message):
        arrays(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path) -> None:
    np.savez(tmp_path / "train.npz", images=X, labels=Y)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.npz").symlink_to("../train.npz")
    with pytest.raises(DataError, match=r"train\.npz: is a symbolic link to .*outside"):
        arrays(tmp_path / "data")


def test_a_file_may_be_reached_through_a_link(tmp_path) -> None:
    """As DVC leaves it, which keeps the file under its checksum as its name."""
    np.savez(tmp_path / "cached.npz", images=X, labels=Y)
    (tmp_path / "cached.npz").rename(tmp_path / "d41d8cd9")
    (tmp_path / "toys.npz").symlink_to("d41d8cd9")
    found = arrays(tmp_path / "toys.npz")
    assert found.files == (tmp_path / "toys.npz",) and found.source.name == "toys"
    assert origins(found)["train"][0] == "toys.npz, images, row 0"


def test_a_path_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"gone\.npz: found nothing, allowed a folder"):
        arrays(tmp_path / "gone.npz")


def zipped(contents: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", contents)
    return file.getvalue()


GOOD = {"x.npy": npy(X), "x.npz": zipped(npy(X)), "x-idx3-ubyte": idx(X), "x-idx3-ubyte.gz": gzip.compress(idx(X))}


@pytest.mark.parametrize("name", GOOD)
def test_no_file_that_is_cut_short_or_too_long_is_read(tmp_path, name) -> None:
    for cut in [0, 1, 3, 4, 9, 15, *range(20, len(GOOD[name]) - 1, 7), len(GOOD[name]) - 1]:
        path = plant(tmp_path / str(cut), name, contents=GOOD[name][:cut]) / name
        with pytest.raises(DataError, match=rf"{name}.*: is not readable as an array: .+\. Allowed are"):
            images(arrays(path, labels=""))
    if not name.endswith((".npz", ".gz")):
        with pytest.raises(DataError, match=r"its header tells of 120 bytes, and 123 follow"):
            arrays(plant(tmp_path, name, contents=GOOD[name] + b"end") / name)


@pytest.mark.parametrize("contents", [idx(X)[:-1], idx(X) + b"0"])
def test_a_gzipped_idx_file_must_hold_what_its_header_says(tmp_path, contents) -> None:
    path = plant(tmp_path, "x.gz", contents=gzip.compress(contents)) / "x.gz"
    with pytest.raises(DataError, match=r"x\.gz: is not readable as an array: cannot reshape"):
        images(arrays(path))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_no_flipped_byte_raises_anything_but_a_clear_error(tmp_path_factory, name, data) -> None:
    """An .npz and a .gz carry checksums of their contents; an .npy and an idx file do not."""
    position = data.draw(st.integers(0, len(GOOD[name]) - 1))
    flip = data.draw(st.integers(1, 255))
    contents = bytearray(GOOD[name])
    contents[position] ^= flip
    path = plant(tmp_path_factory.mktemp("flip"), name, contents=bytes(contents)) / name
    try:
        found = images(arrays(path, labels=""))
    except DataError as error:
        assert name in str(error)  # noqa: PT017
    else:
        if name.endswith((".npz", ".gz")):
            np.testing.assert_array_equal(found, X[..., None])


def test_a_header_that_lies_takes_no_memory(tmp_path) -> None:
    huge = struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**15, 2**15)
    lies = {
        "x-idx3-ubyte.gz": gzip.compress(huge + bytes(100)),
        "y-idx3-ubyte": huge + bytes(100),
        "z.npz": zipped(npy(X).replace(b"(6, 4, 5)", b"(6000000000000, 4, 5)")),
        "z.npy": npy(X).replace(b"(6, 4, 5), }" + b" " * 12, b"(6000000000000, 4, 5), }"),
    }
    for name, contents in lies.items():
        with pytest.raises(DataError, match=rf"{name}.*: is not readable as an array"):
            arrays(plant(tmp_path, name, contents=contents) / name, labels="").splits["train"].samples[0]


def test_a_file_of_another_format_is_refused(tmp_path) -> None:
    with pytest.raises(
        DataError, match=r"0\.png: is not readable .*: it is neither \.npy nor \.npz by its name nor an idx f"
    ):
        arrays(plant(tmp_path, "0.png") / "0.png")


def test_another_process_reads_the_same_from_a_small_pickle(tmp_path) -> None:
    big = np.random.default_rng(2).integers(0, 256, (2000, 8, 8), np.uint8)
    np.savez(tmp_path / "train.npz", images=big, labels=np.arange(2000) % 7)
    found = arrays(tmp_path)
    assert len(pickle.dumps(found.splits["train"].samples)) < 1000
    chosen = found.splits["train"].select(np.arange(10, 20))
    assert len(pickle.dumps(chosen)) < 2000 and chosen.samples[3].label == 13 % 7
    assert same(read_elsewhere(found, "train", 1234), found.splits["train"].samples[1234])


def test_binarized_mnist_is_the_published_one_or_nothing(tmp_path) -> None:
    with pytest.raises(DataError, match=r"binarized_mnist_train\.amat: cannot be read: No such file"):
        binarized_mnist(tmp_path)
    plant(tmp_path, "binarized_mnist_train.amat", contents=b" ".join([b"0"] * 784) + b"\n")
    with pytest.raises(
        DataError, match=r"train\.amat: found sha256 [0-9a-f]{12}\.\.\., allowed ad693b29f94c.* Fetch the orig"
    ):
        binarized_mnist(tmp_path)
