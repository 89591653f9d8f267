"""One embedded database for all tests of promotion; every test has a model of its own there, and its own log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.tracking.shelf import Shelf
from tests.promotion.registry import add_model


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a registry")


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_TRACKING")]:
        monkeypatch.delenv(name)


@pytest.fixture
def shelf(root: Path) -> Shelf:
    return Shelf(root)


@pytest.fixture
def name(root: Path, request: pytest.FixtureRequest) -> str:
    """A registered model without versions."""
    found = "".join(c if c.isalnum() else "-" for c in request.node.name)
    add_model(root, found)
    return found
