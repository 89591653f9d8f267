"""Which sample comes when: a pure function, so that a resume is arithmetic and not replay.

The samples of a split form an endless sequence: epoch 0 in a random order, then epoch 1 in another, and so on. A
position in that sequence is the number of images seen. What lies at a position depends on the seed and the size of
the split only - not on the batch size, the number of processes or where training was interrupted.
"""

from __future__ import annotations

from functools import lru_cache

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
    if min(seed, position, count) < 0 or size < 1:
        raise RecipeError(
            f"order: found seed {seed}, position {position}, count {count}, size {size}; "
            "allowed are a size of at least 1 and others of at least 0."
        )
    pieces, end = [np.empty(0, np.int64)], position + count
    while position < end:
        epoch, start = divmod(position, size)
        piece = order(seed, epoch, size)[start : start + end - position]
        pieces.append(piece)
        position += len(piece)
    return np.concatenate(pieces)


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
