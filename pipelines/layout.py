"""Where everything lies, relative to the root of the project.

data/raw/<data set>/        what pull brought
data/shards/<data set>/     what training reads
data/judge/<data set>/      the classifier whose features distances are measured in
runs/<recipe>-<hash>/       a run's own directory: record, checkpoints, locks (not DVC's)
models/<recipe>/            a trained model: weights/, events.jsonl, curves.csv, pictures/, train.json
scores/<recipe>/            its evaluation: card.json, metrics.json, gate.json, pictures/
registered/<recipe>.json    its version in the registry
studies/<study>/            what a study found: study.json and its figures
report/                     the report of everything
runs/sweeps/<recipe>-<hash>/  a sweep's own directory: its ledger and its trials' runs
sweeps/<recipe>/            what a sweep found: best.yaml, trials.csv, sweep.json, pictures/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gen
from gen.files import digest, read_json, sha256

if TYPE_CHECKING:
    from gen.recipe import Recipe

SHARED_CODE = ("data", "inference", "losses", "nets", "remote", "train")
WRITING_CODE = ("data", "shards", "sources")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below a root."""

    root: Path

    def raw(self, dataset: str) -> Path:
        """What pull brought."""
        return self.root / "data" / "raw" / dataset

    def shards(self, dataset: str) -> Path:
        """What training reads."""
        return self.root / "data" / "shards" / dataset

    def judge(self, dataset: str) -> Path:
        """The judge."""
        return self.root / "data" / "judge" / dataset

    def model(self, recipe: str) -> Path:
        """A trained model and the record of its training."""
        return self.root / "models" / recipe

    def weights(self, recipe: str) -> Path:
        """The stored model alone (see gen.store)."""
        return self.model(recipe) / "weights"

    def scores(self, recipe: str) -> Path:
        """Its evaluation."""
        return self.root / "scores" / recipe

    def registered(self, recipe: str) -> Path:
        """Its version in the registry."""
        return self.root / "registered" / f"{recipe}.json"

    def study(self, name: str) -> Path:
        """What a study found."""
        return self.root / "studies" / name

    def report(self) -> Path:
        """The report."""
        return self.root / "report"

    def sweep(self, recipe: str) -> Path:
        """What a sweep found."""
        return self.root / "sweeps" / recipe

    def sweep_run(self, recipe: str, identity: str) -> Path:
        """A sweep's own directory."""
        return self.root / "runs" / "sweeps" / f"{recipe}-{identity}"

    def run(self, name: str, identity: str) -> Path:
        """A run's own directory. The hash makes the same run resume, and another one start afresh."""
        return self.root / "runs" / f"{name}-{identity}"


def code_digest(chapter: str) -> str:
    """Digest of the code that decides what a model becomes: its own chapter, and what all models share."""
    package = Path(gen.__file__).parent
    files = [
        *sorted(package.glob("*.py")),
        *(path for part in SHARED_CODE for path in sorted((package / part).rglob("*.py"))),
        package / "models" / f"{chapter}.py",
    ]
    return digest({str(path.relative_to(package)): sha256(path) for path in files})


def writing_digest() -> str:
    """Digest of the code that decides what shards hold."""
    package = Path(gen.__file__).parent
    files = [path for part in WRITING_CODE for path in sorted((package / part).rglob("*.py"))]
    return digest({str(path.relative_to(package)): sha256(path) for path in files})


def run_identity(recipe: Recipe, *, data: str, code: str) -> str:
    """First 10 hex digits of a digest of everything that decides a run: recipe, data, code."""
    return digest({"recipe": recipe.as_dict(), "data": data, "code": code})[:10]


def run_of(layout: Layout, recipe: str) -> Path:
    """The run directory a trained model came from."""
    meta = read_json(layout.weights(recipe) / "model.json")
    return layout.run(recipe, run_identity_of(meta))


def run_identity_of(meta: dict) -> str:
    """The identity of the run that wrote a ``model.json``."""
    return digest({"recipe": meta["recipe"], "data": meta["data"], "code": meta["code"]})[:10]
