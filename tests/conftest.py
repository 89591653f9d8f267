"""What the tests share: real digits as shards, in full and in small; and the recipes of params.yaml, trained."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from pathlib import Path

import pytest
import torch

from gen.data.sample import Collection
from gen.shards.write import write_shards
from gen.sources.digits import digits
from tests.project import ROOT, make_project
from tests.toys import write_toys
from tests.workshop import Workshop

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits_data() -> Collection:
    return digits()


@pytest.fixture(scope="session")
def digits_shards(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of `digits`: 3,500 / 500 / 1,000 images of 28x28."""
    root = tmp_path_factory.mktemp("digits") / "shards"
    write_shards(digits_data, root)
    return root


@pytest.fixture(scope="session")
def toy_shards(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real digits at 12x12: 240 / 60 / 60 images; and beside them as many videos (tests.toys.toy_data)."""
    root = tmp_path_factory.mktemp("toy") / "shards"
    write_toys(digits_data, root)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Where the real data sets lie, in the layouts their publishers use."""
    if "GEN_REAL_DATA" not in os.environ:
        pytest.skip("GEN_REAL_DATA does not name the root of the real data sets")
    return Path(os.environ["GEN_REAL_DATA"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs trained recipes comes last: they are trained while everything else runs."""
    items.sort(key=_needs_training)


def _needs_training(item: pytest.Item) -> bool:
    return "trained" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def trained(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """The recipes of this project's own params.yaml, each trained when it is first asked for."""
    project = make_project(tmp_path_factory.mktemp("tour") / "project", digits_data)
    shutil.copy2(ROOT / "params.yaml", project.root / "params.yaml")
    workshop = Workshop(project)
    yield workshop
    workshop.close()


@pytest.fixture(scope="session", autouse=True)
def _begun_early(request: pytest.FixtureRequest) -> None:
    """Begin with the recipes that the selected tests ask for by their parameter ``name``."""
    selected = [item for item in request.session.items if _needs_training(item)]
    names = [item.callspec.params["name"] for item in selected if hasattr(item, "callspec")]
    if names:
        request.getfixturevalue("trained").begin(names)
