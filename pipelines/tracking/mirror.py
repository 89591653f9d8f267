"""One run on one server: sends what the server has not been told yet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gen.errors import GenError
from gen.files import digest, finite
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
    table,
)
from pipelines.tracking.provenance import Description, environment
from pipelines.tracking.record import Record, Status
from pipelines.tracking.server import (
    TrackingError,
    artifacts_of,
    client,
    experiment_id,
    load_mlflow,
    reason,
    shown,
    tracking_uri,
)

DESCRIPTION = "mlflow.note.content"  # the tag the UI shows as the description of a run


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
            self._send_evaluation()
            if status is not None:
                self.client.set_terminated(self.run_id, status, stamp(self.record.last))
        except BaseException:
            self._pictures = None  # what arrived is uncertain: ask before sending again
            raise
        return sent

    def _connect(self) -> None:
        """Find or create the MLflow run."""
        self.mlflow, self.client = load_mlflow(), client(self.root)
        server, facts = self.record.server(self.uri), self.record.state["description"]
        if server["run_id"] and not self._exists(server["run_id"]):
            self.record.forget(self.uri)  # somebody deleted it: start over
            server = self.record.server(self.uri)
        if not server["run_id"]:
            self.record.save()  # the token, before the run that carries it
            experiment = experiment_id(self.client, facts["experiment"], artifacts_of(self.uri, self.root))
            found = self.client.search_runs([experiment], f"tags.`gen.token` = '{server['token']}'", max_results=1)
            tags = {"gen.token": server["token"], "mlflow.source.name": "gen", "mlflow.source.type": "LOCAL"}
            began = stamp(self.record.began)
            run = found[0] if found else self.client.create_run(experiment, began, tags, facts["run_name"])
            server["run_id"] = run.info.run_id
            self.record.save()
        if not server["described"]:
            self._describe(server["run_id"], facts)
            server["described"] = True
            self.record.save()
        if self.record.description is not None:
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
        params = [entities.Param(key, value) for key, value in flat(facts["params"]) if key not in known]
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
        for chunk in chunks(params, PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=chunk)
        for some in chunks([entities.RunTag(accepted(k), v[:VALUE_LENGTH]) for k, v in tags.items()], PARAMS_PER_CALL):
            self.client.log_batch(run_id, tags=some)
        self.client.log_text(run_id, environment(), "environment.txt")

    def _send_events(self) -> int:
        server = self.record.server(self.uri)
        log = self.run_dir / "events.jsonl"
        if log.exists() and log.stat().st_size < server["offset"]:
            server["offset"] = 0  # another log: training started over
        new, offset = events.read(log, server["offset"])
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

    def _send_evaluation(self) -> None:
        """The last evaluation: numbers, pictures and the card."""
        from PIL import Image

        found, server = self.record.state.get("evaluation"), self.record.server(self.uri)
        if found is None or server["evaluated"] == found["time"]:
            return
        metric = self.mlflow.entities.Metric
        numbers = [
            metric(accepted(f"eval/{k}"), v, found["time"], found["images"]) for k, v in found["metrics"].items()
        ]
        for chunk in chunks(numbers, METRICS_PER_CALL):
            self.client.log_batch(self.run_id, metrics=chunk)
        for name, picture in found["pictures"].items():
            if (path := self.root / picture).exists():
                with Image.open(path) as image:
                    self.client.log_image(self.run_id, image, f"evaluation/{accepted(name)}.png")
        if (card := self.root / found["card"]).exists():
            self.client.log_artifact(self.run_id, str(card), "evaluation")
        self.client.set_tag(self.run_id, DESCRIPTION, table(found["metrics"]))
        server["evaluated"] = found["time"]
        self.record.save()

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
    with mirror:
        try:
            yield mirror
        except GenError:
            raise
        except Exception as error:
            raise TrackingError(
                f"MLflow at {shown(mirror.uri)}: {reason(error)}. Nothing is lost: start the server (or unset "
                "MLFLOW_TRACKING_URI to use the embedded one) and run the same command again."
            ) from error
