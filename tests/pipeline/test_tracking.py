"""What MLflow is told: everything, once, whatever happens to the server; and what it serves: the registered weights."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gen.data.spaces import DataSpec, Space
from gen.errors import PreemptedError, RecipeError, StoreError
from gen.files import atomic_directory, digest, read_json, sha256, write_json
from gen.recipe import Recipe, Training
from gen.registry import build
from gen.store import load_model, save_model
from gen.train.events import EventLog, read, series
from pipelines import cli, tracking
from pipelines.layout import Layout, run_of
from pipelines.lifeline import BusyError
from pipelines.register import register, restored
from pipelines.tracking import Dataset, Description, Mirror, Tracker, TrackingError

SHAPE = (1, 6, 5)
STEPS = 4


@pytest.fixture(scope="module")
def module_root(tmp_path_factory):
    """One embedded database for all tests here: making it takes seconds. A space in the path must not matter."""
    return tmp_path_factory.mktemp("a project")


@pytest.fixture
def root(module_root, tmp_path, monkeypatch):
    """The project; the current directory is another, empty one, and stays empty."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    yield module_root
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def run_dir(root, request):
    return root / "runs" / request.node.name.replace("[", "-").replace("]", "")


def describe(run_dir, **changes):
    facts = {
        "experiment": "digits",
        "run_name": run_dir.name,
        "params": {"model": "linear/factor", "training": {"batch": 64}},
        "tags": {"git.commit": "abc"},
        "dataset": Dataset(name="digits", digest="d" * 64, source="data/shards/digits"),
    }
    return Description(**(facts | changes))


def write_events(run_dir, start, stop, *, end=False):
    """What training does: numbers, a picture and sometimes a number that is none, every 100 images."""
    log = EventLog(run_dir / "events.jsonl")
    log.append("start", 100 * start)
    for k in range(start, stop):
        images = 100 * (k + 1)
        log.metrics("metrics", images, {"loss": 1 / (k + 1), "D(G(z))": 0.5 if k != 1 else float("nan")})
        log.metrics("validation", images, {"loss": 2 / (k + 1)})
        path = run_dir / "pictures" / "samples" / f"{images:012d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * k).save(path)
        log.append("picture", images, name="samples", path=str(path.relative_to(run_dir)))
    if end:
        log.append("end", 100 * stop)
    log.close()


