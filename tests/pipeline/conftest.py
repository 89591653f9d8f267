"""Projects of nothing but an embedded MLflow database; making one takes seconds, so the tests of a module share one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import tracking
from tests.pipeline.wires import Wire, free_port, service


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
