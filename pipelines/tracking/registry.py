"""The registry: a stored model becomes a version that MLflow can serve, sealed, described, and tried once."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.files import digest, finite
from gen.serve import tasks_of
from gen.store import Stored, load_model
from pipelines.reporting.card import CARD, PICTURE, Card
from pipelines.tracking.forms import METRICS_PER_CALL, accepted, chunks, table
from pipelines.tracking.mirror import Mirror, speaking
from pipelines.tracking.pyfunc import signature, write_pyfunc
from pipelines.tracking.sealed import fetch
from pipelines.tracking.seals import TAG, write_seal
from pipelines.tracking.server import load_mlflow, reason
from pipelines.tracking.smoke import SmokeError, try_out

PATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}  # for uploads of weights
IDENTITY, SMOKE = "gen.identity", "gen.smoke"
OF_RUNS = ("mlflow.", "process.", "gen.token", "gen.outcome")  # tags that say nothing about a version
SEALED = 1  # how a version is sealed; one that was registered before is no version of today's


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
    root: Path, *, run_dir: Path, model_dir: Path, name: str, metrics: Mapping[str, float], card: Card | None = None
) -> dict[str, str]:
    """Register a stored model as a new version of ``name``, fetch it back, and have it do all it can once.

    The version carries its code, so it loads where this project is not installed, and it has no alias. Registering
    the same weights with the same metrics again returns the version there is, and finishes one that was begun; only
    when requests have come to look different does it make a new one.

    Args:
        root: of the project.
        run_dir: of the training; the version belongs to its MLflow run.
        model_dir: as written by :func:`gen.store.save_model`.
        name: of the registered model, e.g. ``dcgan-digits``.
        metrics: of the evaluation; those that are not finite are left out.
        card: the model card: the description of the version, and a file of it.

    Returns:
        ``name``, ``version``, ``run_id`` and ``model_uri``.

    Raises:
        StoreError: the stored model is damaged, or not what came back from the registry.
        SmokeError: the version was registered, but cannot be used.
        TrackingError: the server cannot be reached.
    """
    stored, metrics = load_model(model_dir), finite(metrics)
    if not (tasks := tasks_of(stored.model)):
        raise RecipeError(
            f"{name}: '{stored.meta['model']}' has no capability (gen.model), so nothing can be asked of it."
        )
    weights = stored.meta["files"]["model.safetensors"]["sha256"]
    identity = digest({"weights": weights, "metrics": metrics, "sealed": SEALED, "signature": signature().to_dict()})
    with speaking(Mirror(root, run_dir)) as mirror:
        mirror.send(mirror.record.outcome)
        with fluent(mirror.uri) as mlflow:
            client = mirror.client
            same = f"name = '{name}' and tags.`{IDENTITY}` = '{identity}'"
            version = next(iter(client.search_model_versions(same)), None)
            if version is None:
                run = client.get_run(mirror.run_id)
                logged, seal = _upload(mlflow, client, run, model_dir, stored, name=name, identity=identity, card=card)
                kept = {key: value for key, value in run.data.tags.items() if not key.startswith(OF_RUNS)}
                tags = {**kept, **_tags(stored.meta, metrics), "gen.weights": weights, TAG: seal, IDENTITY: identity}
                description = table(metrics) if card is None else _described(card, logged)
                version = _new_version(client, name, logged, run_id=mirror.run_id, tags=tags, description=description)
            number, uri = str(version.version), f"models:/{name}/{version.version}"
            if version.tags.get(SMOKE) != "passed":
                _smoke(mlflow, root, name, number, spec=stored.model.spec, tasks=tasks)
                _link(mlflow, client, version, metrics, step=int(stored.meta.get("images", mirror.record.images)))
                client.set_model_version_tag(name, number, SMOKE, "passed")
            return {"name": name, "version": number, "run_id": version.run_id, "model_uri": uri}


def _upload(
    mlflow: Any,
    client: Any,
    run: Any,
    model_dir: Path,
    stored: Stored,
    *,
    name: str,
    identity: str,
    card: Card | None,
) -> tuple[Any, str]:
    """Put the files of a version into the artifact store; returns MLflow's LoggedModel and their seal."""
    same = f"name = '{name}' AND tags.`{IDENTITY}` = '{identity}'"
    for begun in client.search_logged_models([run.info.experiment_id], same):
        client.delete_logged_model(begun.model_id)  # its registration was cut off, and may lack files
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run.info.run_id,
        tags={IDENTITY: identity},
        model_type=stored.meta["model"],
    )
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "version")
        write_pyfunc(files, model_dir, stored, logged)
        if card is not None:
            (files / CARD).write_text(card.page(), encoding="utf-8")
            if card.picture is not None:
                (files / PICTURE).write_bytes(card.picture.png)
        seal = write_seal(files)
        client.log_model_artifacts(logged.model_id, str(files))
    return logged, seal


def _link(mlflow: Any, client: Any, version: Any, metrics: Mapping[str, float], *, step: int) -> None:
    """Make the files of a version a result of its run, with the run's scores as their own. May be done again."""
    run, model_id = client.get_run(version.run_id), version.source.removeprefix("models:/")
    told = [client.get_metric_history(version.run_id, score_name(metric))[-1:] for metric in metrics]
    scores = [
        mlflow.entities.Metric(m.key, m.value, m.timestamp, m.step, model_id=model_id, run_id=version.run_id)
        for latest in told
        for m in latest
    ]
    for some in chunks(scores, METRICS_PER_CALL):
        client.log_batch(version.run_id, metrics=some)
    if model_id not in [output.model_id for output in run.outputs.model_outputs]:
        client.log_outputs(version.run_id, [mlflow.entities.LoggedModelOutput(model_id, step=step)])
    named = json.dumps([{"name": version.name, "version": version.version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": named})  # shown on the page of the model
    client.finalize_logged_model(model_id, "READY")


def score_name(metric: str) -> str:
    """The name of a score among the metrics of a run and the tags of a version."""
    return accepted(f"eval/{metric}")


def _tags(meta: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, str]:
    """What a gate and a reader ask of a version, as text."""
    return {
        **({"gen.recipe": digest(meta["recipe"])[:10]} if "recipe" in meta else {}),
        **({"gen.manifest": meta["data"]} if "data" in meta else {}),
        **{score_name(metric): repr(value) for metric, value in metrics.items()},
    }


def _described(card: Card, logged: Any) -> str:
    """The description of a version, with addresses on its own server, wherever that is."""
    return card.description(
        picture=f"ajax-api/2.0/mlflow/logged-models/{logged.model_id}/artifacts/files?artifact_file_path={PICTURE}",
        files=f"#/experiments/{logged.experiment_id}/models/{logged.model_id}/artifacts",
    )


def _new_version(client: Any, name: str, logged: Any, *, run_id: str, tags: dict[str, str], description: str) -> Any:
    try:
        client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        model_id=logged.model_id,
        tags=tags,
        description=description,
    )


def _smoke(mlflow: Any, root: Path, name: str, version: str, *, spec: DataSpec, tasks: Sequence[str]) -> None:
    """Fetch a version back and have it do all it can. Raises :class:`SmokeError` if it cannot be used."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = fetch(root, name, version, Path(folder, "fetched"))
        try:
            model = mlflow.pyfunc.load_model(str(fetched.directory))
            try_out(model, spec, tasks)
        except Exception as error:
            raise SmokeError(
                f"models:/{name}/{version}: registered, but it cannot be used: {reason(error)}. It has no alias."
            ) from error
