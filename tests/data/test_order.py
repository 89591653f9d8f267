"""The order of the samples is a permutation per epoch, and a pure function of seed and position."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen.data.order import indices, order, slice_of
from gen.errors import RecipeError

seeds, sizes = st.integers(0, 2**63), st.integers(1, 200)


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
