"""What the tests share: real digits as shards, in full and in small."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from pathlib import Path

import pytest
import torch

from gen.data.digits import digits
from gen.data.raw import Raw
from gen.data.shards import write_shards
from tests.toys import toy_digits

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def raw_digits() -> Raw:
    return digits()


@pytest.fixture(scope="session")
def digits_shards(raw_digits: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of `digits`: 3,500 / 500 / 1,000 images of 28x28."""
    root = tmp_path_factory.mktemp("digits") / "shards"
    write_shards(raw_digits, root)
    return root


@pytest.fixture(scope="session")
def toy_shards(raw_digits: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real digits at 12x12: 240 / 60 / 60 images."""
    root = tmp_path_factory.mktemp("toy") / "shards"
    write_shards(toy_digits(raw_digits), root)
    return root
