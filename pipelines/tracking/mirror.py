"""One run on one server: sends what the server has not been told yet."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from gen.files import finite
from gen.train import events
from pipelines.tracking.forms import (
    DIGEST_LENGTH,
    METRICS_PER_CALL,
    PARAMS_PER_CALL,
    VALUE_LENGTH,
    accepted,
    chunks,
    flat,
    stamp,
)
from pipelines.tracking.provenance import Description, environment
from pipelines.tracking.record import Record, Status, standing, unsent
from pipelines.tracking.server import (
    answering,
    artifacts_of,
    client,
    experiment_id,
    load_mlflow,
    tracking_uri,
)

DESCRIPTION = "mlflow.note.content"  # the tag the UI shows as the description of a run
HEARTBEAT, HEARTBEAT_S = "process.heartbeat", 60.0


class Mirror:
    """A run directory as one tracking server sees it. Every method may raise, and may be called again after that.

    Use it as a context manager: inside, this process is the only one that sends this run.

    Args:
        root: of the project.
        run_dir: of the training.
        description: of a run that trains now; ``None`` for one that does not.
    """

    def __init__(self, root: Path, run_dir: Path, description: Description | None = None) -> None:
        self.root, self.run_dir, self.uri = root, run_dir, tracking_uri(root)
        self.record = Record(root, run_dir, description)
        self.mlflow: Any = None
        self.client: Any = None
        self.run_id = ""
        self._pictures: set[tuple[str, int]] | None = None
        self._monitor: Any = None
        self._beat: float | None = None

    def __enter__(self) -> Mirror:
        self.record.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.record.__exit__()

    def send(self, status: Status | None = None) -> int:
        """Everything the server has not been told yet; returns how many events that were.

        Args:
            status: how the run ended; it is closed with that once all has been sent.
        """
        if status is not None:
            self.record.ended(status)
        try:
            if self.run_id == "":
                self._connect()
            sent = self._send_events()
            self._send_attached()
            if status is not None:
                self._close(status)
            elif self.record.live and (self._beat is None or time.monotonic() - self._beat >= HEARTBEAT_S):
                self.client.set_tag(self.run_id, HEARTBEAT, datetime.now(UTC).isoformat(timespec="seconds"))
                self._beat = time.monotonic()
        except BaseException:
            self._pictures = None  # what arrived is uncertain: ask before sending again
            raise
        return sent

    def _close(self, status: Status) -> None:
        """End the MLflow run, and remember that the server knows."""
        self.client.set_tag(self.run_id, "gen.outcome", self.record.word)
        self.client.set_terminated(self.run_id, status, stamp(self.record.last))
        self.record.server(self.uri)["closed"] = self.record.word
        self.record.save()

    def _connect(self) -> None:
        """Find or create the MLflow run."""
        self.mlflow, self.client = load_mlflow(), client(self.root)
        server, facts = self.record.server(self.uri), self.record.facts
        if server["run_id"] and not self._exists(server["run_id"]):
            self.record.forget(self.uri)  # somebody deleted it: start over
            server = self.record.server(self.uri)
        if not server["run_id"]:
            self.record.save()  # the token, before the run that carries it
            experiment = experiment_id(self.client, facts["experiment"], artifacts_of(self.uri, self.root))
            found = self.client.search_runs([experiment], f"tags.`gen.token` = '{server['token']}'", max_results=1)
            tags = {"gen.token": server["token"], "mlflow.source.name": "gen", "mlflow.source.type": "LOCAL"}
            if facts["parent"]:
                tags["mlflow.parentRunId"] = self._parent(facts["parent"])
            began = stamp(self.record.began)
            run = found[0] if found else self.client.create_run(experiment, began, tags, facts["run_name"])
            server["run_id"] = run.info.run_id
            self.record.save()
        if not server["described"]:
            self._describe(server["run_id"], facts)
            server["described"] = True
            self.record.save()
        if self.record.live:
            self.client.update_run(server["run_id"], status="RUNNING")
        self.run_id = server["run_id"]

    def _parent(self, directory: str) -> str:
        """The MLflow run this one belongs to, created if it is not there yet. Raises BusyError: it is being sent."""
        if known := standing(self.run_dir / directory, self.uri).run_id:
            return known
        with Mirror(self.root, self.run_dir / directory) as above:
            above._connect()
            return above.run_id

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
        params = [entities.Param(key, value) for key, value in flat(facts["params"]) if key not in known]
        tags = dict(facts["tags"])
        if facts["params"]:
            self.client.log_dict(run_id, facts["params"], facts["document"])
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
        for chunk in chunks(params, PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=chunk)
        for some in chunks([entities.RunTag(accepted(k), v[:VALUE_LENGTH]) for k, v in tags.items()], PARAMS_PER_CALL):
            self.client.log_batch(run_id, tags=some)
        if not facts["parent"]:  # which says it for both
            self.client.log_text(run_id, environment(), "environment.txt")

    def _send_events(self) -> int:
        server = self.record.server(self.uri)
        new, offset = unsent(self.run_dir, server)
        if not new:
            return 0
        self.record.last = new[-1]
        tags: dict[str, str] = {}
        metrics = []
        for event in new:
            if lost := event.get("nonfinite"):
                tags["gen.nonfinite"] = f"{', '.join(lost)} at {event['images']} images"
            if event["kind"] == "warning":
                tags["gen.warning"] = f"{event['images']} images: {event['message']}"
            for name, points in events.series([event]).items():
                metrics += [
                    self.mlflow.entities.Metric(accepted(name), value, stamp(event), step) for step, value in points
                ]
        for chunk in chunks(metrics, METRICS_PER_CALL):
            self.client.log_batch(self.run_id, metrics=chunk)
        for event in new:
            if event["kind"] == "picture":
                self._send_picture(event)
        for key, text in tags.items():
            self.client.set_tag(self.run_id, key, text[:VALUE_LENGTH])
        server["offset"] = offset
        self.record.save()
        return len(new)

    def _send_picture(self, event: Mapping[str, Any]) -> None:
        """A PNG as one point of a series of images, unless the server has it or the file is gone."""
        from PIL import Image

        key, step = accepted(event["name"]), event["images"]
        if self._pictures is None:
            # NOTE: log_image gives files random names, so it alone is not safe to repeat. The preview is written last.
            pattern = re.compile(r"images/(.+)\+step\+(\d+)\+.*\+compressed\.webp")
            listed = [pattern.fullmatch(file.path) for file in self.client.list_artifacts(self.run_id, "images")]
            self._pictures = {(found[1], int(found[2])) for found in listed if found}
        path = self.run_dir / event["path"]
        if (key.replace("/", "~"), step) in self._pictures or not path.exists():
            return
        with Image.open(path) as image:
            self.client.log_image(self.run_id, image, key=key, step=step, timestamp=stamp(event))
        self._pictures.add((key.replace("/", "~"), step))

    def _send_attached(self) -> None:
        """Results that came beside the events: numbers, files, and what is said of them."""
        server, metric = self.record.server(self.uri), self.mlflow.entities.Metric
        for kind, facts in self.record.state.get("attached", {}).items():
            if server["attached"].get(kind) == facts["time"]:
                continue
            numbers = [metric(accepted(k), v, facts["time"], facts["images"]) for k, v in facts["metrics"].items()]
            for chunk in chunks(numbers, METRICS_PER_CALL):
                self.client.log_batch(self.run_id, metrics=chunk)
            for name, path in facts["files"].items():
                if (self.root / path).exists():
                    self._send_file(self.root / path, PurePosixPath(name))
            self.client.set_tag(self.run_id, DESCRIPTION, facts["note"])
            server["attached"][kind] = facts["time"]
            self.record.save()

    def _send_file(self, path: Path, name: PurePosixPath) -> None:
        """A file as an artifact of another name: MLflow keeps the name of what it is given."""
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copyfile(path, Path(folder) / name.name)
            self.client.log_artifact(self.run_id, str(copy), None if name.parent.name == "" else str(name.parent))

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
        now, metric = stamp(None), self.mlflow.entities.Metric
        self.client.log_batch(
            self.run_id,
            metrics=[metric(accepted(f"system/{k}"), v, now, self.record.images) for k, v in values.items()],
        )


@contextmanager
def speaking(mirror: Mirror) -> Iterator[Mirror]:
    """A mirror outside training: what the server says is an error the user can act on."""
    with mirror, answering(mirror.uri):
        yield mirror
