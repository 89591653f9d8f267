"""Which sample comes when, in other orders than a plain shuffle. All of them are pure functions of the position.

    shuffle          every sample once in an epoch, in random order
    blocks(K)        the same for streams: the shards of an epoch come in random order, K of them at a time are a block,
                     and samples are shuffled within a block, so that no more than K shards need to be at hand
    balanced         each of the C classes once in every window of C draws; within a class, every sample once before
                     any comes again
    weighted(NAME)   with replacement, in proportion to the attribute NAME

A position is the number of images seen. What lies there depends on the seed and on the data, not on the batch size,
the number of processes or where training was interrupted; to find it costs at most one permutation of an epoch, a
block or a chunk, of which the latest few are kept. Arithmetic is on integers, exact to position 2^60 and beyond.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gen.data.order import check_stretch, cut, order
from gen.errors import RecipeError, nearest

KINDS = ("shuffle", "blocks", "balanced", "weighted")
CHUNK = 4096  # draws made at once where there are no epochs

Rows = NDArray[np.int64]


class Order(Protocol):
    """An endless sequence of samples with random access. Threads may share it."""

    def rows(self, position: int, count: int) -> Rows:
        """The samples at ``position`` ... ``position + count - 1``, int64 (count,).

        Raises:
            RecipeError: an argument is negative.
        """
        ...


@dataclass(frozen=True, slots=True)
class Draw:
    """One of the orders above. Build it with :meth:`parse`.

    Attributes:
        kind: the name without its argument, e.g. ``"blocks"``.
        shards: the K of ``blocks(K)``, otherwise 0.
        attribute: the NAME of ``weighted(NAME)``, otherwise empty.
    """

    kind: str
    shards: int = 0
    attribute: str = ""

    @classmethod
    def parse(cls, text: str) -> Draw:
        """``"shuffle"``, ``"blocks(8)"``, ... Raises :class:`RecipeError` for anything else."""
        match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", text.strip())
        kind, argument = match.groups() if match else (text, None)
        match kind, argument:
            case (("shuffle" | "balanced"), None):
                return cls(kind)
            case "blocks", str() if argument.isdecimal() and int(argument) >= 1:
                return cls(kind, shards=int(argument))
            case "weighted", str() if argument.strip():
                return cls(kind, attribute=argument.strip())
        raise RecipeError(
            f"draw: found '{text}', allowed: shuffle, blocks(K) with K of at least 1 shard, balanced, "
            f"weighted(NAME) with the name of an attribute.{nearest(kind, KINDS) if kind not in KINDS else ''}"
        )

    def __str__(self) -> str:
        return {"blocks": f"blocks({self.shards})", "weighted": f"weighted({self.attribute})"}.get(self.kind, self.kind)

    def over(
        self,
        shard_sizes: Sequence[int],
        *,
        seed: int,
        labels: Rows | None = None,
        weights: NDArray[np.floating] | None = None,
        classes: Sequence[str] = (),
    ) -> Order:
        """The order of the samples of a split.

        Args:
            shard_sizes: samples in each shard, in the order of the samples.
            seed: 0 or more.
            labels: int64 (N,), for ``balanced``.
            weights: (N,), the values of the attribute that ``weighted`` names.
            classes: their names, for messages; where it is missing, the largest label says how many there are.

        Raises:
            RecipeError: the split lacks what the order needs, or cannot be drawn from like that.
        """
        size = sum(shard_sizes)
        if seed < 0 or size < 1 or min(shard_sizes) < 0:
            raise RecipeError(
                f"draw: found seed {seed} and {size} samples in {len(shard_sizes)} shards, allowed a seed from 0 and "
                "at least 1 sample."
            )
        match self.kind:
            case "blocks":
                return Blocks(seed, shard_sizes, self.shards)
            case "balanced":
                if labels is None or len(labels) != size:
                    found = "no labels" if labels is None else f"{len(labels)} labels for {size} samples"
                    raise RecipeError(f"draw: balanced needs a label for every sample, found {found}. Use shuffle.")
                return Balanced(seed, labels, classes)
            case "weighted":
                if weights is None or len(weights) != size:
                    found = "none" if weights is None else f"{len(weights)} for {size} samples"
                    raise RecipeError(
                        f"draw: {self} needs the attribute '{self.attribute}' of every sample, found {found}. "
                        "Name one that the data have (`gen data inspect`), or use shuffle."
                    )
                return Weighted(seed, weights, str(self))
            case _:
                return Shuffled(seed, size)


class Shuffled:
    """``shuffle``: one permutation of all samples after another, those of :func:`gen.data.order.order`."""

    def __init__(self, seed: int, size: int) -> None:
        self._seed, self._size = seed, size

    def rows(self, position: int, count: int) -> Rows:
        """See :class:`Order`."""
        return cut(lambda epoch: order(self._seed, epoch, self._size), self._size, position, count)


class Blocks:
    """``blocks(K)``: an epoch is a permutation of all samples in which K shards are mixed at a time."""

    def __init__(self, seed: int, shard_sizes: Sequence[int], shards: int) -> None:
        """Args are those of :meth:`Draw.over`, and ``shards``, the K."""
        self._seed, self._shards = seed, shards
        self._sizes = np.array(shard_sizes, np.int64)
        self._starts = self._sizes.cumsum() - self._sizes
        self._size = int(self._sizes.sum())
        self._epoch = lru_cache(maxsize=4)(self._plan)
        self._block = lru_cache(maxsize=4)(self._shuffle)

    def rows(self, position: int, count: int) -> Rows:
        """See :class:`Order`."""
        pieces = [self._block(epoch, block)[part] for epoch, block, part in self._visit(position, count)]
        return np.concatenate([np.empty(0, np.int64), *pieces])

    def shards(self, position: int, count: int) -> Rows:
        """The shards that hold the blocks of these positions, in the order in which they will be needed."""
        blocks = dict.fromkeys((epoch, block) for epoch, block, _ in self._visit(position, count))
        shards = [shard for epoch, block in blocks for shard in self._members(epoch, block).tolist()]
        return np.array(list(dict.fromkeys(shards)), np.int64)

    def _visit(self, position: int, count: int) -> list[tuple[int, int, slice]]:
        """The stretches of blocks that a stretch of positions is made of: epoch, block, and which part of it."""
        check_stretch(position, count)
        visits, end = [], position + count
        while position < end:
            epoch, start = divmod(position, self._size)
            _, ends = self._epoch(epoch)
            block = int(np.searchsorted(ends, start, side="right"))  # the first that ends beyond: none that is empty
            begin = int(ends[block - 1]) if block else 0
            stop = min(int(ends[block]), start + end - position)
            visits.append((epoch, block, slice(start - begin, stop - begin)))
            position += stop - start
        return visits

    def _plan(self, epoch: int) -> tuple[Rows, Rows]:
        """The order of the shards in an epoch, (S,), and where its blocks end, (ceil(S / K),)."""
        shards = np.random.default_rng([self._seed, epoch, 1]).permutation(len(self._sizes))
        return shards, np.add.reduceat(self._sizes[shards], np.arange(0, len(shards), self._shards)).cumsum()

    def _members(self, epoch: int, block: int) -> Rows:
        return self._epoch(epoch)[0][block * self._shards : (block + 1) * self._shards]

    def _shuffle(self, epoch: int, block: int) -> Rows:
        """The samples of a block in random order."""
        ranges = [np.arange(self._starts[s], self._starts[s] + self._sizes[s]) for s in self._members(epoch, block)]
        return np.random.default_rng([self._seed, epoch, 2 + block]).permutation(np.concatenate(ranges))


class Balanced:
    """``balanced``: windows of C draws with every class once; the w-th window takes the w-th draw of each class."""

    def __init__(self, seed: int, labels: Rows, classes: Sequence[str]) -> None:
        """Args are those of :meth:`Draw.over`. Raises :class:`RecipeError` if a class is empty."""
        count = len(classes) or int(labels.max()) + 1
        sizes = np.bincount(labels, minlength=count)
        if empty := [str(classes[k]) if classes else str(k) for k in range(count) if not sizes[k]]:
            raise RecipeError(
                f"draw: balanced needs a sample of every class; {len(empty)} of {count} have none: "
                f"{', '.join(empty[:10])}{', ...' if len(empty) > 10 else ''}. Use shuffle, or leave the classes out."
            )
        self._seed, self._classes = seed, count
        self._members = np.split(np.argsort(labels, kind="stable"), sizes.cumsum()[:-1])
        self._windows = max(1, CHUNK // count)  # in a chunk
        self._chunk = lru_cache(maxsize=2)(self._draw)
        self._epoch = lru_cache(maxsize=2 * count)(self._shuffle)

    def rows(self, position: int, count: int) -> Rows:
        """See :class:`Order`."""
        return cut(self._chunk, self._windows * self._classes, position, count)

    def _draw(self, chunk: int) -> Rows:
        rng = np.random.default_rng([self._seed, chunk, 1])
        draws = np.stack([self._draws(k, chunk * self._windows) for k in range(self._classes)], axis=1)
        return rng.permuted(draws, axis=1).ravel()

    def _draws(self, k: int, first: int) -> Rows:
        """The draws of class ``k`` in a chunk whose first window has the number ``first``, (windows,)."""
        return cut(lambda epoch: self._epoch(k, epoch), len(self._members[k]), first, self._windows)

    def _shuffle(self, k: int, epoch: int) -> Rows:
        return np.random.default_rng([self._seed, epoch, 2 + k]).permutation(self._members[k])


class Weighted:
    """``weighted(NAME)``: independent draws, by inverting the distribution function (Devroye 1986, section III.2)."""

    def __init__(self, seed: int, weights: NDArray[np.floating], name: str) -> None:
        """Args are those of :meth:`Draw.over`. Raises :class:`RecipeError` if they are no weights."""
        if not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
            raise RecipeError(
                f"draw: {name}: found values from {weights.min()} to {weights.max()}, allowed are finite weights of at "
                "least 0, and more than 0 for one sample. Choose another attribute, or use shuffle."
            )
        self._seed = seed
        self._below = (weights.astype(np.float64) / weights.max()).cumsum()
        self._chunk = lru_cache(maxsize=2)(self._draw)

    def rows(self, position: int, count: int) -> Rows:
        """See :class:`Order`."""
        return cut(self._chunk, CHUNK, position, count)

    def _draw(self, chunk: int) -> Rows:
        uniform = np.random.default_rng([self._seed, chunk, 1]).random(CHUNK)
        return np.searchsorted(self._below, uniform * self._below[-1], side="right").astype(np.int64)
