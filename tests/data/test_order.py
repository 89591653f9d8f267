"""The order of the samples is a permutation per epoch, and a pure function of seed and position.

So a global batch is the same for any number of ranks, and a run that is killed goes on where it was.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gen.data.draws import Shuffled
from gen.data.loader import Loader
from gen.data.order import cut, indices, order, slice_of
from gen.data.sample import Drawn
from gen.errors import RecipeError

seeds, sizes = st.integers(0, 2**63), st.integers(1, 200)
RANKS = (1, 2, 3, 8)
SLICES = 24  # which any of these numbers of ranks can share


class Rows:
    """A reader whose samples are labelled with their own numbers."""

    labels = attributes = manifest = None
    digest, quarantined = "", ()
    shard_sizes: ClassVar[tuple[int, ...]]

    def __init__(self, size: int) -> None:
        self.shard_sizes = (size,)

    def __len__(self) -> int:
        return self.shard_sizes[0]

    def batch(self, rows: NDArray[np.int64]) -> Drawn:
        return Drawn(images=torch.zeros(len(rows), 1, 1, 1, dtype=torch.uint8), labels=torch.from_numpy(rows.copy()))

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Nothing to fetch."""


def rank_of(ranks: int, rank: int, *, size: int, batch: int, seed: int, position: int, prefetch: int = 0) -> Loader:
    parts = range(rank, SLICES, ranks)
    return Loader(
        Rows(size), Shuffled(seed, size), batch=batch, parts=parts, of=SLICES, position=position, prefetch=prefetch
    )


def batches(ranks: int, steps: int, **arguments) -> NDArray[np.int64]:
    """The global batches (steps, batch) that the ranks draw together, put together again by slice."""
    slices = {}
    for rank in range(ranks):
        loader = rank_of(ranks, rank, **arguments)
        for step in range(steps):
            for part in range(rank, SLICES, ranks):
                slices[step, part] = next(loader).labels.numpy()
        loader.close()
    assert len({len(drawn) for drawn in slices.values()}) == 1, "ranks differ in the number of images"
    return np.stack([np.concatenate([slices[step, part] for part in range(SLICES)]) for step in range(steps)])


@given(seeds, st.integers(0, 10**6), sizes)
def test_an_epoch_is_a_permutation(seed, epoch, size) -> None:
    assert sorted(order(seed, epoch, size)) == list(range(size))


@given(seeds, sizes, st.integers(0, 1000), st.integers(0, 300), st.integers(0, 300))
def test_resuming_is_skipping(seed, size, position, first, second) -> None:
    whole = indices(seed, position, first + second, size)
    parts = [indices(seed, position, first, size), indices(seed, position + first, second, size)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert whole.dtype == np.int64 and len(whole) == first + second


@given(seeds, sizes, st.integers(0, 50))
def test_the_sequence_is_one_epoch_after_another(seed, size, epoch) -> None:
    drawn = indices(seed, epoch * size, 3 * size, size)
    np.testing.assert_array_equal(drawn, np.concatenate([order(seed, epoch + k, size) for k in range(3)]))


@given(st.integers(1, 12), st.integers(1, 12))
def test_slices_are_equal_disjoint_and_complete(parts, share) -> None:
    batch = np.arange(parts * share)
    slices = [batch[slice_of(len(batch), part, parts)] for part in range(parts)]
    assert {len(piece) for piece in slices} == {share}
    np.testing.assert_array_equal(np.concatenate(slices), batch)


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = [tuple(order(seed, epoch, 50)) for seed in range(10) for epoch in range(10)]
    assert len(set(orders)) == 100


def test_the_order_is_the_one_of_earlier_versions() -> None:
    """A resume relies on it across installations: were NumPy to change it, half-finished runs could not go on."""
    assert order(0, 0, 10).tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]
    assert order(7, 3, 10).tolist() == [3, 5, 4, 7, 8, 0, 9, 2, 1, 6]


def test_the_shared_order_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        order(0, 0, 10)[0] = 1
    indices(0, 0, 10, 10)[:] = 0  # a copy
    assert sorted(order(0, 0, 10)) == list(range(10))


@pytest.mark.parametrize("arguments", [(-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, -1, 1), (0, 0, 1, 0)])
def test_impossible_positions(arguments) -> None:
    with pytest.raises(RecipeError, match="allowed"):
        indices(*arguments)


@pytest.mark.parametrize("arguments", [(10, 0, 3), (10, 2, 2), (10, -1, 2), (10, 0, 0)])
def test_impossible_slices(arguments) -> None:
    with pytest.raises(RecipeError):
        slice_of(*arguments)


def test_impossible_stretches() -> None:
    for position, count in ((-1, 1), (0, -1)):
        with pytest.raises(RecipeError, match="allowed are both from 0"):
            cut(lambda _: np.arange(3), 3, position, count)


