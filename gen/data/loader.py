"""Batches for training and evaluation.

The clock is images seen: at ``position`` the global batch is the next ``batch`` samples of an endless sequence (see
:mod:`gen.data.draws`), cut into ``of`` equal slices. A process handles the slices named in ``parts``, so the global
batch is the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from gen.data.draws import Draw, Order
from gen.data.order import slice_of
from gen.data.reader import Reader
from gen.data.sample import Drawn
from gen.errors import RecipeError


class Loader:
    """An endless iterator over a process's slices of the global batches, from ``position`` on.

    It yields the slices of one global batch in the order of ``parts``, then those of the next. Each is (images, uint8
    (batch / of, C, H, W); labels, int64 (batch / of,) or ``None``).

    Attributes:
        position: images that all processes together have drawn before the slice that comes next.
    """

    def __init__(
        self,
        reader: Reader,
        order: Order,
        *,
        batch: int,
        parts: Sequence[int],
        of: int,
        position: int = 0,
        prefetch: int = 0,
        threads: int = 1,
    ) -> None:
        """Args are those of the module's docstring, and:

        Args:
            reader: where the samples come from.
            order: which sample comes when.
            batch: images in a global batch.
            parts: the slices of this process.
            of: the number of slices.
            position: where to start; after an interruption, the images seen before it.
            prefetch: global batches to read ahead in threads; of use with a reader that is not resident.
            threads: that read ahead. What is drawn does not depend on them.

        Raises:
            RecipeError: the batch cannot be cut like that.
        """
        if batch < 1 or not parts:
            raise RecipeError(f"batch: found {batch} images in the parts {list(parts)}, allowed 1 or more of each.")
        self._reader, self._order, self._batch = reader, order, batch
        self._slices = {part: slice_of(batch, part, of) for part in parts}
        self._parts, self._turn = tuple(parts), 0
        self.position = position
        self._prefetch = prefetch
        self._ahead: dict[tuple[int, int], Future[Drawn]] = {}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="gen-loader") if prefetch else None
        self._foreseen = -1

    def __iter__(self) -> Iterator[Drawn]:
        return self

    def __next__(self) -> Drawn:
        drawn = self.slice(self.position, self._parts[self._turn])
        self._turn = (self._turn + 1) % len(self._parts)
        if self._turn == 0:
            self.position += self._batch
        return drawn

    def slice(self, position: int, part: int) -> Drawn:
        """The slice ``part`` of the global batch at ``position``, wherever the iterator stands.

        Raises:
            DataError: a sample is damaged.
            KeyError: ``part`` is not one of this loader's.
        """
        ready = self._ahead.pop((position, part), None)
        drawn = ready.result() if ready else self._read(position, part)
        self._read_ahead(position, part)
        return drawn

    def close(self) -> None:
        """Stop reading ahead."""
        if self._threads:
            self._threads.shutdown(cancel_futures=True)

    def _read(self, position: int, part: int) -> Drawn:
        return self._reader.batch(self._order.rows(position, self._batch)[self._slices[part]])

    def _read_ahead(self, position: int, part: int) -> None:
        """Have the threads read what comes after the slice ``part`` at ``position``; forget everything else."""
        if self._threads is None:
            return
        self._foresee(position)
        later = self._parts[self._parts.index(part) + 1 :]
        wanted = [(position, other) for other in later]
        wanted += [(position + k * self._batch, p) for k in range(1, self._prefetch + 1) for p in self._parts]
        for key in self._ahead.keys() - set(wanted):
            self._ahead.pop(key).cancel()
        for key in wanted:
            if key not in self._ahead:
                self._ahead[key] = self._threads.submit(self._read, *key)

    def _foresee(self, position: int) -> None:
        """Tell a reader of remote shards which samples come within the next two shards' worth of images."""
        horizon = 2 * max(self._reader.shard_sizes)
        if position // horizon != self._foreseen:
            self._foreseen = position // horizon
            self._reader.expect(self._order.rows(position, 2 * horizon))


def arrange(reader: Reader, draw: str, *, seed: int) -> Order:
    """The order in which training draws the samples of a split.

    Args:
        reader: the split.
        draw: see :mod:`gen.data.draws`.
        seed: of the order.

    Raises:
        RecipeError: the split lacks what the order needs.
    """
    parsed, manifest = Draw.parse(draw), reader.manifest
    weights = None
    if parsed.attribute in manifest.attributes and reader.attributes is not None:
        weights = reader.attributes[:, manifest.attributes.index(parsed.attribute)]
    return parsed.over(reader.shard_sizes, seed=seed, labels=reader.labels, weights=weights, classes=manifest.classes)


def evaluation_batches(reader: Reader, batch: int, rank: int, world: int) -> Iterator[tuple[int, Drawn]]:
    """This rank's share of a split in its stored order: over all ranks, every sample exactly once.

    Batches are dealt out in turn and are the same for any number of ranks; so is noise that is seeded by a batch's
    number. Ranks may differ by one batch: weigh what you average by the number of images, and let the ranks meet
    after the last batch only.

    Args:
        reader: the split.
        batch: images in a batch; the last one may be smaller.
        rank: this process.
        world: number of processes.

    Yields:
        The batch's number in the split, and the batch.
    """
    if batch < 1 or not 0 <= rank < world:
        raise RecipeError(
            f"evaluation: found batch {batch}, rank {rank} of {world}; allowed 1 or more, 0 to world - 1."
        )
    for number, start in enumerate(range(0, len(reader), batch)):
        if number % world == rank:
            yield number, reader.batch(np.arange(start, min(start + batch, len(reader))))
