"""What the computed data sets share: sample k of a split is a pure function of (seed, split, k).

Every sample is drawn from a generator of its own. So any process can compute any sample alone, in any order, and
asking for more samples only adds some at the end: the ones before stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from gen.data.sample import Collection, Listed, Sample, Source, Split
from gen.errors import DataError

_SPLITS = ("train", "validation", "test")


def generator(seed: int, split: str, k: int) -> np.random.Generator:
    """The generator of sample ``k``; no two (seed, split, k) share one."""
    return np.random.default_rng([seed, _SPLITS.index(split), k])


def generated(
    source: Source,
    sizes: Mapping[str, int],
    sample: Callable[[str, int], Sample],
    *,
    label: Callable[[str, int], int] | None = None,
    classes: Sequence[str] = (),
    attributes: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> Collection:
    """A data set whose samples are computed when they are asked for.

    Args:
        source: what it is.
        sizes: number of samples of each split; a split of 0 samples is left out.
        sample: (split, k) -> its k-th sample; a function that can be pickled.
        label: (split, k) -> the label of that sample, found without drawing the picture.
        classes: names of the labels.
        attributes: names of the attributes.
        files: what the samples are made from, if not from numbers alone.

    Raises:
        DataError: there are no samples, or a negative number of them.
    """
    found = ", ".join(f"{name}: {size}" for name, size in sizes.items())
    check(source.name, min(sizes.values()) >= 0 < sum(sizes.values()), found, "0 or more samples, and at least one")
    splits = {}
    for name, size in sizes.items():
        if size:
            known = None if label is None else np.array([label(name, k) for k in range(size)], np.int64)
            splits[name] = Split(Listed(range(size), partial(sample, name)), known)
    return Collection(source, splits, tuple(classes), tuple(attributes), tuple(files))


def check(name: str, possible: bool, found: str, allowed: str) -> None:
    """Raise :class:`DataError` unless the options of the data set ``name`` are possible."""
    if not possible:
        raise DataError(f"{name}: options: found {found}; allowed {allowed}. Change it in params.yaml.")
