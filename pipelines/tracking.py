"""MLflow: runs that mirror training, and models that can be served. The only import of mlflow.

Training writes an event log and knows nothing of MLflow (see :mod:`gen.train.events`). What is here follows that log
and sends it on, so a server that is slow, away or gone for good can neither slow training down nor stop it: the log
is the spool, and :func:`sync` or the next start sends the rest.

Everything that is sent may be sent again. Metrics are recorded once by the server itself (equal key, step, timestamp
and value), pictures are looked up before they are sent twice, and a run is found again by a token that was written
down before it was created. So the order "send, then write down how far" loses nothing and doubles nothing.

    <run>/tracking.json    what the run is called, and per server: the MLflow run and how far it has been told
    <root>/mlflow          the embedded server, when MLFLOW_TRACKING_URI names none: mlflow.db and artifacts
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

import gen
from gen.errors import GenError, PreemptedError, RecipeError
from gen.files import digest, finite, read_json, write_json
from gen.model import Samples
from gen.recipe import Recipe
from gen.store import load_model
from gen.train import events
from pipelines.layout import Layout
from pipelines.lifeline import sole_writer

Status = Literal["FINISHED", "FAILED", "KILLED"]
Item = TypeVar("Item")

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
PATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}  # for uploads of weights
POLL_S, LONGEST_PAUSE_S, SYSTEM_S = 1.0, 60.0, 10.0
METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100  # limits of MLflow's REST API
DATABASES = ("postgresql", "mysql", "mssql")
DIGEST_LENGTH, VALUE_LENGTH = 36, 5000
DESCRIPTION = "mlflow.note.content"  # the tag the UI shows as the description of a run
ALIAS = "candidate"
SERVING = ("mlflow", "torch", "numpy", "safetensors")  # what serving a model needs


class TrackingError(GenError):
    """The tracking server cannot be reached or refuses. Nothing is lost; the same command works later."""

    exit_code = 75


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What a run was trained on.

    Attributes:
        name: of the data set.
        digest: sha256 of its manifest.
        source: where it came from: a URL or a path.
    """

    name: str
    digest: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a run is called and where it comes from.

    Attributes:
        experiment: MLflow experiment, e.g. the data set.
        run_name: shown in the UI.
        params: the recipe as nested dictionaries (:meth:`gen.recipe.Recipe.as_dict`).
        tags: everything else, e.g. :func:`provenance`, workers, device.
        dataset: the logged input.
    """

    experiment: str
    run_name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    dataset: Dataset | None = None


def _mlflow() -> Any:
    """The module, imported late: it takes more than a second, and `gen --help` needs none of it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.pop("MLFLOW_RUN_ID", None)  # an inherited run id would hijack every run started here
    getLogger("urllib3.connectionpool").setLevel(ERROR)  # its retries would be printed into the progress of training
    getLogger("alembic").setLevel(ERROR)
    import mlflow
    import mlflow.entities
    import mlflow.pyfunc

    return mlflow


# ---- where --------------------------------------------------------------------------------------------------------


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


def _shown(uri: str) -> str:
    """A URI without its password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _artifacts(uri: str, root: Path) -> Path | None:
    """Root of the artifacts of a database; a server chooses its own. MLflow's default is the current directory."""
    if (path := _database(uri)) is not None:
        return path.with_name("artifacts")
    return (root / "mlflow" / "artifacts").resolve() if urlsplit(uri).scheme.split("+")[0] in DATABASES else None


def client(root: Path) -> Any:
    """An ``MlflowClient`` of :func:`tracking_uri`. The embedded database is created by the first one."""
    uri, mlflow = tracking_uri(root), _mlflow()
    if (database := _database(uri)) is not None and not database.exists():
        with sole_writer(database.parent, wait=60.0, name="create.lock"):
            if not database.exists():
                _create(database)
    return mlflow.MlflowClient(tracking_uri=uri)


