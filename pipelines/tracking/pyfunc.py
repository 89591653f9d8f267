"""A stored model in MLflow's form: a pyfunc from code, in which nothing is a pickle.

MLmodel                what MLflow reads first
served.py, code/gen    what it runs
artifacts/model        the stored model (see gen.store)
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import gen
from gen.serve import PARAM_FIELDS, ROW_FIELDS, tasks_of
from gen.store import Stored
from pipelines.tracking.sealed import MODEL
from pipelines.tracking.server import load_mlflow
from pipelines.tracking.smoke import example

SERVING = ("mlflow", "torch", "numpy", "pillow", "safetensors")  # what serving a model needs


def signature() -> Any:
    """MLflow's signature of every version: what :mod:`gen.serve` takes.

    Columns that may be left out, or hold something else in every row, are ``Any``: MLflow makes numbers with gaps
    into other numbers or refuses them. ``gen.serve`` checks them all. The keys of an answer depend on the task, so
    there are no outputs.
    """
    load_mlflow()
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    columns = [(field.name, "string" if field.type == "string" else AnyType()) for field in ROW_FIELDS]
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name, required=False) for name, kind in columns]),
        params=ParamSchema([ParamSpec(field.name, field.type, field.default) for field in PARAM_FIELDS]),
    )


def write_pyfunc(directory: Path, model_dir: Path, stored: Stored, logged: Any) -> None:
    """Write the files of a version: code, what it needs, the stored model, an example of a request.

    Args:
        directory: to be made.
        model_dir: as written by :func:`gen.store.save_model`.
        stored: the same, loaded.
        logged: MLflow's LoggedModel these are the files of.
    """
    mlflow = load_mlflow()
    import pandas as pd  # type: ignore[import-untyped]
    from mlflow.models import Model

    place = directory.with_name(MODEL.name)  # MLflow keeps the name of what it is given
    shutil.copytree(model_dir, place)
    shown = example(tasks_of(stored.model)[0], stored.model.spec)
    mlflow.pyfunc.save_model(
        str(directory),
        mlflow_model=Model(
            artifact_path=logged.artifact_location, run_id=logged.source_run_id, model_id=logged.model_id
        ),
        python_model=str(Path(__file__).parents[1] / "served.py"),
        artifacts={"model": str(place)},
        code_paths=[str(Path(gen.__file__).parent)],
        pip_requirements=[f"{package}=={_released(package)}" for package in SERVING],
        signature=signature(),
        input_example=(pd.DataFrame([shown]), {"seed": 1}),
    )
    for cache in sorted(directory.rglob("__pycache__")):
        shutil.rmtree(cache)


def _released(package: str) -> str:
    """An installed version without its local part (``+cpu``), which no registry knows."""
    return importlib.metadata.version(package).partition("+")[0]
