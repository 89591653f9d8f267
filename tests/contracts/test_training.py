"""What the loop promises for every model: resumes are bit-exact, and two processes equal one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from gen.registry import list_models
from gen.train import events
from tests.contracts.runs import run, run_in_processes, state, worst
from tests.toys import toy_recipe

MODELS = list_models()


@pytest.mark.parametrize("name", MODELS)
def test_stop_and_resume_is_bit_equal(name: str, toy_shards: Path, tmp_path: Path) -> None:
    """Interrupted twice, at steps no report or checkpoint falls on, a run ends with the very same bits."""
    recipe = toy_recipe(name, ema=16, images=192)
    golden = run(recipe, toy_shards, tmp_path / "golden")
    for stop_after in (2, 2):
        run(recipe, toy_shards, tmp_path / "resumed", stop_after=stop_after)
        assert not (tmp_path / "resumed" / "final").exists()
    resumed = run(recipe, toy_shards, tmp_path / "resumed")
    assert resumed.keys() == golden.keys()
    for key, tensor in golden.items():
        assert torch.equal(resumed[key], tensor), key
    curves = [events.series(events.read(tmp_path / kind / "events.jsonl")[0]) for kind in ("golden", "resumed")]
    for curve in curves:
        curve.pop("train/images_per_second")
    assert curves[0] == curves[1]


@pytest.fixture(scope="module")
def two_and_one(toy_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model trained in float64 by two processes, and by one on the same global batches."""
    root = tmp_path_factory.mktemp("ranks")
    recipes = [toy_recipe(name, ema=16) for name in MODELS]
    port = random.randint(20_000, 50_000)
    run_in_processes(2, recipes, toy_shards, root / "two", port)
    run_in_processes(1, recipes, toy_shards, root / "one", port + 1)
    return root


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_equal_one(name: str, two_and_one: Path) -> None:
    recipe = toy_recipe(name)
    two, one = (state(two_and_one / kind / recipe.name) for kind in ("two", "one"))
    assert worst(two, one) < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_ranks_are_bit_equal(name: str, two_and_one: Path) -> None:
    recipe = toy_recipe(name)
    first, second = (torch.load(two_and_one / "two" / f"{recipe.name}-rank{rank}.pt") for rank in (0, 1))
    assert first.keys() == second.keys() and first
    for key, tensor in first.items():
        assert torch.equal(second[key], tensor), key
