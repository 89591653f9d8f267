"""Tiny data sets for the tests of the data layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds

from gen.data.sample import Arrays, Collection, Pixels, Source, Split, in_memory

SOURCE = Source("tiny", "random numbers", "none", "nobody")


def tiny(
    counts: dict[str, int] | None = None, shape: tuple[int, ...] = (4, 4, 1), classes: int = 3, seed: int = 0
) -> Collection:
    """Random images (H, W, C) and labels; by default 15 in one split, ``train``."""
    rng = np.random.default_rng(seed)
    splits = {
        name: Arrays(
            rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, classes, count) if classes else None
        )
        for name, count in (counts or {"train": 15}).items()
    }
    return in_memory(SOURCE, splits, classes=[f"class {k}" for k in range(classes)])


def images_of(split: Split) -> Pixels:
    """All images of a split of a data set in memory."""
    return np.stack([split.samples[k].image for k in range(len(split))])


def with_webdataset(folder: Path) -> list[dict[str, Any]]:
    """The samples of a split as stock WebDataset reads and decodes them."""
    tars = [str(path) for path in sorted(folder.glob("*.tar"))]
    return list(wds.WebDataset(tars, shardshuffle=False).decode())


def tree(root: Path) -> dict[str, bytes]:
    """Every file below ``root``, by its relative name."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
