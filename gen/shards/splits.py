"""Cutting a data set into train, validation and test: deterministic, and with the classes in equal shares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import Split
from gen.errors import RecipeError

_FROM = "train"
_SEED = 0


def check_names(names: Iterable[str]) -> None:
    """Raise :class:`RecipeError` unless splits can be called so: their names become those of folders."""
    for name in names:
        if not re.fullmatch(r"\w[\w-]*", name):
            raise RecipeError(
                f"splits: found a split '{name}', allowed are names of letters, digits, _ and -. Rename it."
            )


def carve(splits: Mapping[str, Split], sizes: Mapping[str, float]) -> dict[str, Split]:
    """Take further splits out of ``train``; what is not taken stays there.

    Every class gives its share, rounded by largest remainders, so that the sizes are exact. Samples keep their order.
    The same data and sizes give the same splits; a sample's place does not depend on the splits named after it.

    Args:
        splits: as the source gives them.
        sizes: by name of the new split, its samples: a number of them from 1 on, or a share of ``train`` below 1.

    Raises:
        RecipeError: a size is impossible, or the source has a split of that name.
    """
    if not sizes:
        return dict(splits)
    if _FROM not in splits:
        raise RecipeError(f"splits: found no split '{_FROM}' to take others from; the source has {', '.join(splits)}.")
    whole, counts = splits[_FROM], {}
    for name, size in sizes.items():
        if name in splits:
            raise RecipeError(f"splits.{name}: the source has a split '{name}' of its own. Remove it from `splits`.")
        if not 0 < size < 1 and size % 1:  # also infinite, or not a number
            raise RecipeError(f"splits.{name}: found {size}; give a whole number of samples, or a share below 1.")
        counts[name] = round(size * len(whole)) if 0 < size < 1 else int(size)
        if counts[name] < 1:
            raise RecipeError(
                f"splits.{name}: found {size}, which is {counts[name]} of {len(whole)} samples; allowed 1 or more."
            )
    if sum(counts.values()) >= len(whole):
        raise RecipeError(f"splits: found {counts}; '{_FROM}' has {len(whole)} samples and must keep at least one.")

    labels = np.zeros(len(whole), np.int64) if whole.labels is None else whole.labels
    rng = np.random.default_rng(_SEED)
    waiting = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    carved = {}
    for name, count in counts.items():
        shares = _shares(np.array([len(rows) for rows in waiting]), count)
        carved[name] = whole.select(np.sort(np.concatenate([r[:k] for r, k in zip(waiting, shares, strict=True)])))
        waiting = [rows[k:] for rows, k in zip(waiting, shares, strict=True)]
    return {**splits, _FROM: whole.select(np.sort(np.concatenate(waiting))), **carved}


def _shares(available: NDArray[np.int64], count: int) -> list[int]:
    """How many of ``count`` each class gives: proportional, whole, and exact in sum (largest remainders)."""
    shares, remainders = np.divmod(available * count, available.sum())
    shares[np.argsort(-remainders, kind="stable")[: count - int(shares.sum())]] += 1
    return [int(share) for share in shares]
