"""What the tests share: real digits as shards, in full and in small."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from pathlib import Path

import pytest
import torch

from gen.data.sample import Collection
from gen.shards.write import write_shards
from gen.sources.digits import digits
from tests.toys import toy_digits

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
    """A few real digits at 12x12: 240 / 60 / 60 images."""
    root = tmp_path_factory.mktemp("toy") / "shards"
    write_shards(toy_digits(digits_data), root)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Where the real data sets lie, in the layouts their publishers use."""
    if "GEN_REAL_DATA" not in os.environ:
        pytest.skip("GEN_REAL_DATA does not name the root of the real data sets")
    return Path(os.environ["GEN_REAL_DATA"])
