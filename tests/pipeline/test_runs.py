"""``gen runs``: what is listed is what is there; what was not sent is sent; what is gone is closed."""

import json
import os
import re

import pytest

from gen.files import write_json
from gen.train.events import EventLog
from pipelines import cli, tracking
from pipelines.layout import Layout
from pipelines.lifeline import BusyError, held, sole_writer
from pipelines.tracking.mirror import Mirror
from pipelines.tracking.provenance import Description
from pipelines.tracking.runs import in_use, local


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One embedded database for all tests here: making it takes seconds."""
    root = tmp_path_factory.mktemp("mlflow of runs")
    tracking.server.client(root)
    return tracking.server.tracking_uri(root)


@pytest.fixture
def layout(database, tmp_path, monkeypatch):
    """A project with a run that ended, one that was interrupted, and a sweep with three trials."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    layout = Layout(tmp_path / "project")
    runs = layout.root / "runs"
    leave(runs / "ended-1", 300, end=True)
    leave(runs / "broken-2", 200)
    write_json(runs / "sweeps" / "s-3" / "sweep.json", {})
    for number, state in enumerate(("pruned", "running", "failed")):
        leave(runs / "sweeps" / "s-3" / "trials" / f"{number:04d}", 100, end=False)
        write_json(runs / "sweeps" / "s-3" / "trials" / f"{number:04d}" / "trial.json", {"state": state})
    (runs / "sweeps" / "s-3" / "ray").mkdir()
    (runs / "empty").mkdir()
    return layout


def leave(run_dir, images, *, end=False):
    """What training leaves behind."""
    log = EventLog(run_dir / "events.jsonl")
    for mark in range(100, images + 1, 100):
        log.metrics("validation", mark, {"loss": -mark / 10, "nats": mark / 10})
    if end:
        log.append("end", images)
    log.close()
    write_json(run_dir / "recipe.json", {"training": {"images": 300}})


def track(layout, run_dir, status=None):
    """Its tracker, which ends with a status or is killed."""
    with Mirror(layout.root, run_dir, Description(experiment="d", run_name=run_dir.name)) as mirror:
        mirror.send(status)
    return mirror.run_id


def gen(layout, capsys, *words, expect=0):
    assert cli.main(["--root", str(layout.root), *words]) == expect
    return capsys.readouterr()


def test_a_lock_can_be_looked_at_without_being_in_the_way(tmp_path):
    assert not held(tmp_path)
    with sole_writer(tmp_path):
        assert held(tmp_path)
        with pytest.raises(BusyError):
            sole_writer(tmp_path).__enter__()
    assert not held(tmp_path)
    with sole_writer(tmp_path, name="other.lock"):
        assert not held(tmp_path)


def test_runs_say_how_they_stand(layout):
    runs = layout.root / "runs"
    found = {run.name: run for run in local(layout)}
    assert list(found) == [
        "broken-2", "ended-1", "sweeps/s-3", *(f"sweeps/s-3/trials/{number:04d}" for number in range(3)),
    ]  # fmt: skip
    assert [run.kind for run in found.values()] == ["run", "run", "sweep", "trial", "trial", "trial"]
    states = ["interrupted", "finished", "interrupted", "pruned", "interrupted", "failed"]
    assert [run.state for run in found.values()] == states
    ended = found["ended-1"]
    assert (ended.images, ended.budget, ended.score, ended.unsent, ended.alive) == (300, 300, ("nats", 30.0), 4, False)
    with sole_writer(runs / "broken-2", name="trainer.lock"), sole_writer(runs / "sweeps" / "s-3"):
        states = {run.name: run.state for run in local(layout)}
        assert (states["broken-2"], states["sweeps/s-3"]) == ("running", "running")
        assert in_use(runs / "sweeps" / "s-3" / "trials" / "0001") == "its sweep is running"
        assert in_use(runs / "ended-1") == ""


