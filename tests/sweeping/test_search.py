"""Searches: what a trial tries depends on the seed and its number; nothing is tried twice; what is learnt helps."""

from __future__ import annotations

import builtins
import math
import random
from collections.abc import Mapping
from statistics import median
from typing import Any

import pytest

from gen.errors import RecipeError
from pipelines.sweeping.dimensions import Dimension
from pipelines.sweeping.search import SEARCHES, Search, make_search
from pipelines.sweeping.spaces import Objective, Sweep

LR = ("optim.model.lr", {"loguniform": [1e-4, 1e-2]})
LATENTS = ("hyper.latents", {"choice": [8, 16, 32]})
BATCH = ("training.batch", {"grid": [16, 32]})
STEPS = ("hyper.steps", {"int": [1, 4]})
WIDE = (LR, LATENTS, STEPS)
SMALL = (LATENTS, BATCH)


def space(*dimensions: tuple[str, dict], direction: Any = "minimize") -> Sweep:
    axes = {key: Dimension.parse(key, kind) for key, kind in dimensions}
    return Sweep(recipe="toy", objective=Objective(score="fid", direction=direction), every=1, space=axes)


def first(search: Search, count: int) -> list[Mapping[str, Any] | None]:
    return [search.suggest(number) for number in range(count)]


def told(search: Search, values: Mapping[int, Mapping[str, Any]], measure: Any) -> None:
    for number, each in values.items():
        search.told(number, each, [(100, measure(each))], "finished")


def frozen(values: Mapping[str, Any] | None) -> str:
    return repr(sorted((values or {}).items()))


def test_random_values_depend_on_seed_and_number_alone() -> None:
    wanted = first(make_search("random", space(*WIDE), 3), 40)
    numbers = list(range(40))
    random.Random(0).shuffle(numbers)
    search = make_search("random", space(*WIDE), 3)
    for number in numbers:
        assert search.suggest(number) == wanted[number]
        search.told(number, wanted[number] or {}, [(1, 0.0)], "finished")
    assert make_search("random", space(*WIDE), 3).suggest(37) == wanted[37], "asked for alone"
    assert first(make_search("random", space(*WIDE), 4), 40)[1:] != wanted[1:]


def test_random_values_fill_the_space() -> None:
    drawn = [v for v in first(make_search("random", space(*WIDE), 0), 601)[1:] if v]
    below = sum(values["optim.model.lr"] < 1e-3 for values in drawn) / len(drawn)
    assert below == pytest.approx(0.5, abs=0.08), "four standard errors"
    shares = [sum(values["hyper.latents"] == each for values in drawn) / len(drawn) for each in (8, 16, 32)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.08)
    pairs = {(values["hyper.latents"], values["hyper.steps"]) for values in drawn}
    assert len(pairs) == 12, "dimensions are drawn independently"


def test_the_values_of_a_grid_take_turns_in_a_random_search() -> None:
    drawn = first(make_search("random", space(LR, BATCH), 0, include_default=False), 10)
    assert [values["training.batch"] for values in drawn if values] == [16, 32] * 5


@pytest.mark.parametrize("kind", SEARCHES)
def test_trial_0_is_the_recipe_as_it_stands(kind: str) -> None:
    assert make_search(kind, space(*SMALL), 0).suggest(0) == {}
    without = make_search(kind, space(*SMALL), 0, include_default=False).suggest(0)
    assert without is not None
    assert set(without) == {"hyper.latents", "training.batch"}


@pytest.mark.parametrize("kind", SEARCHES)
def test_nothing_is_tried_twice_and_a_small_space_is_tried_out(kind: str) -> None:
    own = {"hyper.latents": 16, "training.batch": 32}
    search = make_search(kind, space(*SMALL), 0, own=own)
    found = []
    for number in range(9):
        values = search.suggest(number)
        found.append(values)
        if values is not None:
            search.told(number, values, [(1, float(number))], "finished")
    assert found[6:] == [None] * 3
    assert len({frozen(values) for values in found[:6]}) == 6
    assert frozen(own) not in {frozen(values) for values in found}, "trial 0 is that configuration already"
    assert search.suggest(6) is None, "asking again changes nothing"


def test_a_space_that_rounding_makes_small_comes_to_an_end() -> None:
    narrow = ("hyper.x", {"uniform": [0, 1]})
    found = first(make_search("random", space(narrow), 0, include_default=False), 1_200)
    kept = [frozen(values) for values in found if values is not None]
    assert 900 < len(kept) <= 1_001
    assert len(set(kept)) == len(kept)