@given(sizes, st.integers(1, 3), st.integers(0, 10**9), seeds, st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_global_batch_is_the_same_for_any_number_of_ranks(size, share, offset, seed, epoch, steps) -> None:
    """It is the next samples of the sequence, for 1, 2, 3 and 8 ranks, wherever it begins."""
    batch, position = SLICES * share, epoch * size + offset % size
    expected = indices(seed, position, steps * batch, size).reshape(steps, batch)
    for ranks in RANKS:
        drawn = batches(ranks, steps, size=size, batch=batch, seed=seed, position=position)
        np.testing.assert_array_equal(drawn, expected)


@given(st.integers(SLICES, 200), seeds, st.integers(0, 10**6), st.sampled_from(RANKS))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_ranks_share_an_epoch_without_a_sample_twice(size, seed, epoch, ranks) -> None:
    steps = size // SLICES
    drawn = batches(ranks, steps, size=size, batch=SLICES, seed=seed, position=epoch * size).ravel()
    assert len(set(drawn)) == len(drawn) == steps * SLICES


@given(sizes, seeds, st.integers(0, 5), st.integers(1, 4), st.sampled_from(RANKS), st.sampled_from([0, 2]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_loader_that_resumes_draws_what_one_that_skips_draws(size, seed, k, more, ranks, prefetch) -> None:
    arguments = {"size": size, "batch": SLICES, "seed": seed, "prefetch": prefetch}
    skipped = batches(ranks, k + more, position=0, **arguments)[k:]
    np.testing.assert_array_equal(batches(ranks, more, position=k * SLICES, **arguments), skipped)


SIZE, BATCH, STEPS, KILLS = 103, 8, 400, 20


def train(folder: Path, halt: float) -> None:
    """A run that draws while a thread reads ahead, notes what it draws, and saves every seventh step.

    It resumes from what it saved last, so some steps are in the ledger twice; killed while it writes, it leaves half
    a line. Once the ledger has ``halt`` bytes it waits to be killed, so that it is never over too soon.
    """
    saved, ledger = folder / "position", folder / "ledger"
    position = int(saved.read_text()) if saved.exists() else 0
    loader = Loader(Rows(SIZE), Shuffled(5, SIZE), batch=BATCH, parts=[0, 1], of=2, position=position, prefetch=2)
    with ledger.open("a") as file:
        file.write("\n")
        while loader.position < STEPS * BATCH:
            position = loader.position
            drawn = torch.cat([next(loader).labels, next(loader).labels]).tolist()
            file.write(f"{position}: {drawn[: BATCH // 2]}"[:-1])
            file.flush()
            file.write(f", {drawn[BATCH // 2 :]}".replace("[", "") + "\n")
            file.flush()
            if loader.position // BATCH % 7 == 0:
                saved.with_suffix(".part").write_text(str(loader.position))
                saved.with_suffix(".part").replace(saved)
            while file.tell() >= halt:
                time.sleep(1)
    loader.close()


def killed_again_and_again(folder: Path) -> None:
    """Start :func:`train` afresh each time it has been killed, ``KILLS`` times at a random step, then let it end."""
    rng, ledger = np.random.default_rng(0), folder / "ledger"
    torch.set_num_threads(1)
    for kill in range(KILLS + 1):
        written = ledger.stat().st_size if ledger.exists() else 0
        enough = written + int(rng.integers(1, 35 * STEPS // KILLS))
        if (child := os.fork()) == 0:  # quick, and safe: this process has no threads
            try:
                train(folder, enough + 70 if kill < KILLS else float("inf"))
            finally:
                os._exit(0)
        if kill < KILLS:
            while not ledger.exists() or ledger.stat().st_size < enough:
                time.sleep(0.0002)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) == (kill < KILLS), "the run was over before it was killed"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_killed_at_20_random_steps_draws_what_an_uninterrupted_one_draws(tmp_path: Path) -> None:
    code = "from tests.data.test_order import Path, killed_again_and_again as run, sys; run(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=120)
    drawn: dict[int, list[int]] = {}
    repeated = 0
    for line in (tmp_path / "ledger").read_text().splitlines():
        position, _, rows = line.partition(": ")
        if rows.endswith("]"):
            rows_drawn = [int(row) for row in rows.strip("[]").split(", ")]
            repeated += int(position) in drawn
            assert drawn.setdefault(int(position), rows_drawn) == rows_drawn, "a step that was repeated drew otherwise"
    assert repeated >= KILLS, "the kills came too late to matter"
    assert list(drawn) == [step * BATCH for step in range(STEPS)]
    np.testing.assert_array_equal(np.concatenate(list(drawn.values())), indices(5, 0, STEPS * BATCH, SIZE))
