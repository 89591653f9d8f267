"""A small project of its own for tests that run the real commands: the code of this one, with other params."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from gen.data.sample import Collection
from gen.files import load_tensors
from gen.shards.write import write_shards
from gen.train import events

ROOT = Path(__file__).parents[1]
PARTS = ("gen", "pipelines", "dvc.yaml", ".dvc", ".dvcignore", "pyproject.toml")
VAE = {
    "model": "variational/vae",
    "dataset": "digits",
    "space": "binary_dynamic",
    "hyper": {"latents": 8, "hidden": [64]},
    "training": {
        "images": 96_000,
        "batch": 32,
        "slices": 2,
        "report": 1_600,
        "validate": 32_000,
        "pictures": 96_000,
        "checkpoint": 8_000,
    },
}


@dataclass(frozen=True)
class Project:
    """A directory with the code, a params.yaml and what the commands make of it."""

    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What commands run with: this interpreter's tools first, one thread, nothing inherited from MLflow."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", **more}

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """A command in the project's root, in a process group of its own."""
        return subprocess.Popen(
            words,
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, expect: int = 0, timeout: float = 400, **environment: str) -> str:
        """A command to its end; its output."""
        process = self.start(*words, **environment)
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == expect, f"{' '.join(words)} -> {process.returncode}\n{output}"
        return output

    def gen(self, *words: str, expect: int = 0, **environment: str) -> str:
        """A ``gen`` command to its end."""
        return self.run(sys.executable, "-m", "pipelines.cli", *words, expect=expect, **environment)

    def set_params(self, **sections: Any) -> None:
        """Write params.yaml."""
        with (self.root / "params.yaml").open("w") as file:
            YAML().dump({"studies": {}, **sections}, file)  # dvc.yaml goes through them

    def params(self) -> dict[str, Any]:
        """What params.yaml holds."""
        held: dict[str, Any] = YAML(typ="safe", pure=True).load((self.root / "params.yaml").read_text())
        return held

    def run_directory(self, recipe: str) -> Path | None:
        """The run's own directory, once there is one."""
        found = sorted((self.root / "runs").glob(f"{recipe}-*"))
        return found[-1] if found else None

    def events(self, recipe: str) -> list[dict[str, Any]]:
        """The record of a run so far."""
        directory = self.run_directory(recipe)
        return [] if directory is None else events.read(directory / "events.jsonl")[0]

    def images(self, recipe: str) -> int:
        """Images of the newest checkpoint."""
        return max((e["images"] for e in self.events(recipe) if e["kind"] == "checkpoint"), default=-1)

    def weights(self, recipe: str) -> dict[str, Any]:
        """The trained model's tensors."""
        return load_tensors(self.root / "models" / recipe / "weights" / "model.safetensors")

    def processes(self) -> list[psutil.Process]:
        """Living processes that work in this project: by current directory, command line or environment."""
        mine = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                if str(self.root) in words or process.cwd().startswith(str(self.root)):
                    mine.append(process)
            except psutil.Error:
                continue
        return mine


def make_project(root: Path, raw: Collection, **recipes: dict[str, Any]) -> Project:
    """A project with sharded digits and some recipes, committed to git as a user's would be."""
    root.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache")
            shutil.copytree(source, root / part, ignore=ignored)
        else:
            shutil.copy2(source, root / part)
    project = Project(root)
    project.set_params(
        datasets={"digits": {"source": "digits"}},
        recipes=recipes,
        evaluation={"samples": 200},
        gates={name: {} for name in recipes},
        resources={"default": {"workers": 0, "threads": 1}},
        tour=list(recipes),
    )
    write_shards(raw, root / "data" / "shards" / "digits")
    (root / ".gitignore").write_text("/runs/\n/mlflow/\n__pycache__/\n")
    for words in (["init", "-q"], ["add", "-A", "gen", "pipelines", "dvc.yaml", "params.yaml", ".gitignore"]):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *identity, "commit", "-qm", "start"], cwd=root, check=True, capture_output=True)
    return project


def wait_for(what: Callable[[], Any], *, seconds: float = 120) -> Any:
    """Poll until something is true; its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain")


def as_json(text: str) -> Any:
    """The JSON in a command's output, after lines on stderr."""
    start = min(i for i in (text.find("{"), text.find("[")) if i >= 0)
    return json.loads(text[start:])
