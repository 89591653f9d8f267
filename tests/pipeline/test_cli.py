"""The `gen` command: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gen.registry import list_models
from pipelines import cli
from tests.project import VAE, Project, as_json, make_project


@pytest.fixture(scope="module")
def project(digits_data, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One small model, trained in process with MLflow out of reach."""
    small = {**VAE, "training": {**VAE["training"], "images": 3_200, "report": 800}}
    project = make_project(tmp_path_factory.mktemp("cli") / "project", digits_data, **{"vae-digits": small})
    output = project.gen("train", "vae-digits", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "warning: MLflow at http://127.0.0.1:9" in output
    assert "`gen sync` sends what is missing" in output
    return project


def test_training_went_on_without_mlflow_and_metrics_arrive_later(project: Project) -> None:
    assert (project.root / "models/vae-digits/weights/model.safetensors").is_file()
    assert ": 0 events sent" not in project.gen("sync")
    assert "MLflow has been told everything" in project.gen("sync")


def test_plain_lines_tell_how_far_training_is(project: Project) -> None:
    (project.root / "runs").rename(project.root / "runs-before")
    try:
        output = project.gen("train", "vae-digits")
    finally:
        (project.root / "runs-before").rename(project.root / "runs-kept")
    assert "vae-digits:   0 %  0 images  started, 1 worker(s) on cpu" in output
    assert "vae-digits: 100 %  3200 images" in output


def test_sample_draws_the_same_grid_for_the_same_seed(project: Project) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        project.gen("sample", "vae-digits", "--count", "4", "--seed", seed, "--out", f"{name}.png")
    a, b, c = ((project.root / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_doctor_finds_the_project_well(project: Project) -> None:
    findings = {f["what"]: f for f in as_json(project.gen("doctor", "--json"))}
    assert set(findings) >= {"python", "cpu", "gpu", "disk", "packages", "torchvision", "params.yaml", "mlflow", "ray"}
    assert all(f["ok"] for f in findings.values()), findings


def test_doctor_has_a_remedy_for_a_server_that_is_away(project: Project) -> None:
    output = project.gen("doctor", expect=1, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "BAD  mlflow" in output
    assert "correct MLFLOW_TRACKING_URI" in output


def test_models_is_the_table_of_contents(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--json"]) == 0
    assert [m["name"] for m in json.loads(capsys.readouterr().out)] == list_models()
    assert cli.main(["models", "wgan_gp"]) == 0
    shown = capsys.readouterr().out
    assert "critic_steps = " in shown
    assert "model: adversarial/wgan_gp" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "vae-digit"], 2, "there is no recipe 'vae-digit'. Recipes: vae-digits. Did you mean 'vae-digits'?"),
        (["models", "vea"], 2, "there is no model 'vea'."),
        (["sample", "nothing"], 5, "model.json: no such file."),
        (["sample", "vae-digits", "--count", "0"], 2, "--count: found 0; it must be at least 1."),
        (["train", "vae-digits", "--workers", "4"], 2, "4 workers cannot share a batch of 2 slice(s)."),
    ],
)
def test_what_cannot_be_done_is_said(
    project: Project, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert cli.main(["--root", str(project.root), *words]) == code
    assert message in capsys.readouterr().err


def test_missing_and_damaged_shards(
    project: Project, digits_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_project(tmp_path / "other", digits_data, **{"vae-digits": VAE})
    tar = sorted((other.root / "data/shards/digits/train").glob("*.tar"))[0]
    content = bytearray(tar.read_bytes())
    content[3_000] ^= 1
    tar.write_bytes(content)
    assert cli.main(["--root", str(other.root), "train", "vae-digits", "--workers", "0"]) == 3
    assert tar.name in capsys.readouterr().err
    (other.root / "data/shards/digits/manifest.json").unlink()
    assert cli.main(["--root", str(other.root), "train", "vae-digits", "--workers", "0"]) == 3
    assert "Run `dvc repro shard@digits` first" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "exit codes:" in shown
    assert "dvc repro tour" in shown