def server_command(root: Path, *, port: int) -> tuple[list[str], dict[str, str]]:
    """A command, and what it needs in its environment, that serves the UI of the database on this machine.

    Raises:
        RecipeError: the runs are on a server that has its own.
    """
    uri = tracking_uri(root)
    artifacts = _artifacts(uri, root)
    if artifacts is None:
        raise RecipeError(f"MLFLOW_TRACKING_URI: {_shown(uri)} is a server with its own pages. Open it in a browser.")
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


def _experiment(client: Any, name: str, artifacts: Path | None) -> str:
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


# ---- what is known about a run ------------------------------------------------------------------------------------


def provenance(root: Path) -> dict[str, str]:
    """Tags that say where a run comes from: git commit, hash of dvc.lock, versions, DVC stage."""
    tags = {"version.gen": gen.__version__}
    for package in ("torch", "ray", "mlflow", "dvc"):
        try:
            tags[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if (commit := _git(root, "rev-parse", "HEAD")) is not None:
        tags["git.commit"] = tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = str(bool(_git(root, "status", "--porcelain"))).lower()
    if (lock := root / "dvc.lock").exists():
        tags["dvc.lock"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    for variable in ("DVC_STAGE", "DVC_EXP_NAME"):
        if variable in os.environ:
            tags[variable.lower().replace("_", ".", 1)] = os.environ[variable]
    return tags


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment() -> str:
    """The interpreter and every installed distribution, as text."""
    packages = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    return "\n".join([f"# python {platform.python_version()}, {platform.platform()}", *sorted(packages, key=str.lower)])


def _name(text: str) -> str:
    """A name MLflow accepts: ``D(G(z))`` becomes ``D_G_z``."""
    return re.sub(r"/{2,}", "/", re.sub(r"[^A-Za-z0-9_./ -]+", "_", text)).strip("_/ ") or "_"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested dictionaries as dotted keys and text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield _name(f"{prefix}{key}"), str(value)[:VALUE_LENGTH]


def _table(metrics: Mapping[str, float]) -> str:
    """Numbers as a Markdown table; nothing if there are none."""
    rows = [f"| {name} | {value:.6g} |" for name, value in sorted(metrics.items())]
    return "\n".join(["| metric | value |", "|---|---|", *rows] if rows else [])


def _stamp(event: Mapping[str, Any] | None) -> int:
    """Time of an event, or now, in milliseconds: MLflow's unit."""
    return int(1000 * (time.time() if event is None else event["time"]))


def _reason(error: BaseException) -> str:
    """An error in one line: of the system if there is one beneath MLflow's, and without the password of its URI."""
    below: BaseException | None = error
    while below is not None:
        error = below if isinstance(below, OSError) else error
        below = below.__cause__ or below.__context__
    text = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}"


def _chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


# ---- one run on one server ----------------------------------------------------------------------------------------


class Mirror:
    """A run directory as one tracking server sees it. Every method may raise, and may be called again after that.

    Use it as a context manager: inside, this process is the only one that sends this run.
    """

    def __init__(self, root: Path, run_dir: Path, description: Description | None = None) -> None:
        self.root, self.run_dir, self.uri = root, run_dir, tracking_uri(root)
        self.description = description
        self.mlflow: Any = None
        self.client: Any = None
        self.run_id = ""
        self._pictures: set[tuple[str, int]] | None = None
        self._monitor: Any = None
        self._held = ExitStack()

    def __enter__(self) -> Mirror:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    # ---- tracking.json ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Become the sender and read what was sent before. Raises :class:`pipelines.lifeline.BusyError`."""
        with ExitStack() as lock:
            lock.enter_context(sole_writer(self.run_dir, name="tracking.lock"))
            path = self.run_dir / "tracking.json"
            self.state: dict[str, Any] = read_json(path) if path.exists() else {"servers": {}, "status": None}
            if self.description is not None:
                self.state["status"] = None
                self.state["description"] = asdict(self.description)
                for server in self.state["servers"].values():
                    server["described"] = False
            elif "description" not in self.state:  # evaluated or registered where it was not trained
                unknown = Description(experiment="gen", run_name=self.run_dir.name, tags=provenance(self.root))
                self.state["description"] = asdict(unknown)
            log, _ = events.read(self.run_dir / "events.jsonl")
            self.began: dict[str, Any] | None = log[0] if log else None
            self.last: dict[str, Any] | None = log[-1] if log else None
            self._save()
            self._held = lock.pop_all()

    @property
    def outcome(self) -> Status:
        """How the run ended, seen by somebody else than its tracker."""
        recorded: Status | None = self.state["status"]
        whole = self.last is None or self.last["kind"] == "end"
        return recorded or ("FINISHED" if whole else "KILLED")

    @property
    def images(self) -> int:
        """The clock of the run."""
        return 0 if self.last is None else int(self.last["images"])

    def _save(self) -> None:
        write_json(self.run_dir / "tracking.json", self.state)

    @property
    def _server(self) -> dict[str, Any]:
        """What this server knows."""
        blank = {"token": uuid.uuid4().hex, "run_id": "", "described": False, "offset": 0, "evaluated": 0}
        known: dict[str, Any] = self.state["servers"].setdefault(_shown(self.uri), blank)
        return known

    def evaluated(self, *, metrics: Mapping[str, float], pictures: Mapping[str, str], card: str) -> None:
        """Write down an evaluation, to be sent. Paths are relative to the root."""
        facts = {"metrics": metrics, "pictures": pictures, "card": card, "images": self.images, "time": _stamp(None)}
        self.state["evaluation"] = facts
        self._save()

    # ---- sending ---------------------------------------------------------------------------------------------------

    def send(self, status: Status | None = None) -> int:
        """Everything the server has not been told yet; returns how many events that were.

        Args:
            status: how the run ended; it is closed with that once all has been sent.
        """
        if status is not None:
            self.state["status"] = status
            self._save()
        try:
            if self.run_id == "":
                self._connect()
            sent = self._send_events()
            self._send_evaluation()
            if status is not None:
                self.client.set_terminated(self.run_id, status, _stamp(self.last))
        except BaseException:
            self._pictures = None  # what arrived is uncertain: ask before sending again
            raise
        return sent

    def _connect(self) -> None:
        """Find or create the MLflow run."""
        self.mlflow, self.client = _mlflow(), client(self.root)
        server, facts = self._server, self.state["description"]
        if server["run_id"] and not self._exists(server["run_id"]):
            del self.state["servers"][_shown(self.uri)]  # somebody deleted it: start over
            server = self._server
        if not server["run_id"]:
            self._save()  # the token, before the run that carries it
            experiment = _experiment(self.client, facts["experiment"], _artifacts(self.uri, self.root))
            found = self.client.search_runs([experiment], f"tags.`gen.token` = '{server['token']}'", max_results=1)
            tags = {"gen.token": server["token"], "mlflow.source.name": "gen", "mlflow.source.type": "LOCAL"}
            run = (
                found[0]
                if found
                else self.client.create_run(
                    experiment, start_time=_stamp(self.began), tags=tags, run_name=facts["run_name"]
                )
            )
            server["run_id"] = run.info.run_id
            self._save()
        if not server["described"]:
            self._describe(server["run_id"], facts)
            server["described"] = True
            self._save()
        if self.description is not None:
            self.client.update_run(server["run_id"], status="RUNNING")
        self.run_id = server["run_id"]

    def _exists(self, run_id: str) -> bool:
        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except self.mlflow.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _describe(self, run_id: str, facts: Mapping[str, Any]) -> None:
        """Params, tags, input, recipe and environment. Params cannot change, and a resumed run has the same."""
        entities = self.mlflow.entities
        known = self.client.get_run(run_id).data.params
        params = [entities.Param(key, value) for key, value in _flat(facts["params"]) if key not in known]
        tags = dict(facts["tags"])
        if facts["params"]:
            tags["gen.recipe"] = digest(facts["params"])[:10]
            self.client.log_dict(run_id, facts["params"], "recipe.json")
        if (data := facts["dataset"]) is not None:
            tags["gen.manifest"] = data["digest"]
            remote = urlsplit(data["source"]).scheme in ("http", "https")
            source = {"url" if remote else "uri": data["source"]}
            dataset = entities.Dataset(
                name=data["name"],
                digest=data["digest"][:DIGEST_LENGTH],
                source_type="http" if remote else "local",
                source=json.dumps(source),
            )
            context = [entities.InputTag("mlflow.data.context", "training")]
            self.client.log_inputs(run_id, [entities.DatasetInput(dataset, context)])
        for chunk in _chunks(params, PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=chunk)
        for some in _chunks([entities.RunTag(_name(k), v[:VALUE_LENGTH]) for k, v in tags.items()], PARAMS_PER_CALL):
            self.client.log_batch(run_id, tags=some)
        self.client.log_text(run_id, environment(), "environment.txt")

    def _send_events(self) -> int:
        server = self._server
        log = self.run_dir / "events.jsonl"
        if log.exists() and log.stat().st_size < server["offset"]:
            server["offset"] = 0  # another log: training started over
        new, offset = events.read(log, server["offset"])
        if not new:
            return 0
        self.last = new[-1]
        tags: dict[str, str] = {}
        metrics = []
        for event in new:
            if lost := event.get("nonfinite"):
                tags["gen.nonfinite"] = f"{', '.join(lost)} at {event['images']} images"
            if event["kind"] == "warning":
                tags["gen.warning"] = f"{event['images']} images: {event['message']}"
            for name, points in events.series([event]).items():
                metrics += [
                    self.mlflow.entities.Metric(_name(name), value, _stamp(event), step) for step, value in points
                ]
        for chunk in _chunks(metrics, METRICS_PER_CALL):
            self.client.log_batch(self.run_id, metrics=chunk)
        for event in new:
            if event["kind"] == "picture":
                self._send_picture(event)
        for key, text in tags.items():
            self.client.set_tag(self.run_id, key, text[:VALUE_LENGTH])
        server["offset"] = offset
        self._save()
        return len(new)

    def _send_picture(self, event: Mapping[str, Any]) -> None:
        """A PNG as one point of a series of images, unless the server has it or the file is gone."""
        from PIL import Image

        key, step = _name(event["name"]), event["images"]
        if self._pictures is None:
            # NOTE: log_image gives files random names, so it alone is not safe to repeat. The preview is written last.
            pattern = re.compile(r"images/(.+)\+step\+(\d+)\+.*\+compressed\.webp")
            listed = [pattern.fullmatch(file.path) for file in self.client.list_artifacts(self.run_id, "images")]
            self._pictures = {(found[1], int(found[2])) for found in listed if found}
        path = self.run_dir / event["path"]
        if (key.replace("/", "~"), step) in self._pictures or not path.exists():
            return
        with Image.open(path) as image:
            self.client.log_image(self.run_id, image, key=key, step=step, timestamp=_stamp(event))
        self._pictures.add((key.replace("/", "~"), step))

    def _send_evaluation(self) -> None:
        """The last evaluation: numbers, pictures and the card."""
        from PIL import Image

        found, server = self.state.get("evaluation"), self._server
        if found is None or server["evaluated"] == found["time"]:
            return
        metric = self.mlflow.entities.Metric
        numbers = [metric(_name(f"eval/{k}"), v, found["time"], found["images"]) for k, v in found["metrics"].items()]
        for chunk in _chunks(numbers, METRICS_PER_CALL):
            self.client.log_batch(self.run_id, metrics=chunk)
        for name, picture in found["pictures"].items():
            if (path := self.root / picture).exists():
                with Image.open(path) as image:
                    self.client.log_image(self.run_id, image, f"evaluation/{_name(name)}.png")
        if (card := self.root / found["card"]).exists():
            self.client.log_artifact(self.run_id, str(card), "evaluation")
        self.client.set_tag(self.run_id, DESCRIPTION, _table(found["metrics"]))
        server["evaluated"] = found["time"]
        self._save()

    def send_system(self) -> None:
        """Load of this machine now: processors, memory, disk, network, GPUs, under the names of MLflow's system tab."""
        if self._monitor is None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            # Used as a collector only: its own thread would be a second writer, and gives up at the first lost request.
            self._monitor = SystemMetricsMonitor(self.run_id, tracking_uri=self.uri)
        self._monitor.collect_metrics()
        values = finite(self._monitor.aggregate_metrics())
        for part in self._monitor.monitors:
            part.clear_metrics()
        now, metric = _stamp(None), self.mlflow.entities.Metric
        self.client.log_batch(
            self.run_id, metrics=[metric(_name(f"system/{k}"), v, now, self.images) for k, v in values.items()]
        )


# ---- training -----------------------------------------------------------------------------------------------------


class Tracker:
    """Follows the event log of one run in a thread of the driver process and keeps its MLflow run up to date.

    Nothing here raises or waits while training runs. What goes wrong is remembered in ``problem`` and tried again,
    ever more rarely; what could not be sent stays in the event log.

    Args:
        root: of the project.
        run_dir: where ``events.jsonl`` is, or will be.
        description: the run; if the directory has a run on this server already, it goes on.

    Attributes:
        problem: what is wrong now, in one line; ``None`` if all is well.
    """

    def __init__(self, root: Path, run_dir: Path, description: Description) -> None:
        self.problem: str | None = None
        self._mirror = Mirror(root, run_dir, description)
        self._stop = threading.Event()
        self._status: Status | None = None
        self._thread = threading.Thread(target=self._follow, name="tracker", daemon=True)
        self._thread.start()

    def finish(self, status: Status, *, deadline: float = 20.0) -> bool:
        """Send the rest and close the run; whether everything arrived within ``deadline`` seconds."""
        self._status = status
        self._stop.set()
        self._thread.join(deadline)
        if self._thread.is_alive():
            self.problem = self.problem or f"MLflow at {_shown(self._mirror.uri)}: still sending after {deadline:g} s"
        return self.problem is None

    def _follow(self) -> None:
        mirror, pause, measured, opened = self._mirror, 0.0, time.monotonic(), False
        with ExitStack() as held:
            while True:
                stopping = self._stop.wait(pause)
                try:
                    if not opened:
                        held.enter_context(mirror)
                        opened = True
                    mirror.send(self._status if stopping else None)
                    if not stopping and time.monotonic() - measured >= SYSTEM_S:
                        measured = time.monotonic()
                        mirror.send_system()
                    self.problem, pause = None, POLL_S
                except Exception as error:  # whatever it is, training matters more
                    self.problem = f"MLflow at {_shown(mirror.uri)}: {_reason(error)}"
                    pause = min(max(2 * pause, POLL_S), LONGEST_PAUSE_S)
                if stopping:
                    return


@contextmanager
def track_training(layout: Layout, run_dir: Path, recipe: Recipe, *, data: str, code: str) -> Iterator[Tracker]:
    """Track what happens inside: the run ends as the block does.

    Args:
        layout: of the project.
        run_dir: of the training.
        recipe: what is trained; its data set is the experiment.
        data: digest of the manifest of the shards.
        code: digest of the code that decides what the model becomes.
    """
    source = str(layout.shards(recipe.dataset).relative_to(layout.root))
    description = Description(
        experiment=recipe.dataset,
        run_name=recipe.name,
        params=recipe.as_dict(),
        tags={**provenance(layout.root), "gen.code": code, "gen.run": run_dir.name},
        dataset=Dataset(name=recipe.dataset, digest=data, source=source),
    )
    tracker = Tracker(layout.root, run_dir, description)
    status: Status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except (PreemptedError, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)


@contextmanager
def _speaking(mirror: Mirror) -> Iterator[Mirror]:
    """A mirror outside training: what the server says is an error the user can act on."""
    with mirror:
        try:
            yield mirror
        except GenError:
            raise
        except Exception as error:
            raise TrackingError(
                f"MLflow at {_shown(mirror.uri)}: {_reason(error)}. Nothing is lost: start the server (or unset "
                "MLFLOW_TRACKING_URI to use the embedded one) and run the same command again."
            ) from error


def sync(root: Path, run_dir: Path) -> int:
    """Send what a run's server has not been told, and close the run; returns the number of events sent.

    Raises:
        BusyError: its training is running and sends them itself.
        TrackingError: the server cannot be reached.
    """
    with _speaking(Mirror(root, run_dir)) as mirror:
        return mirror.send(mirror.outcome)


def log_evaluation(
    root: Path, run_dir: Path, metrics: Mapping[str, float], pictures: Mapping[str, Path], card: Path
) -> str | None:
    """Attach results to the MLflow run of a training: metrics ``eval/<name>``, also as its description, and files.

    They are written down first, so a server that is away gets them from :func:`sync`.

    Args:
        root: of the project.
        run_dir: of the training.
        metrics: results; those that are not finite are left out.
        pictures: by name; PNG files.
        card: a file with everything that was measured.

    Returns:
        What kept them from being sent, in one line; ``None`` if they were.
    """

    def relative(path: Path) -> str:
        return os.path.relpath(path, root)

    try:
        with _speaking(Mirror(root, run_dir)) as mirror:
            mirror.evaluated(
                metrics=finite(metrics),
                pictures={name: relative(path) for name, path in pictures.items()},
                card=relative(card),
            )
            mirror.send(mirror.outcome)
    except TrackingError as error:
        return str(error)
    return None


# ---- the registry --------------------------------------------------------------------------------------------------


@contextmanager
def _fluent(uri: str) -> Iterator[Any]:
    """MLflow's module-level functions on one server, patiently, leaving no trace in this process."""
    before, path = dict(os.environ), list(sys.path)
    for name, value in PATIENT.items():
        os.environ[name] = str(max(int(value), int(os.environ.get(name, "0"))))
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield _mlflow()
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
    with _speaking(Mirror(root, run_dir)) as mirror:
        mirror.send(mirror.outcome)
        with _fluent(mirror.uri) as mlflow:
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
                    **{_name(f"eval/{key}"): repr(value) for key, value in metrics.items()},
                    "gen.weights": weights,
                    "gen.identity": identity,
                }
                model = _log_model(mlflow, run, model_dir, meta, name, step=int(meta.get("images", mirror.images)))
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
        python_model=str(Path(__file__).with_name("served.py")),
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
    return "\n\n".join(part for part in (summary, card.strip(), _table(metrics)) if part)


def _smoke(mlflow: Any, uri: str, *, shape: Sequence[int], samples: bool) -> None:
    """Load a version back and draw from it. Raises :class:`TrackingError` if it cannot be used."""
    channels, height, width = shape
    try:
        model = mlflow.pyfunc.load_model(uri)
        drawn = model.predict({"count": [2]}, params={"seed": 0}) if samples else None
    except Exception as error:
        raise TrackingError(
            f"{uri}: registered, but it does not load back: {_reason(error)}. It has no alias."
        ) from error
    if drawn is not None and (drawn.shape != (2, height, width, channels) or str(drawn.dtype) != "uint8"):
        raise TrackingError(f"{uri}: registered, but it draws {drawn.dtype} {drawn.shape}. It has no alias.")
