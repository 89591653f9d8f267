"""The global batch is the same for any number of processes, and a resume goes on where the run stopped."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from gen.data.draws import Shuffled
from gen.data.loader import Loader, evaluation_batches
from gen.data.order import indices
from gen.data.reader import open_split
from gen.errors import DataError, RecipeError


class Numbers:
    """A reader whose k-th image shows k and whose k-th label is k."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: list[list[int]] = []
        self.third = threading.Event()  # set by the third call

        self.shard_sizes = (size,)

    def __len__(self) -> int:
        return self.size

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Everything is here."""

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        self.calls.append(indices.tolist())
        if len(self.calls) == 3:
            self.third.set()
        if -1 in indices:
            raise DataError("damaged")
        labels = torch.from_numpy(indices.copy())
        return torch.stack([labels // 256, labels % 256], 1).to(torch.uint8).view(-1, 1, 1, 2), labels


def labels(drawn: tuple[Tensor, Tensor | None]) -> list[int]:
    images, y = drawn
    assert y is not None
    high, low = images.view(-1, 2).long().unbind(1)
    assert (256 * high + low == y).all(), "images and labels are not of the same samples"
    return y.tolist()


@given(
    size=st.integers(1, 60),
    share=st.integers(1, 5),
    of=st.integers(1, 6),
    processes=st.integers(1, 6),
    start=st.integers(0, 200),
    steps=st.integers(1, 8),
    prefetch=st.sampled_from([0, 2]),
)
@settings(max_examples=60, deadline=None)
def test_any_number_of_processes_draws_the_same_batches(size, share, of, processes, start, steps, prefetch) -> None:
    """The slices are dealt out to the processes; put together again they are the next samples of the sequence."""
    batch = share * of
    drawn: dict[tuple[int, int], list[int]] = {}
    for process in range(min(processes, of)):
        parts = range(process, of, processes)
        loader = Loader(
            Numbers(size), Shuffled(3, size), batch=batch, parts=parts, of=of, position=start, prefetch=prefetch
        )
        for step, part in itertools.product(range(steps), parts):
            assert loader.position == start + step * batch
            drawn[step, part] = labels(next(loader))
        assert loader.position == start + steps * batch
        loader.close()
    together = [k for key in sorted(drawn) for k in drawn[key]]
    assert together == indices(3, start, steps * batch, size).tolist()


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_resume_is_a_skip(prefetch: int) -> None:
    def loader(position: int) -> Loader:
        return Loader(Numbers(17), Shuffled(1, 17), batch=6, parts=[0, 2], of=3, position=position, prefetch=prefetch)

    whole = loader(0)
    expected = [labels(next(whole)) for _ in range(20)]
    first = loader(0)
    head = [labels(next(first)) for _ in range(8)]
    second = loader(first.position)
    assert head + [labels(next(second)) for _ in range(12)] == expected


def test_every_sample_once_in_an_epoch_even_if_batches_cross_its_end() -> None:
    loader = Loader(Numbers(7), Shuffled(0, 7), batch=3, parts=[0], of=1)
    drawn = list(itertools.chain.from_iterable(labels(next(loader)) for _ in range(14)))
    for epoch in range(6):
        assert sorted(drawn[7 * epoch : 7 * epoch + 7]) == list(range(7))


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0, 2])), max_size=12), st.sampled_from([0, 1, 3]))
@settings(max_examples=30, deadline=None)
def test_random_access_is_independent_of_what_came_before(places, prefetch) -> None:
    loader = Loader(Numbers(17), Shuffled(1, 17), batch=6, parts=[0, 2], of=3, prefetch=prefetch)
    for step, part in places:
        position = 6 * step
        expected = indices(1, position, 6, 17)[2 * part : 2 * part + 2]
        assert labels(loader.slice(position, part)) == expected.tolist()
    assert loader.position == 0
    loader.close()


def test_the_thread_reads_ahead_what_comes_next_and_nothing_twice() -> None:
    reader = Numbers(1000)
    loader = Loader(reader, Shuffled(0, len(reader)), batch=4, parts=[0, 1], of=2, prefetch=2)
    drawn = [labels(next(loader)) for _ in range(10)]
    loader.close()
    read = [tuple(call) for call in reader.calls]
    assert len(set(read)) == len(read)
    assert [tuple(d) for d in drawn] == read[:10]
    assert len(read) <= 10 + 2 * 2


def test_the_thread_is_ahead_of_the_consumer() -> None:
    reader = Numbers(1000)
    loader = Loader(reader, Shuffled(0, len(reader)), batch=4, parts=[0], of=1, prefetch=2)
    next(loader)
    assert reader.third.wait(10), "two more batches were not read ahead"
    loader.close()


def test_damage_found_by_the_thread_is_raised_where_the_batch_is_drawn() -> None:
    class ThirdIsDamaged:
        def rows(self, position, count):
            return np.full(count, -1 if position == 8 else 0)

    loader = Loader(Numbers(10), ThirdIsDamaged(), batch=4, parts=[0], of=1, prefetch=3)
    next(loader), next(loader)
    with pytest.raises(DataError, match="damaged"):
        next(loader)
    loader.close()


@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 9))
def test_evaluation_sees_every_sample_exactly_once(size, batch, world) -> None:
    ranks = [list(evaluation_batches(Numbers(size), batch, rank, world)) for rank in range(world)]
    alone = {number: labels(drawn) for number, drawn in evaluation_batches(Numbers(size), batch, 0, 1)}
    assert list(itertools.chain(*alone.values())) == list(range(size))
    assert {number: labels(drawn) for batches in ranks for number, drawn in batches} == alone
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1
    assert sum(map(len, ranks)) == len(alone)


@pytest.mark.parametrize("arguments", [{"of": 3}, {"parts": [2]}, {"parts": []}, {"batch": 0}])
def test_impossible_batches_are_refused_at_once(arguments) -> None:
    with pytest.raises(RecipeError):
        Loader(Numbers(5), Shuffled(0, 5), **{"batch": 4, "parts": [0], "of": 2, **arguments})


def test_impossible_shares_are_refused() -> None:
    for batch, rank, world in ((0, 0, 1), (1, 1, 1), (1, -1, 1)):
        with pytest.raises(RecipeError):
            next(evaluation_batches(Numbers(5), batch, rank, world))


def test_mapped_and_resident_train_on_the_same_batches(digits_shards) -> None:
    kinds = [open_split(digits_shards, "train", resident_bytes=budget) for budget in (0, 2 << 30)]
    assert [type(reader).__name__ for reader in kinds] == ["Indexed", "Resident"]
    loaders = [
        Loader(reader, Shuffled(0, len(reader)), batch=64, parts=[0, 1], of=2, position=3400, prefetch=prefetch)
        for reader, prefetch in zip(kinds, (2, 0), strict=True)
    ]
    for _ in range(8):
        (x, y, *_), (other_x, other_y, *_) = (next(loader) for loader in loaders)
        assert torch.equal(x, other_x) and torch.equal(y, other_y)
        assert (x.shape, x.dtype, y.dtype) == ((32, 1, 28, 28), torch.uint8, torch.int64)
    loaders[0].close()
