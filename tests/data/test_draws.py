"""The other orders: what each of them promises, and that all of them are pure functions of the position."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.data.draws import CHUNK, Blocks, Draw, Order
from gen.data.order import indices
from gen.errors import RecipeError

seeds, positions = st.integers(0, 2**63), st.integers(0, 2**60)
sizes_of_shards = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)
TEXTS = ("shuffle", "blocks(1)", "blocks(3)", "balanced", "weighted(age)")
quick = settings(max_examples=50, deadline=None, derandomize=True)


def made(text: str, shard_sizes: list[int], seed: int) -> Order:
    """An order over samples with two or three classes and weights."""
    size = sum(shard_sizes)
    labels = np.arange(size) ** 2 % 5 % min(size, 3)
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return Draw.parse(text).over(shard_sizes, seed=seed, labels=labels, weights=1.0 + np.arange(size) % 4)


@pytest.mark.parametrize("text", TEXTS)
@given(seeds, sizes_of_shards, positions, st.integers(0, 100), st.integers(0, 100))
@quick
def test_resuming_is_skipping(text, seed, shard_sizes, position, first, second) -> None:
    """Also at positions no replay would ever reach."""
    whole = made(text, shard_sizes, seed).rows(position, first + second)
    resumed = made(text, shard_sizes, seed)
    parts = [resumed.rows(position + first, second), resumed.rows(position, first)]  # in whatever order
    np.testing.assert_array_equal(whole, np.concatenate(parts[::-1]))
    assert whole.dtype == np.int64 and whole.shape == (first + second,)
    assert not len(whole) or 0 <= whole.min() <= whole.max() < sum(shard_sizes)


@pytest.mark.parametrize("text", TEXTS)
def test_seeds_and_epochs_differ_and_results_are_copies(text) -> None:
    draws = [tuple(made(text, [10] * 5, seed).rows(60 * k, 50)) for seed in range(8) for k in range(8)]
    assert len(set(draws)) == 64
    order = made(text, [10] * 5, 0)
    order.rows(0, 50)[:] = 0
    assert tuple(order.rows(0, 50)) == draws[0]


@pytest.mark.parametrize("text", TEXTS)
def test_threads_share_an_order(text) -> None:
    order = made(text, [50] * 8, 0)
    places = np.random.default_rng(0).integers(0, 50_000, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        for place, found in zip(places, pool.map(lambda place: order.rows(place, 30), places), strict=True):
            np.testing.assert_array_equal(found, made(text, [50] * 8, 0).rows(place, 30))


@pytest.mark.parametrize("text", TEXTS)
def test_the_order_is_the_one_of_earlier_versions(text) -> None:
    """A resume relies on it across installations."""
    golden = {
        "shuffle": [4, 7, 12, 8, 10, 5, 1, 9, 6, 2],
        "blocks(1)": [13, 12, 4, 3, 5, 6, 9, 8, 10, 11],
        "blocks(3)": [0, 13, 1, 12, 6, 4, 7, 9, 10, 8],
        "balanced": [10, 9, 5, 8, 0, 13, 0, 5, 3, 10],
        "weighted(age)": [6, 6, 12, 9, 13, 1, 13, 9, 4, 6],
    }
    assert made(text, [3, 4, 5, 2], 7).rows(10**6 + 9, 10).tolist() == golden[text]


@given(seeds, sizes_of_shards, positions, st.integers(0, 100))
@quick
def test_shuffle_is_the_plain_order(seed, shard_sizes, position, count) -> None:
    expected = indices(seed, position, count, sum(shard_sizes))
    np.testing.assert_array_equal(made("shuffle", shard_sizes, seed).rows(position, count), expected)


@given(seeds, sizes_of_shards, st.integers(1, 14), st.integers(0, 2**50))
@quick
def test_an_epoch_of_blocks_is_a_permutation(seed, shard_sizes, k, epoch) -> None:
    size = sum(shard_sizes)
    drawn = Blocks(seed, shard_sizes, k).rows(epoch * size, 2 * size)
    for once in (drawn[:size], drawn[size:]):
        assert sorted(once) == list(range(size))


@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 14))
@quick
def test_blocks_need_k_shards_at_a_time(seed, shard_sizes, k) -> None:
    """In an epoch a shard is taken up once, dropped once, and no more than K are at hand between."""
    order, shard_of = Blocks(seed, shard_sizes, k), np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    shards = shard_of[order.rows(0, sum(shard_sizes))]
    first = {shard: int(np.argmax(shards == shard)) for shard in range(len(shard_sizes))}
    last = {shard: len(shards) - 1 - int(np.argmax(shards[::-1] == shard)) for shard in range(len(shard_sizes))}
    at_hand = [sum(first[s] <= place <= last[s] for s in first) for place in range(len(shards))]
    assert max(at_hand) <= k


@given(seeds, sizes_of_shards, st.integers(1, 14), positions, st.integers(1, 60))
@quick
def test_the_shards_of_blocks_hold_their_samples(seed, shard_sizes, k, position, count) -> None:
    order, shard_of = Blocks(seed, shard_sizes, k), np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    needed = list(dict.fromkeys(shard_of[order.rows(position, count)].tolist()))
    told = order.shards(position, count).tolist()
    assert len(set(told)) == len(told) and set(needed) <= set(told)
    now = order.shards(position, 1).tolist()
    assert told[: len(now)] == now and needed[0] in now and len(now) <= k


def test_samples_of_a_block_are_mixed() -> None:
    """Of two shards in one block, neighbours come from both about half the time."""
    shard_of = np.repeat(np.arange(2), 1000)[Blocks(0, [1000, 1000], 2).rows(0, 2000)]
    assert abs((shard_of[1:] != shard_of[:-1]).mean() - 0.5) < 0.06


@given(seeds, st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(0, 2**55))
@quick
def test_balanced_windows_hold_every_class_once(seed, class_sizes, window) -> None:
    count = len(class_sizes)
    labels = np.random.default_rng(seed % 97).permutation(np.repeat(np.arange(count), class_sizes))
    order = Draw.parse("balanced").over([len(labels)], seed=seed, labels=labels)
    drawn = labels[order.rows(window * count, 40 * count)].reshape(40, count)
    assert (np.sort(drawn, axis=1) == np.arange(count)).all()


def test_balanced_classes_are_drawn_without_replacement() -> None:
    """The draws of a class, in the order in which they come, are one permutation of its samples after another."""
    labels = np.repeat(np.arange(3), [1, 7, 40])
    drawn = Draw.parse("balanced").over([48], seed=3, labels=labels).rows(0, 3 * 4 * CHUNK)
    for label, size in enumerate((1, 7, 40)):
        ours = drawn[labels[drawn] == label]
        epochs = ours[: len(ours) // size * size].reshape(-1, size)
        assert (np.sort(epochs, axis=1) == np.flatnonzero(labels == label)).all()
        assert size == 1 or len(np.unique(epochs, axis=0)) > len(epochs) / 2


def test_balanced_windows_come_in_every_order() -> None:
    labels = np.arange(3)
    windows = Draw.parse("balanced").over([3], seed=0, labels=labels).rows(0, 3 * 6000).reshape(-1, 3)
    counts = np.array(list(Counter(map(tuple, windows.tolist())).values()))
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 0.001


def test_weighted_draws_follow_the_weights() -> None:
    weights = np.array([0.0, 1.0, 2.5, 0.0, 0.01, 40.0, 0.0])
    drawn = Draw.parse("weighted(w)").over([7], seed=5, weights=weights).rows(10**12, 200_000)
    counts, expected = np.bincount(drawn, minlength=7), 200_000 * weights / weights.sum()
    assert (counts[weights == 0] == 0).all()
    drawable = weights > 0
    assert ((counts - expected)[drawable] ** 2 / expected[drawable]).sum() < 16.3  # 3 degrees of freedom, p = 0.001
    pairs = np.bincount(8 * (drawn[1:] == 5) + (drawn[:-1] == 5))[[0, 1, 8, 9]].reshape(2, 2) / 199_999
    assert abs(pairs - np.outer(pairs.sum(1), pairs.sum(0))).max() < 0.002, "a draw depends on the one before"


@pytest.mark.parametrize("text", ["shuffle", "blocks(16)", "balanced", "weighted(Arched Eyebrows)"])
def test_a_draw_is_what_it_says(text) -> None:
    assert str(Draw.parse(f" {text} ")) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shufle",
        "shuffle(3)",
        "blocks",
        "blocks()",
        "blocks(0)",
        "blocks(-1)",
        "blocks(x)",
        "balanced(1)",
        "weighted",
    ],
)
def test_what_is_no_draw_is_refused(text) -> None:
    with pytest.raises(
        RecipeError, match=rf"draw: found '{text.replace('(', '.').replace(')', '.')}', allowed: shuffle"
    ):
        Draw.parse(text)
    with pytest.raises(RecipeError, match="Did you mean 'shuffle'"):
        Draw.parse("shufle")


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        ("balanced", {}, "needs a label for every sample, found no labels"),
        ("balanced", {"labels": np.array([0, 1])}, "found 2 labels for 4 samples"),
        ("balanced", {"labels": np.array([0, 2, 2, 4])}, "2 of 5 have none: 1, 3"),
        ("balanced", {"labels": np.array([0, 0, 0, 0]), "classes": ("cat", "dog")}, "1 of 2 have none: dog"),
        ("weighted(age)", {}, "the attribute 'age' of every sample, found none"),
        ("weighted(age)", {"weights": np.ones(3)}, "found 3 for 4 samples"),
        ("weighted(age)", {"weights": np.array([1, 2, -1, 0.0])}, "values from -1"),
        ("weighted(age)", {"weights": np.zeros(4)}, "more than 0 for one sample"),
        ("weighted(age)", {"weights": np.array([1, 2, np.nan, 0])}, "finite"),
        ("weighted(age)", {"weights": np.array([1, 2, np.inf, 0])}, "finite"),
    ],
)
def test_data_that_cannot_be_drawn_from_like_that(text, data, message) -> None:
    with pytest.raises(RecipeError, match=message):
        Draw.parse(text).over([3, 1], seed=0, **data)


@pytest.mark.parametrize("text", TEXTS)
def test_impossible_positions(text) -> None:
    for position, count in ((-1, 1), (0, -1)):
        with pytest.raises(RecipeError, match="allowed are both from 0"):
            made(text, [5, 5], 0).rows(position, count)
    for shard_sizes, seed in (([0], 0), ([], 0), ([5, -1], 0), ([5], -1)):
        with pytest.raises(RecipeError, match="at least 1 sample"):
            Draw.parse(text).over(shard_sizes, seed=seed, labels=np.zeros(4, np.int64), weights=np.ones(4))