def rewind(run_dir, **facts):
    """As if the process had been killed after sending, before writing down that it had."""
    path = run_dir / "tracking.json"
    state = json.loads(path.read_text())
    for server in state["servers"].values():
        server.update(facts)
    path.write_text(json.dumps(state))


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def mirrored(root, run_dir):
    """The only MLflow run of a run directory, and a client."""
    client = tracking.client(root)
    (server,) = json.loads((run_dir / "tracking.json").read_text())["servers"].values()
    found = client.search_runs(
        [e.experiment_id for e in client.search_experiments()], f"tags.`gen.token` = '{server['token']}'"
    )
    assert [run.info.run_id for run in found] == [server["run_id"]]
    return client, found[0]


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
    uri = tracking.tracking_uri(root)
    assert uri == f"sqlite:///{root}/mlflow/mlflow.db"
    monkeypatch.chdir(root)
    assert tracking.tracking_uri(Path()) == uri
    client = tracking.client(root)
    with sqlite3.connect(root / "mlflow" / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert client.get_experiment("0").artifact_location.startswith((root / "mlflow" / "artifacts").as_uri())
    monkeypatch.chdir(root.parent)


def test_the_environment_is_quiet_and_safe(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    tracking.client(root)
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
        tracking.server_command(root, port=5000)


def test_passwords_are_not_written_down(root, run_dir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    tracker = Tracker(root, run_dir, describe(run_dir))
    assert not tracker.finish("FINISHED")
    assert "127.0.0.1:9" in tracker.problem
    assert "secret" not in tracker.problem
    assert "secret" not in (run_dir / "tracking.json").read_text()


def test_importing_does_not_import_mlflow():
    code = "import sys, pipelines.tracking; sys.exit('mlflow' in sys.modules)"
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
    tracking.sync(root, run_dir)
    _, before = mirrored(root, run_dir)
    rewind(run_dir, run_id="", described=False, offset=0)
    tracking.sync(root, run_dir)
    assert assert_complete(root, run_dir)[1].info.run_id == before.info.run_id


def test_a_run_deleted_on_the_server_is_sent_again(root, run_dir):
    write_events(run_dir, 0, 1, end=True)
    tracking.sync(root, run_dir)
    client, before = mirrored(root, run_dir)
    client.delete_run(before.info.run_id)
    tracking.sync(root, run_dir)
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
    assert tracking.sync(root, run_dir) == 4 + end
    assert tracking.sync(root, run_dir) == 0
    assert assert_complete(root, run_dir)[1].info.status == status


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (PreemptedError("stop"), "KILLED"), (ValueError("bug"), "FAILED")]
)
def test_the_block_around_training_decides_how_the_run_ends(root, run_dir, error, status):
    recipe = Recipe(name="f", model="linear/factor", dataset="d", space="dequantized", training=Training(images=9))

    def train():
        with tracking.track_training(Layout(root), run_dir, recipe, data="d" * 64, code="c" * 64):
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
        tracking.sync(root, run_dir)
    assert tracker.finish("FINISHED", deadline=60)


def test_syncing_everything_passes_over_a_run_that_is_training(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri(root))
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
    tracking.sync(root, run_dir)
    log.write_bytes(content)
    assert tracking.sync(root, run_dir) == 1
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
    assert "git.commit" not in tracking.provenance(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train@x")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    tags = tracking.provenance(tmp_path)
    assert len(tags["git.commit"]) == 40
    assert tags["git.dirty"] == "false"
    assert tags["dvc.lock"] == sha256(tmp_path / "dvc.lock")
    assert tags["dvc.stage"] == "train@x"
    assert tags["version.torch"] == torch.__version__
    (tmp_path / "dvc.lock").write_text("changed")
    assert tracking.provenance(tmp_path)["git.dirty"] == "true"


def test_an_evaluation_belongs_to_the_run_of_its_training(root, run_dir, tmp_path):
    write_events(run_dir, 0, 2, end=True)
    picture, card = tmp_path / "grid.png", tmp_path / "card.md"
    Image.new("L", (4, 4)).save(picture)
    card.write_text("# A model\n")
    for fid in (9.0, 5.0):
        metrics = {"fid": fid, "kid": float("nan")}
        assert tracking.log_evaluation(root, run_dir, metrics, {"samples": picture}, card) is None
    client, run = mirrored(root, run_dir)
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "eval/fid")] == [(200, 9), (200, 5)]
    assert run.data.metrics["eval/fid"] == 5
    assert "eval/kid" not in run.data.metrics
    assert "| fid | 5 |" in run.data.tags["mlflow.note.content"]
    files = {file.path for file in client.list_artifacts(run.info.run_id, "evaluation")}
    assert files == {"evaluation/samples.png", "evaluation/card.md"}


# ---- the registry --------------------------------------------------------------------------------------------------


def store(directory, *, seed=0, name="factor", space="dequantized", made=None, **hyper):
    """A small model on disk, with the hyper-parameters of a small factor model unless others are given."""
    torch.manual_seed(seed)
    hyper = hyper or {"latents": 3}
    model = build(name, DataSpec(SHAPE, 10, Space.parse(space)), **hyper)
    with atomic_directory(directory) as staging:
        made = made or {"data": "d" * 64, "recipe": {"model": name}}
        save_model(staging, model, name=name, hyper=hyper, images=200, **made)
    return directory


def drawn(weights, count, *, seed):
    """The images a stored model draws, as nested lists (N, H, W, C)."""
    model = load_model(weights).model
    torch.manual_seed(seed)
    return model.spec.space.decode(model.sample(count)).permute(0, 2, 3, 1).tolist()


@pytest.fixture
def registered(root, run_dir, tmp_path):
    """A registered model: what `register` said, where its training and its weights are."""
    write_events(run_dir, 0, 2, end=True)
    weights = store(tmp_path / "weights")
    (tmp_path / "card.md").write_text("card")
    tracking.log_evaluation(root, run_dir, {"nll": -3.5}, {}, tmp_path / "card.md")
    name = run_dir.name.removeprefix("test_")[:40]
    said = tracking.register(root, run_dir=run_dir, model_dir=weights, name=name, metrics={"nll": -3.5})
    return said, weights


def artifacts_of(root, version):
    """Where MLflow keeps the files of a version."""
    return root / "mlflow" / "artifacts" / "models" / version.source.removeprefix("models:/") / "artifacts"


