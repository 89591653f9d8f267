"""The recipes of params.yaml, trained and evaluated by the product itself, each once per session and on demand.

And projects of nothing but an embedded MLflow database; making one takes seconds, so the tests of a module share one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gen.data.reader import everything
from gen.data.sample import Collection
from gen.evaluate.seeds import fixed_seed
from gen.files import read_json
from gen.model import GenerativeModel
from gen.store import load_model
from pipelines import params, tracking
from pipelines.layout import Layout
from tests.pipeline.wires import Wire, free_port, service
from tests.project import ROOT, Project, make_project


@dataclass(frozen=True)
class Trained:
    """A trained recipe and its evaluation."""

    layout: Layout
    name: str

    @property
    def model(self) -> GenerativeModel:
        return load_model(self.layout.weights(self.name)).model

    @property
    def scores(self) -> dict[str, float]:
        return read_json(self.layout.scores(self.name) / "metrics.json")

    @property
    def gate(self) -> list[dict[str, Any]]:
        return read_json(self.layout.scores(self.name) / "gate.json")

    def pixels(self, split: str) -> Tensor:
        """uint8 images of a split."""
        dataset = params.load(self.layout.root / "params.yaml").recipe(self.name).dataset
        return everything(self.layout.shards(dataset), split)[0]

    def images(self, split: str, *, seed: int = 0) -> Tensor:
        """The same in the model's space."""
        with fixed_seed(seed):
            return self.model.spec.space.encode(self.pixels(split))


@pytest.fixture(scope="session")
def tour(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with this project's own params.yaml and the shards of the digits."""
    project = make_project(tmp_path_factory.mktemp("tour") / "project", digits_data)
    shutil.copy2(ROOT / "params.yaml", project.root / "params.yaml")
    return project


@pytest.fixture(scope="session")
def trained(tour: Project) -> Callable[[str], Trained]:
    recipes = params.load(tour.root / "params.yaml").recipes

    @cache
    def judge(dataset: str) -> None:
        stages = ("judge",) if Layout(tour.root).shards(dataset).exists() else ("pull", "shard", "judge")
        for stage in stages:
            tour.run("python", "-m", f"pipelines.{stage}", dataset)

    @cache
    def train(name: str) -> Trained:
        judge(recipes[name].dataset)
        tour.gen("train", name, "--workers", "0")
        tour.run("python", "-m", "pipelines.evaluate", name)
        return Trained(Layout(tour.root), name)

    torch.set_num_threads(1)
    return train


@pytest.fixture(scope="module")
def module_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without models. A space in its path must not matter."""
    return tmp_path_factory.mktemp("a project")


@pytest.fixture
def root(module_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same; the current directory is another, empty one, and stays empty."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    yield module_root
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def run_dir(root: Path, request: pytest.FixtureRequest) -> Path:
    """The directory of a run; every test has its own."""
    return root / "runs" / request.node.name.replace("[", "-").replace("]", "")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with its own database; the port."""
    place, port = tmp_path_factory.mktemp("a server"), free_port()
    words, needed = tracking.server.server_command(place, port=port)
    with service(words, cwd=place, port=port, path="/health", env=needed):
        yield port


@pytest.fixture
def wire(server: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """The way to the server, cut at first."""
    wire = Wire(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{wire.port}")
    return wire
