"""Killed at will: workers, drivers and `dvc repro` itself. Nothing is lost, nothing keeps running, nothing differs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from gen.data.sample import Collection
from tests.project import VAE, Project, make_project, wait_for

pytestmark = pytest.mark.slow
NAME = "vae-digits"
GONE_S = 20


@pytest.fixture(scope="module")
def golden(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """An undisturbed run, in process."""
    project = make_project(tmp_path_factory.mktemp("golden") / "project", digits_data, **{NAME: VAE})
    project.gen("train", NAME)
    return project


@pytest.fixture
def project(golden: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the project before it was trained."""
    for path in golden.root.iterdir():
        if path.name not in ("runs", "models", "mlflow"):
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, tmp_path / "project" / path.name) if (tmp_path / "project").mkdir(
                exist_ok=True
            ) is None else None
    found = Project(tmp_path / "project")
    yield found
    for process in found.processes():
        process.kill()


def assert_equal(project: Project, golden: Project) -> None:
    mine, theirs = project.weights(NAME), golden.weights(NAME)
    assert mine.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(mine[key], tensor), key


def starts(project: Project) -> list[dict]:
    return [event for event in project.events(NAME) if event["kind"] == "start"]


def test_a_killed_worker_is_replaced_and_the_weights_are_bit_equal(project: Project, golden: Project) -> None:
    process = project.start(sys.executable, "-m", "pipelines.cli", "train", NAME, "--workers", "1")
    wait_for(lambda: project.images(NAME) >= 16_000)
    worker = starts(project)[0]["pid"]
    assert worker != process.pid
    os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    _, second = starts(project)
    assert second["pid"] != worker
    assert 0 < second["resumed"] <= 96_000
    assert_equal(project, golden)


def test_a_killed_driver_leaves_nothing_running_and_the_same_command_resumes(project: Project, golden: Project) -> None:
    process = project.start(sys.executable, "-m", "pipelines.cli", "train", NAME, "--workers", "1")
    wait_for(lambda: project.images(NAME) >= 16_000)
    worker = psutil.Process(starts(project)[0]["pid"])
    process.kill()
    process.wait()
    project.gen("train", NAME, "--workers", "1")  # while the orphaned worker may still be writing
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert starts(project)[-1]["resumed"] > 0
    assert_equal(project, golden)


def test_sigterm_saves_a_checkpoint_and_exits_with_143(project: Project, golden: Project) -> None:
    for workers in ("0", "1"):
        before = project.images(NAME)
        process = project.start(sys.executable, "-m", "pipelines.cli", "train", NAME, "--workers", workers)
        wait_for(lambda: project.images(NAME) >= before + 8_000)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 143, output
        assert "the same command goes on from it" in output
    project.gen("train", NAME)
    assert_equal(project, golden)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_dvc_takes_its_stage_along_and_the_next_repro_resumes(
    project: Project, golden: Project, sent: signal.Signals
) -> None:
    dvc = [sys.executable, "-m", "dvc", "repro", "-s", f"train@{NAME}"]
    process = project.start(*dvc)
    wait_for(lambda: project.images(NAME) >= 16_000)
    trainer = psutil.Process(starts(project)[0]["pid"])
    process.send_signal(sent)
    process.wait()
    wait_for(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, seconds=GONE_S)
    wait_for(lambda: not project.processes(), seconds=GONE_S)
    saved = project.images(NAME)
    project.run(*dvc)
    assert starts(project)[-1]["resumed"] == saved
    assert_equal(project, golden)


def test_two_at_once_are_one_writer_and_the_second_says_who(project: Project, golden: Project) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "train", NAME]
    first = project.start(*command)
    wait_for(lambda: starts(project))
    refused = project.run(*command, expect=75)
    assert f"another process is writing here: pid {first.pid}" in refused
    output, _ = first.communicate(timeout=200)
    assert first.returncode == 0, output
    assert_equal(project, golden)


def test_two_repros_at_once_are_one_writer_and_the_second_says_who(project: Project, golden: Project) -> None:
    dvc = [sys.executable, "-m", "dvc", "repro", "-s", f"train@{NAME}"]
    first = project.start(*dvc)
    wait_for(lambda: starts(project))
    second = project.start(*dvc)
    refused, _ = second.communicate(timeout=60)
    assert second.returncode != 0
    assert str(first.pid) in refused
    output, _ = first.communicate(timeout=200)
    assert first.returncode == 0, output
    assert len(starts(project)) == 1
    assert_equal(project, golden)
