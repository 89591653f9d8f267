"""The recipes of params.yaml, trained and evaluated by the product itself while other tests run.

Tests that need a trained recipe come last (see conftest.py), and what they will ask for is begun when the session
begins, on what the other tests leave of the machine's cores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from torch import Tensor

from gen.data.reader import everything
from gen.evaluate.seeds import fixed_seed
from gen.files import read_json
from gen.model import GenerativeModel
from gen.store import load_model
from pipelines import params
from pipelines.layout import Layout
from tests.project import Project

AT_ONCE = 2


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

    @property
    def shards(self) -> Path:
        return self.layout.shards(params.load(self.layout.root / "params.yaml").recipe(self.name).dataset)

    def pixels(self, split: str) -> Tensor:
        """uint8 images of a split."""
        return everything(self.shards, split)[0]

    def images(self, split: str, *, seed: int = 0) -> Tensor:
        """The same in the model's space."""
        with fixed_seed(seed):
            return self.model.spec.space.encode(self.pixels(split))


class Workshop:
    """Trains recipes of a project, each once, some at a time."""

    def __init__(self, project: Project) -> None:
        self.project, self.layout = project, Layout(project.root)
        self.recipes = params.load(project.root / "params.yaml").recipes
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._begun: dict[str, Future[Trained]] = {}
        self._data: defaultdict[str, Lock] = defaultdict(Lock)

    def begin(self, names: Iterable[str]) -> None:
        """Queue recipes; those that were queued before are not queued again."""
        for name in names:
            if name not in self._begun:
                self._begun[name] = self._pool.submit(self._train, name)

    def __call__(self, name: str) -> Trained:
        """A recipe when it has been trained."""
        self.begin([name])
        return self._begun[name].result()

    def close(self) -> None:
        """Drop what nobody waits for any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self.project.processes():
            process.kill()

    def _train(self, name: str) -> Trained:
        dataset = self.recipes[name].dataset
        with self._data[dataset]:
            if not self.layout.shards(dataset).exists():
                self.project.run("python", "-m", "pipelines.pull", dataset)
                self.project.run("python", "-m", "pipelines.shard", dataset)
            if not self.layout.judge(dataset).exists():
                self.project.run("python", "-m", "pipelines.judge", dataset)
        self.project.gen("train", name, "--workers", "0")
        self.project.run("python", "-m", "pipelines.evaluate", name)
        return Trained(self.layout, name)
