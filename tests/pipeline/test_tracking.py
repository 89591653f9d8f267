"""What MLflow is told about runs: everything, once, whatever happens to the server."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from gen.errors import PreemptedError, RecipeError
from gen.files import digest, sha256
from gen.recipe import Recipe, Training
from gen.train.events import read, series
from pipelines import cli, tracking
from pipelines.layout import Layout
from pipelines.lifeline import BusyError
from pipelines.tracking.mirror import Mirror
from pipelines.tracking.server import TrackingError
from pipelines.tracking.tracker import Tracker
from tests.pipeline.tracked import describe, mirrored, until, write_events

STEPS = 4


def rewind(run_dir, **facts):
    """As if the process had been killed after sending, before writing down that it had."""
    path = run_dir / "tracking.json"
    state = json.loads(path.read_text())
    for server in state["servers"].values():
        server.update(facts)
    path.write_text(json.dumps(state))


def assert_complete(root, run_dir):
    """Every number and every picture of the log is in MLflow, once, at its time."""
    client, run = mirrored(root, run_dir)
    log, _ = read(run_dir / "events.jsonl")
    times = {(event["kind"], event["images"]): int(1000 * event["time"]) for event in log}
    curves = {name.replace("D(G(z))", "D_G_z"): points for name, points in series(log).items()}
    told = {key for key in run.data.metrics if not key.startswith("system/")}
    assert told == set(curves)
    for name, points in curves.items():
        kind = "metrics" if name.startswith("train/") else "validation"
        history = [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, name)]
        assert sorted(history) == sorted((images, value, times[kind, images]) for images, value in points)
    files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    full = Counter(int(path.split("+step+")[1].split("+")[0]) for path in files if path.endswith(".png"))
    assert full == Counter(event["images"] for event in log if event["kind"] == "picture")
    return client, run


# ---- where ---------------------------------------------------------------------------------------------------------


def test_the_embedded_database_is_absolute_complete_and_in_wal_mode(root, monkeypatch):
    uri = tracking.server.tracking_uri(root)
    assert uri == f"sqlite:///{root}/mlflow/mlflow.db"
    monkeypatch.chdir(root)
    assert tracking.server.tracking_uri(Path()) == uri
    client = tracking.server.client(root)
    with sqlite3.connect(root / "mlflow" / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert client.get_experiment("0").artifact_location.startswith((root / "mlflow" / "artifacts").as_uri())
    monkeypatch.chdir(root.parent)


def test_the_environment_is_quiet_and_safe(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    tracking.server.client(root)
    assert "MLFLOW_RUN_ID" not in os.environ
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("uri", ["mlruns", "file:///mlruns"])
def test_the_file_store_is_refused_before_anything_starts(root, run_dir, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(RecipeError, match="MLFLOW_TRACKING_URI"):
        Tracker(root, run_dir, describe(run_dir))


def test_a_server_needs_no_second_one(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example.org")
    with pytest.raises(RecipeError, match="its own pages"):
        tracking.server.server_command(root, port=5000)


def test_passwords_are_not_written_down(root, run_dir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    tracker = Tracker(root, run_dir, describe(run_dir))
    assert not tracker.finish("FINISHED")
    assert "127.0.0.1:9" in tracker.problem
    assert "secret" not in tracker.problem
    assert "secret" not in (run_dir / "tracking.json").read_text()


def test_importing_does_not_import_mlflow():
    code = "import sys, pipelines.tracking.registry, pipelines.tracking.sweeps; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- following a run -----------------------------------------------------------------------------------------------


def test_everything_arrives_once_and_says_where_it_comes_from(root, run_dir):
    tracker = Tracker(root, run_dir, describe(run_dir))
    write_events(run_dir, 0, STEPS, end=True)
    assert tracker.finish("FINISHED", deadline=60), tracker.problem
    client, run = assert_complete(root, run_dir)
    assert run.info.status == "FINISHED"
    log, _ = read(run_dir / "events.jsonl")
    assert (run.info.start_time, run.info.end_time) == pytest.approx(
        (1000 * log[0]["time"], 1000 * log[-1]["time"]), abs=1000
    )
    assert run.data.params == {"model": "linear/factor", "training.batch": "64"}
    assert run.data.tags["git.commit"] == "abc"
    assert run.data.tags["gen.manifest"] == "d" * 64
    assert run.data.tags["gen.nonfinite"] == "D(G(z)) at 200 images"
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("digits", "d" * 36)
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "training")]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"recipe.json", "environment.txt"} <= files


def test_a_resumed_training_goes_on_in_the_same_run_and_nothing_is_sent_twice(root, run_dir):
    first = Tracker(root, run_dir, describe(run_dir))
    write_events(run_dir, 0, 3)
    assert first.finish("KILLED", deadline=60), first.problem
    assert mirrored(root, run_dir)[1].info.status == "KILLED"
    rewind(run_dir, offset=0)

    second = Tracker(root, run_dir, describe(run_dir, tags={"git.commit": "def"}))
    until(lambda: mirrored(root, run_dir)[1].info.status == "RUNNING")
    write_events(run_dir, 2, 5, end=True)
    assert second.finish("FINISHED", deadline=60), second.problem
    _, run = assert_complete(root, run_dir)
    assert run.info.status == "FINISHED"
    assert run.data.tags["git.commit"] == "def"


def test_a_run_created_just_before_a_crash_is_found_again(root, run_dir):
    write_events(run_dir, 0, 1, end=True)
    tracking.tracker.sync(root, run_dir)
    _, before = mirrored(root, run_dir)
    rewind(run_dir, run_id="", described=False, offset=0)
    tracking.tracker.sync(root, run_dir)
    assert assert_complete(root, run_dir)[1].info.run_id == before.info.run_id


def test_a_run_deleted_on_the_server_is_sent_again(root, run_dir):
    write_events(run_dir, 0, 1, end=True)
    tracking.tracker.sync(root, run_dir)
    client, before = mirrored(root, run_dir)
    client.delete_run(before.info.run_id)
    tracking.tracker.sync(root, run_dir)
    assert assert_complete(root, run_dir)[1].info.run_id != before.info.run_id


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_as_it_is_told(root, run_dir, status):
    write_events(run_dir, 0, 1)
    tracker = Tracker(root, run_dir, describe(run_dir))
    assert tracker.finish(status, deadline=60), tracker.problem
    assert mirrored(root, run_dir)[1].info.status == status


@pytest.mark.parametrize(("end", "status"), [(True, "FINISHED"), (False, "KILLED")])
def test_sync_closes_a_run_whose_process_died(root, run_dir, end, status):
    write_events(run_dir, 0, 1, end=end)
    assert tracking.tracker.sync(root, run_dir) == 4 + end
    assert tracking.tracker.sync(root, run_dir) == 0
    assert assert_complete(root, run_dir)[1].info.status == status


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (PreemptedError("stop"), "KILLED"), (ValueError("bug"), "FAILED")]
)
def test_the_block_around_training_decides_how_the_run_ends(root, run_dir, error, status):
    recipe = Recipe(name="f", model="linear/factor", dataset="d", space="dequantized", training=Training(images=9))

    def train():
        with tracking.tracker.track_training(Layout(root), run_dir, recipe, data="d" * 64, code="c" * 64):
            write_events(run_dir, 0, 1)
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(type(error)):
            train()
    _, run = assert_complete(root, run_dir)
    assert run.info.status == status
    assert run.data.tags["gen.recipe"] == digest(recipe.as_dict())[:10]
    assert run.data.tags["gen.code"] == "c" * 64
    assert run.data.params["training.images"] == "9"


def test_errors_of_mlflow_never_reach_training_and_nothing_is_lost(root, run_dir, monkeypatch):
    broken = threading.Event()
    broken.set()
    send = Mirror._send_events

    def sometimes(self):
        if broken.is_set():
            raise RuntimeError("the database is on fire")
        return send(self)

    monkeypatch.setattr(Mirror, "_send_events", sometimes)
    tracker = Tracker(root, run_dir, describe(run_dir))
    until(lambda: tracker.problem is not None)
    assert "on fire" in tracker.problem
    write_events(run_dir, 0, 2, end=True)
    broken.clear()
    assert tracker.finish("FINISHED", deadline=60), tracker.problem
    assert_complete(root, run_dir)


def test_a_sender_that_hangs_does_not_hold_up_the_end(root, run_dir, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(Mirror, "_send_events", lambda self: released.wait(60))
    tracker = Tracker(root, run_dir, describe(run_dir))
    write_events(run_dir, 0, 2, end=True)
    assert not tracker.finish("FINISHED", deadline=0.2)
    assert "still sending" in tracker.problem
    monkeypatch.undo()
    released.set()
    tracker._thread.join(60)


def test_one_sender_at_a_time(root, run_dir):
    write_events(run_dir, 0, 1)
    tracker = Tracker(root, run_dir, describe(run_dir))
    until((run_dir / "tracking.json").exists)
    with pytest.raises(BusyError, match="another process"):
        tracking.tracker.sync(root, run_dir)
    assert tracker.finish("FINISHED", deadline=60)


def test_syncing_everything_passes_over_a_run_that_is_training(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.server.tracking_uri(root))
    busy, left = tmp_path / "runs" / "busy", tmp_path / "runs" / "left"
    for run_dir in (busy, left):
        write_events(run_dir, 0, 1)
        with Mirror(tmp_path, run_dir, describe(run_dir)):
            pass
    with Mirror(tmp_path, busy):
        assert cli.main(["--root", str(tmp_path), "sync"]) == 0
    assert capsys.readouterr().out.splitlines() == ["busy: another process is sending it", "left: 4 events sent"]


def test_a_torn_line_is_sent_when_it_is_whole(root, run_dir):
    write_events(run_dir, 0, 2, end=True)
    log = run_dir / "events.jsonl"
    content = log.read_bytes()
    log.write_bytes(content[:-20])
    tracking.tracker.sync(root, run_dir)
    log.write_bytes(content)
    assert tracking.tracker.sync(root, run_dir) == 1
    assert_complete(root, run_dir)


def test_the_load_of_the_machine_is_logged_on_the_clock_of_training(root, run_dir):
    write_events(run_dir, 0, 2)
    with Mirror(root, run_dir, describe(run_dir)) as mirror:
        mirror.send()
        mirror.send_system()
    client, run = mirrored(root, run_dir)
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] < 100
    assert client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")[0].step == 200


def test_provenance(tmp_path, monkeypatch):
    assert "git.commit" not in tracking.provenance.provenance(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train@x")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    tags = tracking.provenance.provenance(tmp_path)
    assert len(tags["git.commit"]) == 40
    assert tags["git.dirty"] == "false"
    assert tags["dvc.lock"] == sha256(tmp_path / "dvc.lock")
    assert tags["dvc.stage"] == "train@x"
    assert tags["version.torch"] == torch.__version__
    (tmp_path / "dvc.lock").write_text("changed")
    assert tracking.provenance.provenance(tmp_path)["git.dirty"] == "true"


def test_an_evaluation_belongs_to_the_run_of_its_training(root, run_dir, tmp_path):
    write_events(run_dir, 0, 2, end=True)
    picture, card = tmp_path / "grid.png", tmp_path / "card.md"
    Image.new("L", (4, 4)).save(picture)
    card.write_text("# A model\n")
    for fid in (9.0, 5.0):
        metrics = {"fid": fid, "kid": float("nan")}
        assert tracking.tracker.log_evaluation(root, run_dir, metrics, {"samples": picture}, card) is None
    client, run = mirrored(root, run_dir)
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "eval/fid")] == [(200, 9), (200, 5)]
    assert run.data.metrics["eval/fid"] == 5
    assert "eval/kid" not in run.data.metrics
    assert "| fid | 5 |" in run.data.tags["mlflow.note.content"]
    files = {file.path for file in client.list_artifacts(run.info.run_id, "evaluation")}
    assert files == {"evaluation/samples.png", "evaluation/card.md"}


# ---- with a real server --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_was_never_there_is_told_by_sync(root, run_dir, wire):
    tracker = Tracker(root, run_dir, describe(run_dir))
    write_events(run_dir, 0, STEPS, end=True)
    assert not tracker.finish("FINISHED", deadline=30)
    assert "Connection refused" in tracker.problem
    with pytest.raises(TrackingError, match="Nothing is lost"):
        tracking.tracker.sync(root, run_dir)
    wire.connect()
    assert tracking.tracker.sync(root, run_dir) == len(read(run_dir / "events.jsonl")[0])
    _, run = assert_complete(root, run_dir)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.batch"] == "64"
    wire.cut()


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_is_told_everything(root, run_dir, wire):
    wire.connect()
    tracker = Tracker(root, run_dir, describe(run_dir))
    write_events(run_dir, 0, 2)
    until(lambda: (run_dir / "tracking.json").exists() and sent(run_dir) > 0)
    wire.cut()
    write_events(run_dir, 2, 4)
    until(lambda: tracker.problem is not None)
    wire.connect()
    until(lambda: tracker.problem is None)
    wire.cut()
    write_events(run_dir, 4, 6, end=True)
    assert not tracker.finish("FINISHED", deadline=30)
    wire.connect()
    tracking.tracker.sync(root, run_dir)
    _, run = assert_complete(root, run_dir)
    assert run.info.status == "FINISHED"
    wire.cut()


def sent(run_dir):
    """Bytes of the log that were sent."""
    servers = json.loads((run_dir / "tracking.json").read_text())["servers"].values()
    return sum(server["offset"] for server in servers)  # none before the first contact


@pytest.mark.slow
def test_an_evaluation_waits_for_the_server(root, run_dir, wire, tmp_path):
    write_events(run_dir, 0, 1, end=True)
    (tmp_path / "card.md").write_text("card")
    assert "Nothing is lost" in tracking.tracker.log_evaluation(root, run_dir, {"fid": 5.0}, {}, tmp_path / "card.md")
    wire.connect()
    tracking.tracker.sync(root, run_dir)
    assert mirrored(root, run_dir)[1].data.metrics["eval/fid"] == 5.0
    wire.cut()


@pytest.mark.slow
def test_another_server_is_told_from_the_beginning(root, run_dir, wire, monkeypatch):
    write_events(run_dir, 0, 2, end=True)
    wire.connect()
    total = tracking.tracker.sync(root, run_dir)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.tracker.sync(root, run_dir) == total
    assert len(json.loads((run_dir / "tracking.json").read_text())["servers"]) == 2
    wire.cut()