def test_a_grid_is_every_combination_in_the_order_of_the_file() -> None:
    sweep = space(BATCH, LATENTS)
    found = first(make_search("grid", sweep, 5, include_default=False), 7)
    assert [tuple(values.values()) for values in found[:6] if values] == [
        (16, 8), (16, 16), (16, 32), (32, 8), (32, 16), (32, 32),
    ]  # fmt: skip
    assert found[6] is None
    assert make_search("grid", sweep, 0).suggest(4) == {"training.batch": 32, "hyper.latents": 8}, "after trial 0"


def test_a_grid_needs_lists() -> None:
    with pytest.raises(RecipeError, match=r"sweeps\.toy\.space: optim\.model\.lr: .*grid: \[0\.0001, 0\.001, 0\.01\]"):
        make_search("grid", space(*WIDE), 0)


def test_unknown_searches_and_seeds_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"search: found 'optun'\. Allowed: random, grid, optuna\. Did you mean 'optuna'"
    ):
        make_search("optun", space(*SMALL), 0)
    with pytest.raises(RecipeError, match="seed: found -1"):
        make_search("random", space(*SMALL), -1)


def test_without_optuna_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(RecipeError, match=r"'optuna' is not installed\. Install it with: pip install"):
        make_search("optuna", space(*SMALL), 0)


# ---- Optuna ------------------------------------------------------------------------------------------------------


def valley(values: Mapping[str, Any]) -> float:
    """Least at lr = 1e-3 with 16 latents."""
    off = math.log10(values.get("optim.model.lr", 1e-4)) + 3
    return off**2 + {8: 0.5, 16: 0.0, 32: 0.7}[values.get("hyper.latents", 8)]


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_optuna_learns_where_the_best_ones_are(direction: str, sign: float) -> None:
    search = make_search("optuna", space(LR, LATENTS, direction=direction), 1, own={"optim.model.lr": 1e-4})
    losses = []
    for number in range(45):
        values = search.suggest(number)
        assert values is not None
        losses.append(valley(values))
        search.told(number, values, [(100, sign * valley(values))], "finished")
    at_random = [valley(v) for v in first(make_search("random", space(LR, LATENTS), 1), 300)[1:] if v]
    assert median(losses[-20:]) < 0.5 * median(at_random)


def test_optuna_goes_on_as_if_it_had_never_stopped() -> None:
    whole = make_search("optuna", space(LR, LATENTS), 2)
    history: dict[int, Mapping[str, Any]] = {}
    for number in range(16):
        values = whole.suggest(number)
        assert values is not None
        history[number] = values
        told(whole, {number: values}, valley)
    resumed = make_search("optuna", space(LR, LATENTS), 2)
    for number in reversed(range(12)):  # as a ledger that was read again, in whatever order
        told(resumed, {number: history[number]}, valley)
    for number in range(12, 16):
        assert resumed.suggest(number) == history[number]
        told(resumed, {number: history[number]}, valley)


def test_optuna_hears_of_every_state() -> None:
    search = make_search("optuna", space(LR, LATENTS), 0, own={"optim.model.lr": 2e-3, "hyper.latents": 16})
    for number, state in enumerate(("finished", "pruned", "killed", "failed", "running", "waiting")):
        values = search.suggest(number)
        assert values is not None
        curve = [(10, math.nan), (20, 1.0 + number)] if state != "waiting" else []
        search.told(number, values, curve, state)
    search.told(6, {"optim.model.lr": 0.5, "hyper.latents": 16}, [(10, 1.0)], "finished")  # outside the space
    search.told(7, {"optim.model.lr": 1e-3}, [(10, 1.0)], "finished")
    search.told(8, {"optim.model.lr": 1e-3, "hyper.latents": 8}, [(10, math.nan)], "finished")
    kept = [search._recorded(known, spaces) for known, spaces in _known(search)]  # type: ignore[attr-defined]
    assert [None if t is None else t.state.name for t in kept] == [
        "COMPLETE", "PRUNED", "PRUNED", None, "RUNNING", "RUNNING", None, None, None,
    ]  # fmt: skip
    assert kept[0].params == {"optim.model.lr": 2e-3, "hyper.latents": 1}, "trial 0 has the recipe's own values"
    assert kept[1].intermediate_values == {20: 2.0}
    assert search.suggest(9) is not None


def _known(search: Any) -> list[tuple[Any, Mapping[str, Any]]]:
    from pipelines.sweeping.search import _distribution

    spaces = {d.key: _distribution(d) for d in search._sweep.dimensions}
    return [(search._known[number], spaces) for number in sorted(search._known)]