def test_a_version_is_described_tagged_and_aliased(root, run_dir, registered):
    said, weights = registered
    client, run = mirrored(root, run_dir)
    version = client.get_model_version_by_alias(said["name"], "candidate")
    assert said == {
        "name": said["name"],
        "version": "1",
        "run_id": run.info.run_id,
        "model_uri": f"models:/{said['name']}/1",
    }
    assert str(version.version) == "1"
    assert version.tags["gen.weights"] == sha256(weights / "model.safetensors")
    assert version.tags["gen.manifest"] == "d" * 64
    assert version.tags["eval/nll"] == "-3.5"
    assert "| nll | -3.5 |" in version.description
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {m.key: m.value for m in logged.metrics}["eval/nll"] == -3.5
    assert [m.model_id for m in mirrored(root, run_dir)[1].outputs.model_outputs] == [logged.model_id]
    assert run.info.status == "FINISHED"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not any(path.endswith("/code") for path in sys.path)


def test_registering_the_same_again_returns_the_same_version(root, run_dir, registered, tmp_path):
    said, weights = registered
    again = {"run_dir": run_dir, "name": said["name"]}
    assert tracking.register(root, model_dir=weights, metrics={"nll": -3.5}, **again) == said
    other = store(tmp_path / "other", seed=1)
    assert tracking.register(root, model_dir=other, metrics={"nll": -3.5}, **again)["version"] == "2"
    assert tracking.register(root, model_dir=weights, metrics={"nll": -3.0}, **again)["version"] == "3"
    assert tracking.register(root, model_dir=weights, metrics={"nll": -3.5}, **again) == said
    client = tracking.client(root)
    assert len(client.search_model_versions(f"name = '{said['name']}'")) == 3
    assert str(client.get_model_version_by_alias(said["name"], "candidate").version) == "1"


def publish(layout, name):
    """What the stages before `register` leave of a model, and what `dvc pull` brings; returns its recipe."""
    recipe = Recipe(name=name, model="factor", dataset="digits", space="dequantized", training=Training(images=200))
    made = {"recipe": recipe.as_dict(), "data": "d" * 64, "code": "c" * 64, "torch": "2.0"}
    store(layout.weights(name), made=made)
    write_events(layout.model(name), 0, 2, end=True)
    write_json(layout.scores(name) / "metrics.json", {"nll": -3.5})
    write_json(layout.scores(name) / "card.json", {"nll": {"value": -3.5}})
    write_json(layout.scores(name) / "gate.json", [])
    return recipe


def test_a_model_trained_elsewhere_brings_its_curves_and_pictures(root):
    layout, name = Layout(root), "factor-pulled"
    recipe = publish(layout, name)
    run_dir = run_of(layout, name)
    assert not run_dir.exists()
    for _ in range(2):
        register(name, layout)
    client, run = mirrored(root, run_dir)
    log, _ = read(layout.model(name) / "events.jsonl")
    curve = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "val/loss")]
    assert curve == series(log)["val/loss"]
    assert len([f for f in client.list_artifacts(run.info.run_id, "images") if f.path.endswith(".png")]) == 2
    assert (run.info.status, run.info.run_name) == ("FINISHED", name)
    assert client.get_experiment(run.info.experiment_id).name == "digits"
    assert run.data.params["training.images"] == "200"
    assert run.data.tags["gen.trained"] == "elsewhere"
    assert run.data.tags["version.torch"] == "2.0"
    assert run.data.metrics["eval/nll"] == -3.5
    assert client.get_model_version_by_alias(name, "candidate").run_id == run.info.run_id
    assert read_json(layout.registered(name))["version"] == "1"
    assert read_json(run_dir / "recipe.json") == recipe.as_dict()
    load_model(run_dir / "final")  # the run is complete: training it here would keep it as it is


def test_a_run_that_is_here_is_not_replaced_by_what_was_published(root):
    layout, name = Layout(root), "factor-trained"
    publish(layout, name)
    write_events(run_of(layout, name), 0, 3)
    before = (run_of(layout, name) / "events.jsonl").read_bytes()
    restored(name, layout)
    assert (run_of(layout, name) / "events.jsonl").read_bytes() == before


