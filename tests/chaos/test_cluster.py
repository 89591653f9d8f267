"""Three nodes on one machine: a sweep and a training across them, and one of them goes down."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gen.data.sample import Collection
from gen.files import read_json
from gen.train import events
from tests.contracts.runs import worst
from tests.project import VAE, Project, make_project, wait_for

pytestmark = pytest.mark.slow
NAME = "vae-digits"
LONG = {**VAE, "training": {**VAE["training"], "images": 64_000, "validate": 16_000, "checkpoint": 8_000}}
SWEEP = {
    "objective": {"maximize": "eval/nats_elbo"},
    "every": 8_000,
    "space": {"optim.model.lr": {"loguniform": [3e-4, 3e-3]}},
}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs nothing, and three nodes of one CPU: one more than anything here needs."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    made.workers = [made.add_node(num_cpus=1, **memory) for _ in range(3)]
    yield made
    made.shutdown()


def project_on(cluster: Any, root: Path, raw: Collection, recipe: dict[str, Any], workers: int) -> Project:
    project = make_project(root, raw, **{NAME: recipe})
    resources = {"default": {"workers": workers, "address": cluster.address}}
    project.set_params(
        **{**project.params(), "resources": resources, "judge": {"images": 1_600}, "sweeps": {NAME: SWEEP}}
    )
    return project


def node_of(cluster: Any, pid: int) -> Any:
    """The node one of whose processes has this id."""
    import psutil

    above = {process.pid for process in psutil.Process(pid).parents()}
    return next(
        node
        for node in cluster.workers
        if {each.process.pid for kind in node.all_processes.values() for each in kind} & above
    )


def test_two_workers_on_two_nodes_survive_the_loss_of_one(
    cluster: Any, digits_data: Collection, tmp_path: Path
) -> None:
    project = project_on(cluster, tmp_path / "project", digits_data, LONG, workers=2)
    process = project.start(sys.executable, "-m", "pipelines.cli", "train", NAME)
    wait_for(lambda: project.images(NAME) >= 8_000, seconds=200)
    first = next(event for event in project.events(NAME) if event["kind"] == "start")
    assert first["world"] == 2
    cluster.remove_node(node_of(cluster, first["pid"]), allow_graceful=False)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    starts = [event for event in project.events(NAME) if event["kind"] == "start"]
    assert len(starts) >= 2
    assert starts[-1]["resumed"] >= 8_000
    alone = make_project(tmp_path / "alone", digits_data, **{NAME: LONG})
    alone.gen("train", NAME)
    assert worst(project.weights(NAME), alone.weights(NAME)) <= 1e-5


def test_a_sweep_loses_a_node_and_no_trial(cluster: Any, digits_data: Collection, tmp_path: Path) -> None:
    short = {**VAE, "training": {**VAE["training"], "images": 48_000}}
    project = project_on(cluster, tmp_path / "project", digits_data, short, workers=1)
    project.run("python", "-m", "pipelines.judge", "digits")
    words = ("sweep", NAME, "--trials", "4", "--scheduler", "none", "--address", cluster.address)
    process = project.start(sys.executable, "-m", "pipelines.cli", *words)

    def started() -> dict[int, dict[str, Any]]:
        logs = sorted(project.root.glob("runs/sweeps/*/trials/*/events.jsonl"))
        return {int(log.parent.name): e for log in logs for e in events.read(log)[0][:1] if e["kind"] == "start"}

    def curve(number: int) -> list[Any]:
        (path,) = project.root.glob(f"runs/sweeps/*/trials/{number:04d}/trial.json")
        return read_json(path)["curve"]

    wait_for(lambda: len(started()) == 3 and all(len(curve(number)) >= 1 for number in started()), seconds=200)
    nodes = {number: node_of(cluster, event["pid"]) for number, event in started().items()}
    assert len({id(node) for node in nodes.values()}) == 3, "one trial on each node"
    lost = 1
    cluster.remove_node(nodes[lost], allow_graceful=False)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    trials = [read_json(path) for path in sorted(project.root.glob("runs/sweeps/*/trials/*/trial.json"))]
    assert [t["state"] for t in trials] == ["finished"] * 4
    marks = [*range(8_000, 48_001, 8_000)]
    assert all([images for images, _ in t["curve"]] == marks for t in trials)
    log, _ = events.read(next(project.root.glob(f"runs/sweeps/*/trials/{lost:04d}/events.jsonl")))
    starts = [event for event in log if event["kind"] == "start"]
    assert len(starts) == 2
    assert starts[1]["pid"] != starts[0]["pid"]
    assert starts[1]["resumed"] >= 8_000
