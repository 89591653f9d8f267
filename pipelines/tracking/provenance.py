"""What is known about a run before it starts: what it is called, what it is trained on, and where it comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gen


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What a run was trained on.

    Attributes:
        name: of the data set.
        digest: sha256 of its manifest.
        source: where it came from: a URL or a path.
    """

    name: str
    digest: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a run is called and where it comes from.

    Attributes:
        experiment: MLflow experiment, e.g. the data set.
        run_name: shown in the UI.
        params: the recipe as nested dictionaries (:meth:`gen.recipe.Recipe.as_dict`).
        tags: everything else, e.g. :func:`provenance`, workers, device.
        dataset: the logged input.
        document: the file that holds ``params`` beside them, as JSON.
        parent: directory of the run this one belongs to, from its own: that of the sweep, for a trial.
    """

    experiment: str
    run_name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    dataset: Dataset | None = None
    document: str = "recipe.json"
    parent: str = ""


def provenance(root: Path) -> dict[str, str]:
    """Tags that say where a run comes from: git commit, hash of dvc.lock, versions, DVC stage."""
    tags = {"version.gen": gen.__version__}
    for package in ("torch", "ray", "mlflow", "dvc"):
        try:
            tags[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if (commit := _git(root, "rev-parse", "HEAD")) is not None:
        tags["git.commit"] = tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = str(bool(_git(root, "status", "--porcelain"))).lower()
    if (lock := root / "dvc.lock").exists():
        tags["dvc.lock"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    for variable in ("DVC_STAGE", "DVC_EXP_NAME"):
        if variable in os.environ:
            tags[variable.lower().replace("_", ".", 1)] = os.environ[variable]
    return tags


def process(run_dir: Path) -> dict[str, str]:
    """Tags that say who keeps a run up to date, so that another process can find out whether it still does."""
    return {
        "process.host": socket.gethostname(),
        "process.pid": str(os.getpid()),
        "process.directory": str(run_dir.resolve()),
    }


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment() -> str:
    """The interpreter and every installed distribution, as text."""
    packages = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    return "\n".join([f"# python {platform.python_version()}, {platform.platform()}", *sorted(packages, key=str.lower)])
