"""Where MLflow is: the server that is named, or the embedded database below the root; and how to speak to it."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from gen.errors import GenError, RecipeError
from gen.files import digest
from pipelines.lifeline import meeting_place, sole_writer

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_UV_AUTO_DETECT": "false",  # logging a model inside a uv project would run `uv export`
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the event log waits better than a request does
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
}
DATABASES = ("postgresql", "mysql", "mssql")


class TrackingError(GenError):
    """The tracking server cannot be reached or refuses. Nothing is lost; the same command works later."""

    exit_code = 75


def load_mlflow() -> Any:
    """The module, imported late: it takes more than a second, and `gen --help` needs none of it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.pop("MLFLOW_RUN_ID", None)  # an inherited run id would hijack every run started here
    getLogger("urllib3.connectionpool").setLevel(ERROR)  # its retries would be printed into the progress of training
    getLogger("alembic").setLevel(ERROR)
    with _uncollected("mlflow"):
        import mlflow
        import mlflow.entities
        import mlflow.pyfunc
        import mlflow.store.tracking.sqlalchemy_store

    return mlflow


@contextmanager
def _uncollected(module: str) -> Iterator[None]:
    """The first import of a large module without looking for garbage in it, then or at the end of the process.

    Of the two seconds that a command like `gen rollback` took beyond Python's own start, this saves a third.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def tracking_uri(root: Path) -> str:
    """``MLFLOW_TRACKING_URI`` where it is set, otherwise the embedded database below ``root``; always absolute.

    Raises:
        RecipeError: the variable names a folder: MLflow's file store is no longer supported.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow' / 'mlflow.db'}"
    if (path := _database(uri)) is not None:
        return f"sqlite:///{path}"
    if urlsplit(uri).scheme in ("", "file"):
        raise RecipeError(
            f"MLFLOW_TRACKING_URI: found '{uri}', a folder; MLflow keeps runs in a database or on a server. "
            f"Allowed: sqlite:////absolute/path/mlflow.db, http(s)://host:port. Unset it to use {root / 'mlflow'}."
        )
    return uri


def _database(uri: str) -> Path | None:
    """The file of an SQLite URI."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def shown(uri: str) -> str:
    """A URI without its password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def artifacts_of(uri: str, root: Path) -> Path | None:
    """Root of the artifacts of a database; a server chooses its own. MLflow's default is the current directory."""
    if (path := _database(uri)) is not None:
        return path.with_name("artifacts")
    return (root / "mlflow" / "artifacts").resolve() if _is_database_server(uri) else None


def _is_database_server(uri: str) -> bool:
    return urlsplit(uri).scheme.split("+")[0] in DATABASES


def client(root: Path) -> Any:
    """An ``MlflowClient`` of :func:`tracking_uri`. The embedded database is created by the first one."""
    uri, mlflow = tracking_uri(root), load_mlflow()
    if (database := _database(uri)) is not None and not database.exists():
        with sole_writer(database.parent, wait=60.0, name="create.lock"):
            if not database.exists():
                _create(database)
    made = mlflow.MlflowClient(tracking_uri=uri)
    if _is_database_server(uri):
        # MLflow makes the tables of an empty database when it is first asked, and falls over who does so meanwhile.
        with sole_writer(meeting_place(), wait=60.0, name=f"{digest([uri])[:16]}.create.lock"):
            made.search_experiments(max_results=1)
    return made


def server_command(root: Path, *, port: int) -> tuple[list[str], dict[str, str]]:
    """A command, and what it needs in its environment, that serves the UI of the database on this machine.

    Raises:
        RecipeError: the runs are on a server that has its own.
    """
    uri = tracking_uri(root)
    artifacts = artifacts_of(uri, root)
    if artifacts is None:
        raise RecipeError(f"MLFLOW_TRACKING_URI: {shown(uri)} is a server with its own pages. Open it in a browser.")
    client(root)
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", uri, "--artifacts-destination", artifacts.as_uri()]
    return words, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _create(database: Path) -> None:
    """Make the database under another name and move it into place: where it exists, it is complete."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    staging = database.with_name(f".{database.name}.part")
    staging.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{staging}", database.with_name("artifacts").as_uri()).engine.dispose()
    with sqlite3.connect(staging) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # kept in the file: readers no longer block the writer
    connection.close()
    staging.rename(database)


def experiment_id(client: Any, name: str, artifacts: Path | None) -> str:
    """Id of an experiment, created or restored if needed. They share a root: every run has its own folder there."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            created: str = client.create_experiment(name, artifact_location=artifacts and artifacts.as_uri())
            return created
        except Exception:  # another run may just have created it
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    experiment: str = found.experiment_id
    return experiment


def reason(error: BaseException) -> str:
    """An error in one line: of the system if there is one beneath MLflow's, and without the password of its URI."""
    below: BaseException | None = error
    while below is not None:
        error = below if isinstance(below, OSError) else error
        below = below.__cause__ or below.__context__
    text = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}"


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """What the server at ``uri`` says inside is an error the user can act on: :class:`TrackingError`."""
    try:
        yield
    except GenError:
        raise
    except Exception as error:
        raise TrackingError(
            f"MLflow at {shown(uri)}: {reason(error)}. Nothing is lost: start the server (or unset "
            "MLFLOW_TRACKING_URI to use the embedded one) and run the same command again."
        ) from error
