"""The registry: a stored model becomes a version that MLflow can serve, tried once before it gets an alias."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gen
from gen.files import digest, finite
from gen.model import Samples
from gen.store import load_model
from pipelines.tracking.forms import accepted, table
from pipelines.tracking.mirror import Mirror, speaking
from pipelines.tracking.server import TrackingError, load_mlflow, reason

PATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}  # for uploads of weights
ALIAS = "candidate"
SERVING = ("mlflow", "torch", "numpy", "safetensors")  # what serving a model needs


@contextmanager
def fluent(uri: str) -> Iterator[Any]:
    """MLflow's module-level functions on one server, patiently, leaving no trace in this process."""
    before, path = dict(os.environ), list(sys.path)
    for name, value in PATIENT.items():
        os.environ[name] = str(max(int(value), int(os.environ.get(name, "0"))))
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield load_mlflow()
    finally:
        for name in (*PATIENT, "MLFLOW_TRACKING_URI"):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
        sys.path[:] = path  # loading a model puts its own code first


def register(
    root: Path, *, run_dir: Path, model_dir: Path, name: str, metrics: Mapping[str, float], card: str = ""
) -> dict[str, str]:
    """Register a stored model as a new version of ``name``, load it back, sample once, then alias it ``candidate``.

    The version carries its code, so it loads where this project is not installed. Registering the same weights with
    the same metrics again returns the version there is.

    Args:
        root: of the project.
        run_dir: of the training; the version belongs to its MLflow run.
        model_dir: as written by :func:`gen.store.save_model`.
        name: of the registered model, e.g. ``dcgan-digits``.
        metrics: of the evaluation; those that are not finite are left out.
        card: Markdown for the description of the version.

    Returns:
        ``name``, ``version``, ``run_id`` and ``model_uri``.

    Raises:
        StoreError: the stored model is damaged.
        TrackingError: the server cannot be reached, or the model does not load back from it.
    """
    stored = load_model(model_dir)
    meta, metrics = stored.meta, finite(metrics)
    weights = meta["files"]["model.safetensors"]["sha256"]
    identity = digest({"weights": weights, "metrics": metrics})
    samples = isinstance(stored.model, Samples)
    del stored
    with speaking(Mirror(root, run_dir)) as mirror:
        mirror.send(mirror.record.outcome)
        with fluent(mirror.uri) as mlflow:
            client = mirror.client
            same = f"name = '{name}' and tags.`gen.identity` = '{identity}'"
            version = next(iter(client.search_model_versions(same)), None)
            if version is None:
                run = client.get_run(mirror.run_id)
                kept = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
                tags = {
                    **kept,
                    **({"gen.recipe": digest(meta["recipe"])[:10]} if "recipe" in meta else {}),
                    **({"gen.manifest": meta["data"]} if "data" in meta else {}),
                    **{accepted(f"eval/{key}"): repr(value) for key, value in metrics.items()},
                    "gen.weights": weights,
                    "gen.identity": identity,
                }
                model = _log_model(
                    mlflow, run, model_dir, meta, name, step=int(meta.get("images", mirror.record.images))
                )
                version = _new_version(
                    client, name, model, run_id=mirror.run_id, tags=tags, description=_card(meta, metrics, card)
                )
            uri = f"models:/{name}/{version.version}"
            if version.tags.get("gen.smoke") != "passed":
                _smoke(mlflow, uri, shape=meta["spec"]["shape"], samples=samples)
                client.set_model_version_tag(name, version.version, "gen.smoke", "passed")
            client.set_registered_model_alias(name, ALIAS, version.version)
            return {"name": name, "version": str(version.version), "run_id": version.run_id, "model_uri": uri}


def _log_model(mlflow: Any, run: Any, model_dir: Path, meta: Mapping[str, Any], name: str, *, step: int) -> Any:
    """Upload a stored model as a pyfunc from code; returns MLflow's LoggedModel."""
    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    channels, height, width = meta["spec"]["shape"]
    signature = ModelSignature(
        inputs=Schema([ColSpec("long", "count"), ColSpec("long", "label", required=False)]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, channels))]),
        params=ParamSchema([ParamSpec("seed", "long", 0)]),
    )
    logged = mlflow.MlflowClient().create_logged_model(
        run.info.experiment_id, name=name, source_run_id=run.info.run_id, model_type=meta["model"]
    )
    Model.log(  # not pyfunc.log_model: that would open and close the run again
        artifact_path=None,
        flavor=mlflow.pyfunc,
        run_id=run.info.run_id,
        model_id=logged.model_id,
        step=step,  # metrics of the run at this step, the evaluation among them, become the model's own
        python_model=str(Path(__file__).parents[1] / "served.py"),
        artifacts={"model": str(model_dir)},
        code_paths=[str(Path(gen.__file__).parent)],
        pip_requirements=[f"{package}=={_released(package)}" for package in SERVING],
        signature=signature,
        input_example=(pd.DataFrame({"count": [4]}), {"seed": 1}),
    )
    return logged


def _released(package: str) -> str:
    """An installed version without its local part (``+cpu``), which no registry knows."""
    return importlib.metadata.version(package).partition("+")[0]


def _new_version(client: Any, name: str, model: Any, *, run_id: str, tags: dict[str, str], description: str) -> Any:
    try:
        client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name,
        source=f"models:/{model.model_id}",
        run_id=run_id,
        model_id=model.model_id,
        tags=tags,
        description=description,
    )


def _card(meta: Mapping[str, Any], metrics: Mapping[str, float], card: str) -> str:
    """Description of a version: what it is, and its scores."""
    spec = meta["spec"]
    summary = f"**{meta['model']}**, images {'x'.join(map(str, spec['shape']))}, space `{spec['space']}`."
    return "\n\n".join(part for part in (summary, card.strip(), table(metrics)) if part)


def _smoke(mlflow: Any, uri: str, *, shape: Sequence[int], samples: bool) -> None:
    """Load a version back and draw from it. Raises :class:`TrackingError` if it cannot be used."""
    channels, height, width = shape
    try:
        model = mlflow.pyfunc.load_model(uri)
        drawn = model.predict({"count": [2]}, params={"seed": 0}) if samples else None
    except Exception as error:
        raise TrackingError(
            f"{uri}: registered, but it does not load back: {reason(error)}. It has no alias."
        ) from error
    if drawn is not None and (drawn.shape != (2, height, width, channels) or str(drawn.dtype) != "uint8"):
        raise TrackingError(f"{uri}: registered, but it draws {drawn.dtype} {drawn.shape}. It has no alias.")
