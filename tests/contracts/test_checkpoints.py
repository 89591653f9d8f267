"""Checkpoints: whole or not there, refused when tampered with or foreign, and enough after any fault."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gen.errors import PreemptedError, StoreError, TrainingError
from gen.files import write_json
from gen.model import Batch, GenerativeModel, Metrics
from gen.registry import Entry, _entries
from gen.store import load_model
from gen.train import checkpoint, events
from gen.train.context import ProcessContext
from gen.train.loop import fit
from gen.train.step import NotFiniteError
from tests.contracts.runs import run, state
from tests.toys import TOY_HYPER, toy_recipe


class Fragile(GenerativeModel):
    """A mean of pixels whose loss is not finite at the steps in ``bad``, for the first ``times`` visits."""

    spaces = ("binary_dynamic",)
    bad: tuple[int, ...] = ()
    visits: int = 0
    times: int = 10**9

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.mean = nn.Parameter(torch.zeros(spec.shape))

    def updates(self, batches, progress):
        loss, metrics = self.loss(next(batches))
        if progress.step in self.bad and Fragile.visits < self.times:
            Fragile.visits += 1
            loss = loss * float("nan")
        yield from [super_update(loss, metrics)]

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        return ((batch.x - self.mean) ** 2).mean(), {"noise": torch.randn(())}


def super_update(loss: Tensor, metrics: Metrics):
    from gen.model import Update

    return Update("model", loss, metrics)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> type[Fragile]:
    monkeypatch.setitem(_entries, "fragile", Entry("fragile", "fragile", Fragile))
    monkeypatch.setitem(TOY_HYPER, "fragile", {})
    Fragile.bad, Fragile.visits, Fragile.times = (), 0, 10**9
    return Fragile


def test_a_tampered_checkpoint_is_passed_over_and_an_older_one_used(toy_shards: Path, tmp_path: Path) -> None:
    recipe = toy_recipe("vae", images=96)
    golden = run(recipe, toy_shards, tmp_path / "golden")
    run(recipe, toy_shards, tmp_path / "run", stop_after=9)
    older, newest = checkpoint.saved(tmp_path / "run" / "checkpoints")
    weights = newest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    identity = json.loads((newest / "state.json").read_text())["recipe"]
    with pytest.raises(StoreError, match=r"model\.safetensors: its sha256 is .* was damaged or changed"):
        checkpoint.read_state(newest, identity)
    assert checkpoint.newest(tmp_path / "run" / "checkpoints", identity) == older
    resumed = run(recipe, toy_shards, tmp_path / "run")
    assert all(torch.equal(resumed[key], tensor) for key, tensor in golden.items())


def test_when_every_checkpoint_is_damaged_nothing_is_started_over(toy_shards: Path, tmp_path: Path) -> None:
    recipe = toy_recipe("vae", images=96)
    run(recipe, toy_shards, tmp_path, stop_after=9)
    for saved in checkpoint.saved(tmp_path / "checkpoints"):
        (saved / "optimizers.safetensors").unlink()
    with pytest.raises(StoreError, match=r"optimizers\.safetensors: missing"):
        run(recipe, toy_shards, tmp_path)


def test_another_recipe_is_refused_with_the_difference(toy_shards: Path, tmp_path: Path) -> None:
    recipe = toy_recipe("vae", images=96)
    run(recipe, toy_shards, tmp_path, stop_after=5)
    changed = replace(recipe, hyper={**recipe.hyper, "latents": 5}, training=replace(recipe.training, batch=16))
    with pytest.raises(StoreError) as caught:
        run(changed, toy_shards, tmp_path)
    assert "hyper.latents: saved 3, wanted 5" in str(caught.value)
    assert "training.batch: saved 8, wanted 16" in str(caught.value)


def test_a_complete_run_is_not_run_again_unless_damaged(toy_shards: Path, tmp_path: Path) -> None:
    recipe = toy_recipe("vae")
    run(recipe, toy_shards, tmp_path)
    before = (tmp_path / "events.jsonl").read_bytes()
    run(recipe, toy_shards, tmp_path)
    assert (tmp_path / "events.jsonl").read_bytes() == before
    weights = tmp_path / "final" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(StoreError, match="was damaged or changed"):
        run(recipe, toy_shards, tmp_path)


def test_the_stored_model_is_the_trained_one(toy_shards: Path, tmp_path: Path) -> None:
    trained = run(toy_recipe("vae", ema=16), toy_shards, tmp_path)
    stored = load_model(tmp_path / "final")
    for name, tensor in stored.model.state_dict().items():
        assert torch.equal(tensor, trained[f"average/{name}"])
    assert stored.meta["images"] == 64
    assert not stored.model.training


def test_a_kill_while_a_checkpoint_is_written_loses_nothing(toy_shards: Path, tmp_path: Path) -> None:
    """What a killed writer left under a temporary name is not mistaken for a checkpoint."""
    recipe = toy_recipe("vae", images=96)
    golden = run(recipe, toy_shards, tmp_path / "golden")
    run(recipe, toy_shards, tmp_path / "run", stop_after=6)
    half = tmp_path / "run" / "checkpoints" / ".000000000064.part"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half of it")
    with (tmp_path / "run" / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "metrics", "ima')
    resumed = run(recipe, toy_shards, tmp_path / "run")
    assert all(torch.equal(resumed[key], tensor) for key, tensor in golden.items())
    kinds = [event["kind"] for event in events.read(tmp_path / "run" / "events.jsonl")[0]]
    assert kinds[-1] == "end"


FULL = """
import resource, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from tests.contracts.runs import run
from tests.toys import toy_recipe
from gen.errors import GenError
recipe = toy_recipe("vae", images=96)
run(recipe, Path(sys.argv[1]), Path(sys.argv[2]), stop_after=5)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    run(recipe, Path(sys.argv[1]), Path(sys.argv[2]))
except GenError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_is_said_and_leaves_the_old_checkpoint(toy_shards: Path, tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the write fails in the middle of a checkpoint."""
    recipe = toy_recipe("vae", images=96)
    golden = run(recipe, toy_shards, tmp_path / "golden")
    arguments = [sys.executable, "-c", FULL, str(toy_shards), str(tmp_path / "run")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == StoreError.exit_code, done.stderr
    assert "larger than allowed" in done.stdout or "disk is full" in done.stdout
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if not path.name.startswith(".")]
    for name in names:
        state_ = json.loads((tmp_path / "run" / "checkpoints" / name / "state.json").read_text())
        checkpoint.read_state(tmp_path / "run" / "checkpoints" / name, state_["recipe"])
    assert names
    resumed = run(recipe, toy_shards, tmp_path / "run")
    assert all(torch.equal(resumed[key], tensor) for key, tensor in golden.items())


def test_nonfinite_stop(fragile: type[Fragile], toy_shards: Path, tmp_path: Path) -> None:
    fragile.bad = (5,)
    with pytest.raises(NotFiniteError, match=r"group 'model' is not finite at step 5 \(40 images\)") as caught:
        run(toy_recipe("fragile", slices=1), toy_shards, tmp_path)
    assert isinstance(caught.value, TrainingError)
    assert all(torch.isfinite(t).all() for t in state(tmp_path).values())
    warnings = [e for e in events.read(tmp_path / "events.jsonl")[0] if e["kind"] == "warning"]
    assert len(warnings) == 1


def test_nonfinite_skip(fragile: type[Fragile], toy_shards: Path, tmp_path: Path) -> None:
    fragile.bad = (5,)
    final = run(toy_recipe("fragile", slices=1, nonfinite="skip"), toy_shards, tmp_path)
    assert all(torch.isfinite(t).all() for t in final.values())
    skipped = dict(events.series(events.read(tmp_path / "events.jsonl")[0])["train/skipped_updates"])
    assert skipped == {16: 0.0, 32: 0.0, 48: 0.5, 64: 0.0}  # one of the two steps of that report


def test_nonfinite_rollback_goes_on_with_fresh_noise(fragile: type[Fragile], toy_shards: Path, tmp_path: Path) -> None:
    fragile.bad, fragile.times = (5,), 1
    run(toy_recipe("fragile", slices=1, nonfinite="rollback"), toy_shards, tmp_path)
    record = events.read(tmp_path / "events.jsonl")[0]
    warnings = [e["message"] for e in record if e["kind"] == "warning"]
    assert len(warnings) == 2
    assert warnings[1].startswith("rolled back to 32 images")
    salt = json.loads((checkpoint.saved(tmp_path / "checkpoints")[-1] / "state.json").read_text())["salt"]
    assert salt == 1


def test_nonfinite_rollback_gives_up(fragile: type[Fragile], toy_shards: Path, tmp_path: Path) -> None:
    fragile.bad = (5,)
    with pytest.raises(NotFiniteError):
        run(toy_recipe("fragile", slices=1, nonfinite="rollback"), toy_shards, tmp_path)
    assert fragile.visits == 4  # the first time and three roll-backs


def test_more_workers_than_slices_is_refused() -> None:
    from gen.train.parallel import Parallel

    with pytest.raises(Exception, match=r"training\.slices: a batch of 1 slice"):
        Parallel({}, rank=0, world=2, slices=1)


def test_metrics_that_are_not_finite_leave_valid_json(tmp_path: Path) -> None:
    log = events.EventLog(tmp_path / "events.jsonl")
    log.metrics("metrics", 8, {"good": 1.0, "bad": float("nan"), "worse": float("inf")})
    log.close()
    (event,), _ = events.read(tmp_path / "events.jsonl")
    assert event["values"] == {"good": 1.0}
    assert event["nonfinite"] == ["bad", "worse"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"x": float("nan")})
    assert not list(tmp_path.glob("*x.json*"))


def test_stop_is_honoured_and_says_how_to_go_on(toy_shards: Path, tmp_path: Path) -> None:
    context = ProcessContext()
    context.stop.set()
    with pytest.raises(PreemptedError, match="the same command goes on from it"):
        fit(toy_recipe("vae"), data=toy_shards, directory=tmp_path, context=context)
    assert len(checkpoint.saved(tmp_path / "checkpoints")) == 1
