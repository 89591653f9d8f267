"""What a promoter does, in a process of its own; its exit code is that of ``gen promote``.

The module is imported once by the server that forks the promoters, with all of MLflow that they use: what takes seconds
is done by then.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from gen.errors import GenError
from pipelines.promotion.moves import promote
from pipelines.promotion.verdicts import Verdict
from pipelines.tracking.server import load_mlflow
from pipelines.tracking.shelf import Shelf, Version
from tests.promotion.registry import cheap_gate

load_mlflow()
importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
importlib.import_module("mlflow.store.model_registry.sqlalchemy_store")
REFUSED = 4
MEASURING_S = 0.05


def run(root: Path, name: str, version: str, seed: int, ready: Connection) -> None:
    """Promote a version, if it passes; say so when it begins."""

    def gate(found: Version, champion: Version | None) -> Sequence[Verdict]:
        time.sleep(random.Random(seed).uniform(0, MEASURING_S))
        return cheap_gate(found, champion)

    shelf = Shelf(root)
    ready.send(None)
    try:
        outcome = promote(shelf, name, gate=gate, source=version)
    except GenError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(REFUSED if outcome.refused else 0)