def test_a_version_that_does_not_load_back_gets_no_alias(root, run_dir, tmp_path, monkeypatch):
    write_events(run_dir, 0, 1, end=True)
    asked = {"run_dir": run_dir, "model_dir": store(tmp_path / "weights"), "name": "broken", "metrics": {}}
    log_model = tracking.registry._log_model

    def damaging(*arguments, **facts):
        logged = log_model(*arguments, **facts)
        path = root / "mlflow" / "artifacts" / "models" / logged.model_id / "artifacts/artifacts/weights/model.json"
        path.write_text("{}")
        return logged

    monkeypatch.setattr(tracking.registry, "_log_model", damaging)
    for _ in range(2):
        with pytest.raises(TrackingError, match="does not load back"):
            tracking.register(root, **asked)
    client = tracking.client(root)
    assert len(client.search_model_versions("name = 'broken'")) == 1
    assert client.get_registered_model("broken").aliases == {}


def test_damaged_weights_are_not_registered(root, run_dir, tmp_path):
    weights = store(tmp_path / "weights")
    flip(weights / "model.safetensors")
    with pytest.raises(StoreError, match="sha256"):
        tracking.register(root, run_dir=run_dir, model_dir=weights, name="damaged", metrics={})
    assert not run_dir.exists()


def flip(path):
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_weights_changed_in_the_registry_are_not_loaded(root, registered, monkeypatch):
    said, _ = registered
    version = tracking.client(root).get_model_version(said["name"], said["version"])
    flip(artifacts_of(root, version) / "artifacts" / "weights" / "model.safetensors")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri(root))
    with pytest.raises(StoreError, match="damaged or changed"):
        tracking.server.load_mlflow().pyfunc.load_model(said["model_uri"])


def test_without_a_server_nothing_is_registered(root, run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="run the same command again"):
        tracking.register(root, run_dir=run_dir, model_dir=store(tmp_path / "w"), name="away", metrics={})