def test_a_list_is_joined_with_what_mlflow_believes(layout, capsys, monkeypatch):
    ids = {name: track(layout, layout.root / "runs" / name, status) for name, status in (
        ("ended-1", "FINISHED"), ("broken-2", None),
    )}  # fmt: skip
    facts = {run["name"]: run for run in json.loads(gen(layout, capsys, "runs", "list", "--json").out)}
    assert {name: facts[name]["run_id"] for name in ids} == ids
    assert [facts[name]["status"] for name in ("ended-1", "broken-2", "sweeps/s-3")] == ["FINISHED", "RUNNING", ""]
    lines = gen(layout, capsys, "runs", "list").out.splitlines()
    row = next(line for line in lines if line.startswith("broken-2"))
    assert re.split(r"\s{2,}", row)[:5] == ["broken-2", "interrupted", "200", "300", "nats 20"]
    assert row.endswith("RUNNING")

    only = gen(layout, capsys, "runs", "list", "*/trials/*", "--state", "failed", "--state", "pruned", "--json").out
    assert [run["name"][-4:] for run in json.loads(only)] == ["0000", "0002"]

    monkeypatch.setattr("pipelines.tracking.runs.client", lambda root: (_ for _ in ()).throw(ConnectionError("away")))
    away = gen(layout, capsys, "runs", "list", "ended*", "--json")
    assert [(run["unsent"], run["status"]) for run in json.loads(away.out)] == [(0, "")]
    assert away.err.startswith("warning: MLflow at sqlite:")
    assert gen(layout, capsys, "runs", "list", "ended*", "--local").err == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (run,) = json.loads(gen(layout, capsys, "runs", "list", "ended*", "--json").out)
    assert (run["unsent"], run["run_id"]) == (4, ""), "this server was told nothing"


@pytest.mark.parametrize("words", [("sync",), ("runs", "sync")])
def test_what_was_not_sent_is_sent_and_what_was_is_not_asked_for(layout, capsys, monkeypatch, words):
    runs = layout.root / "runs"
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_connect", lambda self: (_ for _ in ()).throw(ConnectionError("away")))
        for run_dir in (runs / "ended-1", runs / "broken-2", runs / "sweeps/s-3/trials/0000"):
            with pytest.raises(ConnectionError):
                track(layout, run_dir, "FINISHED")
    with Mirror(layout.root, runs / "broken-2"):
        lines = gen(layout, capsys, *words).out.splitlines()
    assert lines == [
        "broken-2: another process is sending it",
        "ended-1: 4 events sent",
        "sweeps/s-3/trials/0000: 1 events sent",
    ]
    assert gen(layout, capsys, *words).out == "broken-2: 2 events sent\n"
    monkeypatch.setattr(Mirror, "__enter__", lambda self: pytest.fail("everything was told"))
    assert gen(layout, capsys, *words).out == "MLflow has been told everything\n"


def test_runs_whose_process_is_gone_are_closed(layout, capsys):
    ended, broken = (track(layout, layout.root / "runs" / name) for name in ("ended-1", "broken-2"))

    def said(*words):
        found = json.loads(gen(layout, capsys, "runs", "reap", "--json", *words).out)
        return {each["name"]: each["status"] for each in found if each["run_id"] in (ended, broken)}

    with sole_writer(layout.root / "runs" / "ended-1"):
        assert said("--dry-run") == {"ended-1": None, "broken-2": "KILLED"}
    assert said("--dry-run") == {"ended-1": "FINISHED", "broken-2": "KILLED"}
    lines = gen(layout, capsys, "runs", "reap").out.splitlines()
    assert "broken-2: closed as KILLED: its process is gone; killed, 0 events unsent" in lines
    assert said() == {}
    client = tracking.server.client(layout.root)
    assert [client.get_run(run_id).info.status for run_id in (ended, broken)] == ["FINISHED", "KILLED"]


def test_the_group_of_commands_explains_itself(layout, capsys):
    assert "reap" in gen(layout, capsys, "runs").out
    with pytest.raises(SystemExit):
        cli.main(["runs", "reap", "--older", "soon"])
