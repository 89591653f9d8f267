"""Which sample comes when: a pure function, so that a resume is arithmetic and not replay.

The samples of a split form an endless sequence: epoch 0 in a random order, then epoch 1 in another, and so on. A
position in that sequence is the number of images seen. What lies at a position depends on the seed and the size of
the split only - not on the batch size, the number of processes or where training was interrupted. Other orders than
this one are in :mod:`gen.data.draws`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from gen.errors import RecipeError


@lru_cache(maxsize=8)
def order(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """The order of ``epoch``: a permutation of 0 ... size - 1, read-only.

    Args:
        seed: 0 or more.
        epoch: 0 or more.
        size: number of samples in the split.
    """
    permutation = np.random.default_rng([seed, epoch]).permutation(size)
    permutation.flags.writeable = False
    return permutation


def indices(seed: int, position: int, count: int, size: int) -> NDArray[np.int64]:
    """The samples at positions ``position`` ... ``position + count - 1`` of the endless sequence, (count,).

    They may cross the end of one or more epochs. Raises :class:`RecipeError` for a negative argument or no samples.
    """
    if seed < 0 or size < 1:
        raise RecipeError(f"order: found seed {seed} and {size} samples, allowed a seed from 0 and at least 1 sample.")
    return cut(partial(order, seed, size=size), size, position, count)


def cut(piece: Callable[[int], NDArray[np.int64]], length: int, position: int, count: int) -> NDArray[np.int64]:
    """Cut a stretch out of an endless sequence that is made of pieces.

    Args:
        piece: the pieces by number, each of them (length,).
        length: of a piece.
        position: where the stretch begins.
        count: its length.

    Returns:
        int64 (count,), a copy.

    Raises:
        RecipeError: ``position`` or ``count`` is negative.
    """
    check_stretch(position, count)
    stretch, filled = np.empty(count, np.int64), 0
    while filled < count:
        number, start = divmod(position + filled, length)
        part = piece(number)[start : start + count - filled]
        stretch[filled : filled + len(part)] = part
        filled += len(part)
    return stretch


def check_stretch(position: int, count: int) -> None:
    """Raise :class:`RecipeError` unless there are positions ``position`` ... ``position + count - 1``."""
    if min(position, count) < 0:
        raise RecipeError(f"order: found position {position} and count {count}, allowed are both from 0.")


def slice_of(count: int, part: int, parts: int) -> slice:
    """Which of ``count`` samples belong to ``part`` when they are dealt out in ``parts`` equal, contiguous slices.

    Raises:
        RecipeError: the slices would not be equal, or there is no such part.
    """
    if parts < 1 or count % parts:
        raise RecipeError(
            f"batch: {count} images cannot be cut into {parts} equal slices. "
            f"Use a batch size that is a multiple of {max(parts, 1)}."
        )
    if not 0 <= part < parts:
        raise RecipeError(f"part: found {part}, allowed 0 to {parts - 1}.")
    share = count // parts
    return slice(part * share, (part + 1) * share)
