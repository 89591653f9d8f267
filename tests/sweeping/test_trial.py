"""A trial without Ray: one measurement at a time, told again after a restart, and weights taken from another trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gen.errors import StoreError, TrainingError
from gen.files import load_tensors
from gen.model import GenerativeModel
from gen.recipe import Recipe, Training
from gen.train import checkpoint, events
from gen.train.context import ProcessContext
from pipelines.cluster.job import Job
from pipelines.cluster.training import train_here
from pipelines.cluster.trial import Gate, Measured, Trial

EVERY, BUDGET = 640, 1_920


def size(model: GenerativeModel) -> dict[str, float]:
    return {"size": float(sum(p.detach().abs().sum() for p in model.parameters()))}


def train(job: Job, gate: Gate) -> None:
    train_here(job, gate, threads=1)


def job_in(directory: Path, shards: Path, *, lr: float = 1e-3, latents: int = 2, examine: Any = size) -> Job:
    recipe = Recipe(
        name="trial",
        model="variational/vae",
        dataset="toy",
        space="binary_dynamic",
        hyper={"latents": latents, "hidden": (8,)},
        optim={"model": {"lr": lr}},
        training=Training(images=BUDGET, batch=32, report=160, validate=EVERY, pictures=BUDGET, checkpoint=EVERY),
    )
    return Job(recipe, shards, directory, "code", examine=examine)


def to_the_end(trial: Trial) -> list[Measured]:
    found = []
    while (measured := trial.step()) is not None:
        found.append(measured)
        if measured.images >= BUDGET:
            break
    return found


@pytest.fixture(scope="module")
def undisturbed(toy_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Measured]]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, to_the_end(Trial(job_in(directory, toy_shards), "size", train))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_tensors(directory / "final" / "model.safetensors")


def test_it_measures_at_every_rung_and_leaves_a_model(undisturbed: tuple[Path, list[Measured]]) -> None:
    directory, found = undisturbed
    assert [m.images for m in found] == [640, 1280, 1920]
    assert len({m.value for m in found}) == 3
    assert (directory / "final" / "model.json").exists()


def test_what_is_examined_does_not_change_what_is_learnt(
    undisturbed: tuple[Path, list[Measured]], toy_shards: Path, tmp_path: Path
) -> None:
    plain = replace(job_in(tmp_path, toy_shards), examine=None)
    plain.fit(ProcessContext())
    assert all(
        torch.equal(a, b) for a, b in zip(weights(undisturbed[0]).values(), weights(tmp_path).values(), strict=True)
    )


def test_it_trains_no_further_than_it_is_let(toy_shards: Path, tmp_path: Path) -> None:
    """A scheduler decides about a trial before the trial spends more images."""
    trial = Trial(job_in(tmp_path, toy_shards), "size", train)
    first = trial.step()
    assert first is not None
    assert trial._thread is not None
    trial._thread.join(0.5)
    log, _ = events.read(tmp_path / "events.jsonl")
    assert max(event["images"] for event in log) == first.images == EVERY
    trial.stop()
    assert not trial._thread.is_alive()
    assert [int(path.name) for path in checkpoint.saved(tmp_path / "checkpoints")] == [EVERY]


def test_stopped_anywhere_it_goes_on_and_tells_the_same(
    undisturbed: tuple[Path, list[Measured]], toy_shards: Path, tmp_path: Path
) -> None:
    directory, expected = undisturbed
    for rungs in (1, 2):
        trial = Trial(job_in(tmp_path, toy_shards), "size", train)
        assert [trial.step() for _ in range(rungs)] == expected[:rungs]
        trial.stop()
    assert to_the_end(Trial(job_in(tmp_path, toy_shards), "size", train)) == expected
    again = Trial(job_in(tmp_path, toy_shards), "size", train)
    assert to_the_end(again) == expected, "a complete trial only tells"
    assert all(torch.equal(a, b) for a, b in zip(weights(directory).values(), weights(tmp_path).values(), strict=True))


def test_it_goes_on_from_the_weights_of_another(toy_shards: Path, tmp_path: Path) -> None:
    """Exploit and explore: the better one's weights, optimizer and clock, under hyper-parameters of its own."""
    better = Trial(job_in(tmp_path / "better", toy_shards), "size", train)
    worse = Trial(job_in(tmp_path / "worse", toy_shards, lr=1e-5), "size", train)
    told = [better.step(), better.step()]
    assert worse.step() is not None
    assert worse.step() is not None
    better.give(tmp_path / "given")
    worse.stop()
    member = Trial(job_in(tmp_path / "worse", toy_shards, lr=1e-3), "size", train)
    member.take(tmp_path / "given")
    rest = to_the_end(member)
    assert rest == to_the_end(better), "with the better one's values it becomes the better one, bit for bit"
    assert [m.images for m in rest] == [BUDGET]
    assert told[1] is not None
    log, _ = events.read(tmp_path / "worse" / "events.jsonl")
    assert [event["images"] for event in log if event["kind"] == "transplant"] == [told[1].images]


def test_weights_that_do_not_fit_are_refused(toy_shards: Path, tmp_path: Path) -> None:
    donor = Trial(job_in(tmp_path / "donor", toy_shards), "size", train)
    donor.step()
    donor.give(tmp_path / "given")
    donor.stop()
    other = Trial(job_in(tmp_path / "other", toy_shards, latents=3), "size", train)
    other.take(tmp_path / "given")
    with pytest.raises(StoreError, match=r"(?s)does not fit the model.*size mismatch"):
        other.step()


def test_an_objective_that_is_not_finite_ends_the_trial(toy_shards: Path, tmp_path: Path) -> None:
    job = job_in(tmp_path, toy_shards, examine=lambda model: {"size": float("nan")})
    trial = Trial(job, "size", train)
    with pytest.raises(TrainingError, match="size is not finite at 640 images"):
        trial.step()
    trial.stop()
