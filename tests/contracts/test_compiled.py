"""Networks compiled for the steps of training: the same model within rounding, and the same promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from gen.errors import RecipeError
from gen.recipe import Recipe
from gen.registry import build
from gen.train.compiled import compile_networks
from tests.contracts.runs import run, worst
from tests.toys import toy_recipe, toy_spec


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_is_the_eager_one_within_rounding_and_resumes_bit_for_bit(
    toy_shards: Path, tmp_path: Path
) -> None:
    eager, compiled = (toy_recipe("wgan_gp", images=192, compile=on) for on in (False, True))
    golden = run(compiled, toy_shards, tmp_path / "golden")
    run(compiled, toy_shards, tmp_path / "resumed", stop_after=2)
    resumed = run(compiled, toy_shards, tmp_path / "resumed")
    assert all(torch.equal(resumed[key], tensor) for key, tensor in golden.items())
    assert 0 < worst(golden, run(eager, toy_shards, tmp_path / "eager")) <= 1e-3  # equal bits: nothing was compiled


def test_a_recipe_that_does_not_compile_is_what_it_was_before_it_could() -> None:
    eager, compiled = (toy_recipe("vae", compile=on) for on in (False, True))
    assert "compile" not in eager.as_dict()["training"]
    assert [Recipe.from_dict(each.as_dict()).training for each in (eager, compiled)] == [
        eager.training,
        compiled.training,
    ]


def test_the_networks_that_a_model_names_stay_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("wgan_gp", toy_spec("wgan_gp"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RecipeError, match=r"training\.compile: .*no-such-compiler"):
        compile_networks(model)
    monkeypatch.setenv("CXX", "sh")
    compile_networks(model)
    assert model.generator._compiled_call_impl is not None
    assert model.critic._compiled_call_impl is None
