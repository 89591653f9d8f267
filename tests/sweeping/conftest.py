"""A project whose sweeps take seconds: a small VAE on real digits, and its judge."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gen.data.sample import Collection
from tests.project import Project, make_project

NAME = "vae-digits"
EVERY, BUDGET = 1_600, 6_400
RECIPE = {
    "model": "variational/vae",
    "dataset": "digits",
    "space": "binary_dynamic",
    "hyper": {"latents": 4, "hidden": [32]},
    "training": {"images": BUDGET, "batch": 32, "slices": 2, "report": 800},
}
SWEEP = {
    "objective": {"maximize": "eval/nats_elbo"},
    "every": EVERY,
    "space": {
        "optim.model.lr": {"grid": [0.0003, 0.001, 0.003]},
        "hyper.latents": {"grid": [2, 8]},
    },
}


@pytest.fixture(scope="session")
def master(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("sweeping") / "project", digits_data, **{NAME: RECIPE})
    project.set_params(**project.params(), judge={"images": 1_600}, sweeps={NAME: SWEEP})
    project.run("python", "-m", "pipelines.judge", "digits")
    return project


@pytest.fixture
def project_with(master: Project, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Copies of the project with other params; whatever still runs in them at the end is ended."""
    made: list[Project] = []

    def make(**sections: Any) -> Project:
        root = tmp_path / f"project-{len(made)}"
        shutil.copytree(master.root, root, ignore=shutil.ignore_patterns("runs", "mlflow", "sweeps"))
        project = Project(root)
        project.set_params(**{**master.params(), **sections})
        made.append(project)
        return project

    yield make
    for project in made:
        for process in project.processes():
            process.kill()
