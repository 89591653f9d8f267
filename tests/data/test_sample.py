"""What a source may give, and what of it can be chosen."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen.data.sample import Arrays, Collection, Drawn, Listed, Sample, Split, Subset, in_memory
from gen.errors import DataError
from tests.data.tiny import SOURCE
from tests.shards.rich import arrays_of, filed, photos, rich

IMAGES = np.zeros((2, 4, 4, 1), np.uint8)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((2, 4, 4), np.uint8), r"uint8 of shape \(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 1), np.float32), "float32"),
        (np.zeros((0, 4, 4, 1), np.uint8), r"uint8 of shape \(0, 4, 4, 1\)"),
        (np.zeros((2, 0, 4, 1), np.uint8), r"uint8 of shape \(2, 0, 4, 1\)"),
    ],
)
def test_arrays_that_are_not_images_are_refused(images: np.ndarray, found: str) -> None:
    with pytest.raises(DataError, match=rf"images: found {found}.*allowed uint8 of shape"):
        Arrays(images)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("labels", np.zeros(3, np.int64)),
        ("targets", np.zeros((1, 2, 2, 1), np.uint8)),
        ("captions", ["one"]),
        ("attributes", np.zeros((3, 1))),
    ],
)
def test_every_image_has_its_fields(field: str, values: object) -> None:
    with pytest.raises(DataError, match=rf"{field}: found [13] for 2 images; each image needs one"):
        Arrays(IMAGES, **{field: values})


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.zeros(2, np.int64), [], "labels and the names of the classes come together"),
        (None, ["a"], "found no labels and 1 classes"),
        (np.array([0, 2]), ["a", "b"], "found labels from 0 to 2, allowed 0 to 1"),
        (np.array([-1, 0]), ["a", "b"], "found labels from -1 to 0"),
        (np.zeros(2), ["a"], r"found labels float64 of shape \(2,\)"),
        (np.zeros((2, 1), np.int64), ["a"], r"found labels int64 of shape \(2, 1\)"),
    ],
)
def test_labels_that_are_not_those_of_the_classes_are_refused(labels, classes, message: str) -> None:
    with pytest.raises(DataError, match=rf"tiny: splits\.train: {message}|{message}"):
        in_memory(SOURCE, {"train": Arrays(IMAGES, labels)}, classes=classes)


def test_a_split_without_samples_is_refused() -> None:
    for splits in ({}, {"train": Split(Listed([], len))}):
        with pytest.raises(DataError, match="allowed at least one sample in every split"):
            Collection(SOURCE, splits)


def same(a: Sample, b: Sample) -> bool:
    pictures = all(
        (x is None) == (y is None) and (x is None or np.array_equal(x, y))
        for x, y in ((a.image, b.image), (a.target, b.target))
    )
    return pictures and (a.label, a.caption, a.attributes, a.origin) == (b.label, b.caption, b.attributes, b.origin)


@given(
    first=st.lists(st.integers(0, 14), min_size=1, max_size=20),
    then=st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
    listed=st.booleans(),
)
def test_some_of_some_samples(first: list[int], then: list[int], listed: bool) -> None:
    raw = filed(photos(15), [k % 3 for k in range(15)]) if listed else rich()
    whole = raw.splits["train"]
    second = [k % len(first) for k in then]
    chosen = whole.select(np.array(first)).select(np.array(second))
    rows = [first[k] for k in second]
    assert len(chosen) == len(rows)
    assert chosen.labels.tolist() == whole.labels[rows].tolist()
    assert all(same(chosen.samples[k], whole.samples[row]) for k, row in enumerate(rows))
    travelled = pickle.loads(pickle.dumps(chosen))
    assert all(same(travelled.samples[k], whole.samples[row]) for k, row in enumerate(rows))


def test_what_is_not_chosen_does_not_travel() -> None:
    """A shard is written by a process of its own, which is sent the samples: not the data set once more."""
    arrays = Arrays(np.zeros((1000, 28, 28, 1), np.uint8), np.zeros(1000, np.int64))
    for split in (Split(arrays, arrays.labels), filed(photos(1000, (1, 1, 3))).splits["train"]):
        whole = len(pickle.dumps(split))
        for rows in (np.arange(100, 200), np.arange(0, 1000, 10)):
            assert len(pickle.dumps(split.select(rows))) < whole / 5


def test_subsets_do_not_pile_up() -> None:
    arrays = arrays_of(rich())
    samples = Split(Subset(arrays, np.arange(15)), None).select(np.arange(9)).select(np.arange(3)).samples
    assert not isinstance(samples, Subset) or not isinstance(samples.samples, Subset)


def test_the_same_of_every_field_of_a_batch() -> None:
    drawn = Drawn(torch.zeros(2), captions=torch.ones(2)).map(lambda field: field + 1)
    assert drawn.images.tolist() == [1, 1] and drawn.captions.tolist() == [2, 2]
    assert (drawn.labels, drawn.targets, drawn.attributes) == (None, None, None)
