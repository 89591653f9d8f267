"""What the loop promises for every model: resumes are bit-exact, and two processes equal one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gen.registry import list_models
from gen.train import events
from tests.contracts.runs import run, run_in_processes, state, worst
from tests.toys import toy_data, toy_recipe

MODELS = list_models()


@pytest.mark.parametrize("name", MODELS)
def test_stop_and_resume_is_bit_equal(name: str, toy_shards: Path, tmp_path: Path) -> None:
    """Interrupted twice, at steps no report or checkpoint falls on, a run ends with the very same bits."""
    recipe = toy_recipe(name, ema=16, images=192)
    data = toy_data(name, toy_shards)
    golden = run(recipe, data, tmp_path / "golden")
    for stop_after in (2, 2):
        run(recipe, data, tmp_path / "resumed", stop_after=stop_after)
        assert not (tmp_path / "resumed" / "final").exists()
    resumed = run(recipe, data, tmp_path / "resumed")
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
    run_in_processes(2, recipes, toy_shards, root / "two", free_port())
    run_in_processes(1, recipes, toy_shards, root / "one", free_port())
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


def test_torchrun_trains_what_one_process_trains(toy_shards: Path, tmp_path: Path) -> None:
    """The library's own entry, without Ray: two processes of torchrun and one plain one."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(toy_recipe("factor").as_dict()))
    module = ["-m", "gen.train", str(recipe), "--data", str(toy_shards), "--out"]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    for words in ([*torchrun, *module, "two"], [*module, "one"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("final")
    assert worst(state(tmp_path / "two"), state(tmp_path / "one")) < 1e-5  # float32
    recipe.write_text("{}")
    done = subprocess.run([sys.executable, *module, "no"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: recipe: 'training'" in done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
