"""Binarised MNIST, fixed: the text files on which likelihoods of binary images have been compared since 2008.

    PATH/binarized_mnist_train.amat    50,000 lines of 784 bits, with a space between two
    PATH/binarized_mnist_valid.amat    10,000
    PATH/binarized_mnist_test.amat     10,000

They are text despite the suffix, which is MATLAB's.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from gen.data.sample import Collection, Listed, Pixels, Sample, Source, Split
from gen.errors import DataError
from gen.sources.common.listing import directory, read_file

# A likelihood can be compared only on the very same bits.
_FILES = {
    "train": ("binarized_mnist_train.amat", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
    "validation": ("binarized_mnist_valid.amat", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
    "test": ("binarized_mnist_test.amat", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
}
_SOURCE = Source(
    name="binarized_mnist",
    origin="MNIST, each pixel drawn once with its grey value as probability, by Salakhutdinov and Murray; the text "
    "files of Larochelle, split 50,000 / 10,000 / 10,000, without labels",
    licence="not stated; MNIST, of which it is made, is commonly attributed CC BY-SA 3.0",
    citation="Salakhutdinov, Murray: On the quantitative analysis of deep belief networks. ICML 2008; "
    "Larochelle, Murray: The neural autoregressive distribution estimator. AISTATS 2011",
)


def binarized_mnist(path: Path) -> Collection:
    """The 70,000 images, (28, 28, 1) of 0 and 255, in the order of the files; no labels.

    Args:
        path: the folder with the three files.

    Raises:
        DataError: a file is missing, or is not the published one.
    """
    root = directory(path)
    splits = {split: Split(Listed(range(len(_bits(root, split))), partial(_read, root, split))) for split in _FILES}
    return Collection(_SOURCE, splits, files=tuple(path / name for name, _ in _FILES.values()))


@lru_cache(maxsize=len(_FILES))
def _bits(root: Path, split: str) -> Pixels:
    """All images of a split, (N, 28, 28, 1), 0 or 255; checked and parsed once in a process."""
    name, expected = _FILES[split]
    text = read_file(root, name)
    found = hashlib.sha256(text).hexdigest()
    if found != expected:
        raise DataError(
            f"{root / name}: found sha256 {found[:12]}..., allowed {expected[:12]}..., that of the published file: "
            "it is damaged, or another edition. Fetch the original again."
        )
    # The checksum vouches for the format: lines of 784 times a digit and a blank or the line feed.
    digits = np.frombuffer(text, np.uint8).reshape(-1, 28, 28, 2)[..., :1]
    return (digits - ord("0")) * np.uint8(255)


def _read(root: Path, split: str, row: int) -> Sample:
    return Sample(image=_bits(root, split)[row], origin=f"{_FILES[split][0]}, line {row + 1}")
