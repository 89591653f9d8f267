"""`gen sweep` by its command: pruned, killed, resumed, adopted; through workers of its own; in populations."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gen.files import read_json
from gen.train import events
from pipelines.cli import main
from tests.project import Project, as_json, wait_for
from tests.sweeping.conftest import BUDGET, EVERY, NAME, RECIPE, SWEEP

Make = Callable[..., Project]


def sweep_directory(project: Project) -> Path:
    return next((project.root / "runs" / "sweeps").iterdir())


def trials(project: Project) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted(project.root.glob("runs/sweeps/*/trials/*/trial.json"))]


def compared(project: Project) -> list[tuple[int, Any, str, Any]]:
    """What must not depend on interruptions."""
    return [(t["number"], t["values"], t["state"], t["curve"]) for t in trials(project)]


def statuses(project: Project) -> Counter[str]:
    """Of all MLflow runs."""
    with sqlite3.connect(project.root / "mlflow" / "mlflow.db") as database:
        return Counter(status for (status,) in database.execute("select status from runs"))


def children(project: Project) -> int:
    with sqlite3.connect(project.root / "mlflow" / "mlflow.db") as database:
        (count,) = database.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchone()
    return int(count)


def test_trials_are_pruned_tracked_published_and_adopted(
    project_with: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    project = project_with()
    output = project.gen("sweep", NAME, "--trials", "4", "--json")
    result = as_json(output[output.index("\n{") :])
    found = trials(project)
    assert len(found) == 4 == sum(result["trials"].values())
    assert set(result["trials"]) <= {"finished", "pruned"}
    assert result["images"] == sum(t["images"] for t in found)
    assert result["trials"].get("pruned", 0) == sum(t["images"] < BUDGET for t in found)
    finished = [t for t in found if t["state"] == "finished"]
    assert result["best"]["value"] == max(t["curve"][-1][1] for t in finished)
    assert all([point[0] for point in t["curve"]] == [*range(EVERY, t["images"] + 1, EVERY)] for t in found)
    assert statuses(project) == {"FINISHED": 5}
    assert children(project) == 4
    for name in ("best.yaml", "trials.csv", "pictures/parallel.png", "pictures/importance.png", "pictures/history.png"):
        assert (project.root / "sweeps" / NAME / name).exists(), name
    assert "Traceback" not in output
    assert "ray" not in output.lower().replace("array", "")

    gen = ("--root", str(project.root))
    assert main([*gen, "sweep", NAME, "--trials", "4"]) == 2
    refusal = capsys.readouterr().err
    assert "this sweep was begun before: 4 of 4 trials are over" in refusal
    assert "--resume" in refusal

    assert main([*gen, "adopt", NAME]) == 0
    said = capsys.readouterr().out
    for key, value in result["best"]["values"].items():
        assert f"{key.split('.')[-1]}: {value}" in said
    latents = result["best"]["values"].get("hyper.latents", RECIPE["hyper"]["latents"])
    assert project.params()["recipes"][NAME]["hyper"] == {**RECIPE["hyper"], "latents": latents}

    # what is adopted trains to the very weights of its trial
    assert main([*gen, "train", NAME]) == 0
    best = sweep_directory(project) / "trials" / f"{result['best']['trial']:04d}" / "final"
    sums = [read_json(d / "model.json")["files"] for d in (best, project.root / "models" / NAME / "weights")]
    assert sums[0] == sums[1]


@pytest.mark.slow
@pytest.mark.parametrize("search", ["random", "grid"])
def test_killed_at_half_way_it_goes_on_as_if_nothing_had_happened(project_with: Make, search: str) -> None:
    words = ("sweep", NAME, "--trials", "6", "--search", search, "--scheduler", "none")
    undisturbed, project = project_with(), project_with()
    undisturbed.gen(*words)

    process = project.start(sys.executable, "-m", "pipelines.cli", *words)
    wait_for(lambda: Counter(t["state"] for t in trials(project)) >= Counter(finished=3, running=1))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {t["number"]: t for t in trials(project)}
    assert any(t["state"] == "running" for t in before.values())
    assert statuses(project)["RUNNING"] > 0

    result = as_json(project.gen(*words, "--resume", "--json").split("\n{", 1)[1].join(["{", ""]))
    assert compared(project) == compared(undisturbed)
    assert statuses(project) == {"FINISHED": 7}
    assert children(project) == 6
    configurations = [json.dumps(t["values"], sort_keys=True) for t in trials(project)]
    assert len(set(configurations)) == 6
    for trial in trials(project):
        log, _ = events.read(sweep_directory(project) / "trials" / f"{trial['number']:04d}" / "events.jsonl")
        starts = [event for event in log if event["kind"] == "start"]
        if before.get(trial["number"], {}).get("state") == "finished":
            assert len(starts) == 1, "a finished trial is not run again"
        assert [event["resumed"] for event in starts] == sorted({event["resumed"] for event in starts})
    best = [t for t in trials(undisturbed) if t["number"] == result["best"]["trial"]]
    assert best[0]["curve"][-1][1] == result["best"]["value"]


@pytest.mark.slow
def test_asked_to_stop_it_saves_and_says_how_to_go_on(project_with: Make) -> None:
    project = project_with(recipes={NAME: {**RECIPE, "training": {**RECIPE["training"], "images": 640_000}}})
    words = ("sweep", NAME, "--trials", "2", "--scheduler", "none")
    process = project.start(sys.executable, "-m", "pipelines.cli", *words)
    wait_for(lambda: [t["state"] for t in trials(project) if t["curve"]] == ["running", "running"])
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    assert "2 trial(s) are left, and checkpoints were saved. The same command with --resume goes on." in output
    assert [t["state"] for t in trials(project)] == ["killed", "killed"]
    assert statuses(project) == {"KILLED": 3}
    done = [t["images"] for t in trials(project)]
    project.gen(*words, "--resume", "--time-budget", "20s")  # over is over, and no failure
    assert [t["state"] for t in trials(project)] == ["killed", "killed"]
    assert all(now["images"] >= before for now, before in zip(trials(project), done, strict=True))
    assert "stopped by the time budget" in [t["error"] for t in trials(project)]


@pytest.mark.slow
def test_a_search_that_learns_and_a_rule_that_compares_with_the_median(project_with: Make) -> None:
    project = project_with()
    words = ("sweep", NAME, "--search", "optuna", "--scheduler", "median")
    project.gen(*words, "--trials", "3")
    first = compared(project)
    project.gen(*words, "--trials", "5", "--resume")
    assert compared(project)[:3] == first, "what was is learnt from, not run again"
    found = trials(project)
    assert len({json.dumps(t["values"], sort_keys=True) for t in found}) == 5
    assert {t["state"] for t in found} <= {"finished", "pruned"}
    assert statuses(project) == {"FINISHED": 6}


@pytest.mark.slow
def test_trials_of_two_workers_share_the_cluster_and_none_waits_for_ever(project_with: Make) -> None:
    project = project_with()
    project.gen("sweep", NAME, "--trials", "3", "--workers-per-trial", "2")
    assert {t["state"] for t in trials(project)} <= {"finished", "pruned"}
    for directory in sorted(sweep_directory(project).glob("trials/*")):
        log, _ = events.read(directory / "events.jsonl")
        assert {event["world"] for event in log if event["kind"] == "start"} == {2}
    assert statuses(project) == {"FINISHED": 4}


@pytest.mark.slow
def test_a_population_goes_on_from_the_weights_of_its_best(project_with: Make) -> None:
    space = {"optim.model.lr": {"loguniform": [1e-5, 1e-2]}, "hyper.latents": {"choice": [2, 8]}}
    project = project_with(sweeps={NAME: {**SWEEP, "space": space}})
    project.gen("sweep", NAME, "--trials", "4", "--scheduler", "pbt")
    found = trials(project)
    assert [t["state"] for t in found] == ["finished"] * 4
    changed = [t for t in found if t["history"]]
    assert changed, "the worst quarter goes on from better weights"
    for trial in changed:
        assert all(1e-5 <= values["optim.model.lr"] <= 1e-2 for _, values, _ in trial["history"])
        log, _ = events.read(sweep_directory(project) / "trials" / f"{trial['number']:04d}" / "events.jsonl")
        assert "transplant" in {event["kind"] for event in log}
    assert statuses(project) == {"FINISHED": 5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep", "vae-digit"), "there is no recipe 'vae-digit'"),
        (("sweep", NAME, "--workers-per-trial", "3"), "3 workers cannot share a batch of 2 slice(s)"),
        (("sweep", NAME, "--workers-per-trial", "2", "--gpus-per-trial", "1"), "Leave one of the two out"),
        (("sweep", NAME, "--seed", "-1"), "seed: found -1"),
        (("adopt", NAME), "Run `gen sweep vae-digits` first"),
    ],
)
def test_refusals(project_with: Make, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    project = project_with()
    assert main(["--root", str(project.root), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list((project.root).glob("runs/sweeps/*/trials/*"))


def test_a_score_that_does_not_exist_is_refused_before_the_first_trial(
    project_with: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    project = project_with(sweeps={NAME: {**SWEEP, "objective": {"minimize": "eval/fidd"}}})
    assert main(["--root", str(project.root), "sweep", NAME]) == 2
    said = capsys.readouterr().err
    assert "sweeps.vae-digits.objective: eval/fidd: VAE has no such score" in said
    assert "Did you mean 'fid'?" in said
    assert not list(project.root.glob("runs/sweeps/*/trials/*"))


def test_without_a_judge_it_says_what_to_run(project_with: Make, capsys: pytest.CaptureFixture[str]) -> None:
    project = project_with()
    (project.root / "data" / "judge" / "digits" / "judge.json").unlink()
    assert main(["--root", str(project.root), "sweep", NAME]) == 3
    assert "Run `dvc repro judge@digits` first" in capsys.readouterr().err