@pytest.mark.slow
def test_a_version_loads_with_its_own_code_in_an_empty_place(root, registered, tmp_path):
    said, weights = registered
    place = tmp_path / "place"
    place.mkdir()
    code = (
        "import json, sys, mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "import gen\n"
        "x = model.predict(pd.DataFrame({'count': [2, 3]}), params={'seed': 7})\n"
        "print(json.dumps({'gen': gen.__file__, 'x': x.tolist(), 'pipelines': 'pipelines' in sys.modules}))\n"
    )
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, f"models:/{said['name']}@candidate"],
        cwd=place,
        env=kept | {"MLFLOW_TRACKING_URI": tracking.tracking_uri(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    version = tracking.client(root).get_model_version(said["name"], said["version"])
    assert answer["gen"] == str(artifacts_of(root, version) / "code" / "gen" / "__init__.py")
    assert not answer["pipelines"]
    assert answer["x"] == drawn(weights, 5, seed=7)
    assert list(place.iterdir()) == []


# ---- requests ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sampler(root, tmp_path):
    """What MLflow serves, loaded as MLflow loads it."""
    return loaded(store(tmp_path / "weights"))


def loaded(weights):
    tracking.server.load_mlflow()
    from pipelines.served import Sampler

    class Context:
        artifacts = {"model": str(weights)}  # noqa: RUF012

    model = Sampler()
    model.load_context(Context())
    return model


def ask(sampler, columns, **params):
    import pandas as pd

    return sampler.predict(None, pd.DataFrame(columns), params)


def test_the_same_seed_has_the_same_answer_and_leaves_other_streams_alone(sampler):
    state = torch.get_rng_state()
    first = ask(sampler, {"count": [3, 2]}, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (5, 6, 5, 1)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(ask(sampler, {"count": [5]}, seed=1), first)
    assert (ask(sampler, {"count": [5]}, seed=2) != first).any()
    np.testing.assert_array_equal(ask(sampler, {"count": [1]}), ask(sampler, {"count": [1]}, seed=0))
    assert ask(sampler, {"count": [700]}).shape == (700, 6, 5, 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"number": [1]}, "count: missing"),
        ({"count": [0]}, "from 1"),
        ({"count": [3, -1]}, "from 1"),
        ({"count": [1.5]}, "from 1"),
        ({"count": [float("nan")]}, "from 1"),
        ({"count": []}, "from 1"),
        ({"count": [6_000, 4_001]}, "10001 images.*allowed up to 10000"),
        ({"count": [1], "label": [3]}, "takes no labels"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(sampler, columns, message):
    with pytest.raises(Exception, match=message) as refusal:
        ask(sampler, columns)
    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_column_of_empty_labels_is_no_label(sampler):
    np.testing.assert_array_equal(ask(sampler, {"count": [2], "label": [None]}), ask(sampler, {"count": [2]}))


def test_a_model_without_a_sampler_says_so(root, run_dir, tmp_path):
    weights = store(tmp_path / "codes", name="sparse_coding", space="signed", atoms=8, patch=3)
    with pytest.raises(Exception, match="cannot draw images"):
        ask(loaded(weights), {"count": [1]})
    assert tracking.register(root, run_dir=run_dir, model_dir=weights, name="codes", metrics={})["version"] == "1"


# ---- with a real server --------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def service(words, *, cwd, port, path, env=None):
    """A server process, ready; with it ends its whole process group."""
    with (cwd / "server.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=cwd, env=os.environ | (env or {}), stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}{path}"), 120)
        assert process.poll() is None, (cwd / "server.log").read_text()
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(10)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Wire:
    """A connection to a server that can be cut: everything that arrives at ``port`` goes on to ``target``."""

    def __init__(self, target):
        self.target, self.port = target, free_port()
        self.listener, self.open = None, []

    def connect(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        while self.open:
            with self.open.pop() as end, suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with its own database; the port."""
    place, port = tmp_path_factory.mktemp("a server"), free_port()
    words, needed = tracking.server_command(place, port=port)
    with service(words, cwd=place, port=port, path="/health", env=needed):
        yield port


@pytest.fixture
def wire(server, root, monkeypatch):
    """The way to the server, cut at first."""
    wire = Wire(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{wire.port}")
    return wire


@pytest.mark.slow
def test_a_server_that_was_never_there_is_told_by_sync(root, run_dir, wire):
    tracker = Tracker(root, run_dir, describe(run_dir))
    write_events(run_dir, 0, STEPS, end=True)
    assert not tracker.finish("FINISHED", deadline=30)
    assert "Connection refused" in tracker.problem
    with pytest.raises(TrackingError, match="Nothing is lost"):
        tracking.sync(root, run_dir)
    wire.connect()
    assert tracking.sync(root, run_dir) == len(read(run_dir / "events.jsonl")[0])
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
    tracking.sync(root, run_dir)
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
    assert "Nothing is lost" in tracking.log_evaluation(root, run_dir, {"fid": 5.0}, {}, tmp_path / "card.md")
    wire.connect()
    tracking.sync(root, run_dir)
    assert mirrored(root, run_dir)[1].data.metrics["eval/fid"] == 5.0
    wire.cut()


@pytest.mark.slow
def test_another_server_is_told_from_the_beginning(root, run_dir, wire, monkeypatch):
    write_events(run_dir, 0, 2, end=True)
    wire.connect()
    total = tracking.sync(root, run_dir)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.sync(root, run_dir) == total
    assert len(json.loads((run_dir / "tracking.json").read_text())["servers"]) == 2
    wire.cut()


@pytest.mark.slow
def test_a_registered_model_is_served(root, run_dir, wire, tmp_path):
    wire.connect()
    weights = store(tmp_path / "weights")
    write_events(run_dir, 0, 1, end=True)
    tracking.register(root, run_dir=run_dir, model_dir=weights, name="served", metrics={"nll": 1.0})
    place, port = tmp_path / "place", free_port()
    place.mkdir()
    words = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/served@candidate"]
    words += ["--env-manager", "local", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # mlflow looks for uvicorn there
    with service(words, cwd=place, port=port, path="/ping", env={"PYTHONPATH": "", "PATH": path}):
        url = f"http://127.0.0.1:{port}/invocations"
        status, answer = post(url, {"dataframe_split": {"columns": ["count"], "data": [[2]]}, "params": {"seed": 5}})
        assert status == 200, answer
        assert answer["predictions"] == drawn(weights, 2, seed=5)
        status, answer = post(url, {"dataframe_split": {"columns": ["count"], "data": [[0]]}})
        assert status == 400
        assert "Ask for at least one image" in answer["message"]
        status, answer = post(url, {"dataframe_split": {"columns": ["number"], "data": [[1]]}})
        assert status == 400
        assert "count" in answer["message"]
    wire.cut()


def post(url, value):
    request = urllib.request.Request(
        url, data=json.dumps(value).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
