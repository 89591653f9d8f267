"""A sweep in MLflow: one run for it, one for each trial, each told once and closed as it ended, whoever is killed."""

import json
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from gen.errors import PreemptedError
from gen.files import read_json, write_json
from gen.recipe import Recipe, Training
from gen.train.events import EventLog, read
from pipelines import tracking
from pipelines.layout import Layout
from pipelines.lifeline import sole_writer
from pipelines.sweeping.trial import Trial
from pipelines.tracking.mirror import Mirror
from pipelines.tracking.reaping import reap
from pipelines.tracking.record import standing
from pipelines.tracking.sweeps import SweepTracker, track_sweep

RECIPE = Recipe(name="f", model="linear/factor", dataset="d", space="dequantized", training=Training(images=900))
FACTS = {"recipe": "f", "space": {"hyper.latents": {"choice": [1, 2, 3]}}, "seed": 0}
MADE = {"recipe": RECIPE, "facts": FACTS, "data": "d" * 64, "code": "c" * 64}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One embedded database for all tests here: making it takes seconds."""
    root = tmp_path_factory.mktemp("mlflow of sweeps")
    tracking.server.client(root)
    return tracking.server.tracking_uri(root)


@pytest.fixture
def layout(database, tmp_path, monkeypatch):
    """A project of its own for every test."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return Layout(tmp_path / "project")


@pytest.fixture
def directory(layout, request):
    return layout.root / "runs" / "sweeps" / request.node.name.replace("[", "-").replace("]", "")


def train(directory, number, images, state="running", **facts):
    """What the ledger and a trial's training leave, up to so many images."""
    run_dir = directory / "trials" / f"{number:04d}"
    known = read_json(run_dir / "trial.json") if (run_dir / "trial.json").exists() else {}
    trial = Trial(number=number, values={"hyper.latents": number}, state=state, images=images, **facts)
    log = EventLog(run_dir / "events.jsonl")
    if not known:
        log.append("start", 0)
    for mark in range(known.get("images", 0) + 100, images + 1, 100):
        log.metrics("validation", mark, {"eval/fid": 1000 / mark})
    if state == "finished":
        log.append("end", images)
    log.close()
    write_json(run_dir / "trial.json", trial.as_dict())
    return run_dir


def start(tracker, directory, number, images):
    run_dir = train(directory, number, images)
    recipe = replace(RECIPE, hyper={"latents": number})
    tracker.trial_started(number, run_dir, recipe, {"hyper.latents": number})


def abandon(tracker):
    """What SIGKILL leaves: nothing is closed, and the locks are free."""
    tracker._stop.set()
    tracker._thread.join(60)
    assert not tracker._thread.is_alive()


def told(layout, directory):
    """The MLflow runs of a sweep: its own, and those of its trials by number."""
    client, uri = tracking.server.client(layout.root), tracking.server.tracking_uri(layout.root)
    parent = client.get_run(standing(directory, uri).run_id)
    below = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    trials = {int(run.data.tags["gen.trial"]): run for run in below}
    assert len(trials) == len(below), "a trial has one run"
    return client, parent, trials


def assert_told_once(client, run, run_dir):
    log, _ = read(run_dir / "events.jsonl")
    points = [(event["images"], event["values"]["eval/fid"]) for event in log if event["kind"] == "validation"]
    history = client.get_metric_history(run.info.run_id, "val/eval/fid")
    assert sorted((metric.step, metric.value) for metric in history) == points


ENDINGS = {"finished": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


def test_every_trial_is_a_run_below_that_of_the_sweep_and_ends_as_it_ended(layout, directory, tmp_path):
    csv, picture = tmp_path / "trials.csv", tmp_path / "drawn.png"
    csv.write_text("trial,state\n0,finished\n")
    picture.write_bytes(b"a picture")
    tracker = SweepTracker(layout, directory, **MADE)
    for number, state in enumerate(ENDINGS):
        start(tracker, directory, number, 200)
        tracker.progress(200 * (number + 1), {"best": 5.0 - number, "ended": number})
        train(directory, number, 400, state)
        tracker.trial_ended(number)
    for best in (3.0, 2.0):  # the second publication replaces the first
        files = {"trials.csv": csv, "pictures/history.png": picture}
        tracker.publish(files, metrics={"best": best, "seconds": float("nan")}, note=f"| best |\n|---|\n| {best} |")
    assert tracker.finish("FINISHED"), tracker.problem

    client, parent, trials = told(layout, directory)
    assert {number: run.info.status for number, run in trials.items()} == dict(enumerate(ENDINGS.values()))
    assert {number: run.data.tags["gen.outcome"] for number, run in trials.items()} == dict(enumerate(ENDINGS))
    for number, run in trials.items():
        assert_told_once(client, run, directory / "trials" / f"{number:04d}")
        assert run.info.run_name == f"f/{number:04d}"
        assert run.data.params["hyper.latents"] == run.data.tags["gen.value.hyper.latents"] == str(number)
        assert run.data.params["training.images"] == "900"
        assert run.data.tags["gen.sweep"] == directory.name
    assert (parent.info.run_name, parent.info.status) == ("sweep f", "FINISHED")
    assert parent.data.params["space.hyper.latents.choice"] == "[1, 2, 3]"
    assert parent.data.metrics["sweep/best"] == 2.0
    curve = client.get_metric_history(parent.info.run_id, "sweep/ended")
    assert [(metric.step, metric.value) for metric in curve] == [(200, 0), (400, 1), (600, 2), (800, 3)]
    assert parent.data.tags["mlflow.note.content"] == "| best |\n|---|\n| 2.0 |"
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"trials.csv", "sweep.json", "environment.txt", "pictures"} <= files
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "pictures")] == ["pictures/history.png"]


@pytest.mark.parametrize(("error", "status"), [(PreemptedError("stop"), "KILLED"), (ValueError("bug"), "FAILED")])
def test_trials_that_run_when_the_driver_ends_are_killed(layout, directory, error, status):
    def sweep():
        with track_sweep(layout, directory, **MADE) as tracker:
            start(tracker, directory, 0, 200)
            raise error

    with pytest.raises(type(error)):
        sweep()
    _, parent, trials = told(layout, directory)
    assert (parent.info.status, trials[0].info.status) == (status, "KILLED")


def test_a_killed_driver_leaves_runs_running_and_the_resumed_sweep_closes_them_all(layout, directory):
    first = SweepTracker(layout, directory, **MADE)
    for number in range(4):
        start(first, directory, number, 200)
    first.progress(800, {"best": 5.0})
    abandon(first)
    client, parent, before = told(layout, directory)
    assert {run.info.status for run in [parent, *before.values()]} == {"RUNNING"}

    train(directory, 0, 400, "finished")  # written by the ledger, not told to MLflow: the driver was killed in between
    train(directory, 1, 200, "pruned")
    second = SweepTracker(layout, directory, **MADE)
    second.progress(800, {"best": 5.0})  # what a resumed sweep says again is no news
    for number in (2, 3):
        start(second, directory, number, 300)
    train(directory, 2, 400, "finished")
    second.trial_ended(2)
    train(directory, 3, 400, "failed", error="lost")
    assert second.finish("FINISHED"), second.problem

    _, parent, trials = told(layout, directory)
    assert {number: run.info.run_id for number, run in trials.items()} == {
        number: run.info.run_id for number, run in before.items()
    }
    assert {number: run.data.tags["gen.outcome"] for number, run in trials.items()} == {
        0: "finished",
        1: "pruned",
        2: "finished",
        3: "failed",
    }
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED", "FAILED"}
    for number, run in trials.items():
        assert_told_once(client, run, directory / "trials" / f"{number:04d}")
    assert len(client.get_metric_history(parent.info.run_id, "sweep/best")) == 1


def test_a_trial_goes_on_with_other_values_in_the_same_run(layout, directory):
    tracker = SweepTracker(layout, directory, **MADE)
    start(tracker, directory, 0, 200)
    tracker.trial_started(0, directory / "trials" / "0000", RECIPE, {"hyper.latents": 7})
    train(directory, 0, 400, "finished")
    tracker.trial_ended(0)
    assert tracker.finish("FINISHED"), tracker.problem
    client, _, trials = told(layout, directory)
    assert (trials[0].info.status, trials[0].data.tags["gen.value.hyper.latents"]) == ("FINISHED", "7")
    assert_told_once(client, trials[0], directory / "trials" / "0000")


def test_a_server_that_is_away_for_the_whole_sweep_is_told_later(layout, directory, tmp_path, monkeypatch):
    def away(self):
        raise ConnectionError("nobody there")

    csv = layout.root / "trials.csv"
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_connect", away)
        tracker = SweepTracker(layout, directory, **MADE)
        for number, state in enumerate(("pruned", "finished")):
            start(tracker, directory, number, 200)
            train(directory, number, 300, state)
            tracker.trial_ended(number)
        csv.write_text("trial\n")
        tracker.publish({"trials.csv": csv}, metrics={"best": 1.0}, note="note")
        assert not tracker.finish("FINISHED")
        assert "nobody there" in tracker.problem
    for run_dir in (directory / "trials" / "0000", directory, directory / "trials" / "0001"):  # in any order
        tracking.tracker.sync(layout.root, run_dir)
        assert standing(run_dir, tracking.server.tracking_uri(layout.root)).complete
    client, parent, trials = told(layout, directory)
    assert {number: run.data.tags["gen.outcome"] for number, run in trials.items()} == {0: "pruned", 1: "finished"}
    assert parent.info.status == "FINISHED"
    assert "trials.csv" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    for number, run in trials.items():
        assert_told_once(client, run, directory / "trials" / f"{number:04d}")


def test_one_trial_that_cannot_be_sent_does_not_hold_up_the_others(layout, directory, monkeypatch):
    send = Mirror._send_events

    def sometimes(self):
        if self.run_dir.name == "0000":
            raise RuntimeError("refused")
        return send(self)

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_send_events", sometimes)
        tracker = SweepTracker(layout, directory, **MADE)
        for number in range(3):
            start(tracker, directory, number, 200)
            train(directory, number, 300, "finished")
            tracker.trial_ended(number)
        while tracker.problem is None:
            tracker._thread.join(0.05)
        assert not tracker.finish("FINISHED")
    _, parent, trials = told(layout, directory)
    assert {run.info.status for number, run in trials.items() if number} == {parent.info.status} == {"FINISHED"}
    tracking.tracker.sync(layout.root, directory / "trials" / "0000")
    assert told(layout, directory)[2][0].info.status == "FINISHED"


# ---- runs whose process is gone --------------------------------------------------------------------------------------


@pytest.fixture
def abandoned(layout, directory):
    """A sweep whose driver was killed: trial 0 was pruned by then, trial 1 was running."""
    tracker = SweepTracker(layout, directory, **MADE)
    for number in range(2):
        start(tracker, directory, number, 200)
    abandon(tracker)
    train(directory, 0, 300, "pruned")
    return told(layout, directory)


def reaped(layout, runs, **options):
    """What became of these runs, by name."""
    ids = {run.info.run_id for run in runs}
    return {each.name: each.status for each in reap(layout, **options) if each.run_id in ids}


def test_reaping_sends_what_is_missing_and_closes_as_it_ended(layout, directory, abandoned):
    client, parent, before = abandoned
    expected = {"sweep f": "KILLED", "f/0000": "FINISHED", "f/0001": "KILLED"}
    runs = [parent, *before.values()]
    assert reaped(layout, runs, dry_run=True) == expected
    assert {run.info.status for run in told(layout, directory)[2].values()} == {"RUNNING"}
    assert reaped(layout, runs) == expected
    _, parent, trials = told(layout, directory)
    assert [trials[number].data.tags["gen.outcome"] for number in (0, 1)] == ["pruned", "killed"]
    for number, run in trials.items():
        assert_told_once(client, run, directory / "trials" / f"{number:04d}")
    assert reaped(layout, runs) == {}


@pytest.mark.parametrize("lock", ["writer.lock", "trainer.lock"])
def test_what_a_process_holds_is_not_reaped(layout, directory, abandoned, lock):
    _, parent, trials = abandoned
    with sole_writer(directory, name=lock):  # its driver lives: it closes its trials
        assert set(reaped(layout, [parent, *trials.values()]).values()) == {None}
    with sole_writer(directory / "trials" / "0001", name=lock):
        assert reaped(layout, [parent, *trials.values()]) == {"sweep f": "KILLED", "f/0000": "FINISHED", "f/0001": None}


def test_runs_without_a_directory_are_closed_only_if_their_process_was_here_and_is_gone(layout, directory, abandoned):
    client, parent, trials = abandoned
    directory.rename(directory.with_name("moved away"))
    (directory.with_name("moved away")).rename(layout.root / "elsewhere")
    runs = {"mine": parent, "alive": trials[0], "theirs": trials[1]}
    facts = {"mine": {"pid": "999999999"}, "alive": {"pid": str(os.getpid())}, "theirs": {"host": "another"}}
    for name, run in runs.items():
        for key, value in facts[name].items():
            client.set_tag(run.info.run_id, f"process.{key}", value)
    found = reaped(layout, runs.values())
    assert found == {"sweep f": "KILLED", "f/0000": None, "f/0001": None}
    assert client.get_run(parent.info.run_id).data.tags["gen.outcome"] == "killed"
    assert reaped(layout, runs.values(), older=timedelta(hours=1)) == {"f/0000": None, "f/0001": None}
    client.set_tag(trials[1].info.run_id, "process.heartbeat", "2020-01-01T00:00:00+00:00")
    client.set_tag(trials[0].info.run_id, "process.heartbeat", "2020-01-01T00:00:00+00:00")  # the pid is another's now
    assert reaped(layout, runs.values()) == {"f/0000": "KILLED", "f/0001": None}
    assert reaped(layout, runs.values(), older=timedelta(hours=1)) == {"f/0001": "KILLED"}
    ended = client.get_run(trials[1].info.run_id).info.end_time
    assert ended == 1577836800000, "it ended when it was last heard of"


def test_a_run_of_another_project_of_this_machine_is_left_to_it(layout, directory, abandoned, tmp_path):
    client, parent, _ = abandoned
    client.set_tag(parent.info.run_id, "process.pid", "999999999")
    assert reaped(Layout(tmp_path / "other"), [parent]) == {"sweep f": None}


def test_a_living_run_gives_a_sign_of_life_now_and_then(layout, directory, monkeypatch):
    beats = []
    directory.mkdir(parents=True)
    described = tracking.provenance.Description(experiment="d", run_name="f")
    with Mirror(layout.root, directory, described) as mirror:
        mirror.send()
        with monkeypatch.context() as patch:
            patch.setattr(mirror.client, "set_tag", lambda run_id, key, value: beats.append(key))
            mirror.send()
            assert beats == []
            patch.setattr("pipelines.tracking.mirror.HEARTBEAT_S", 0.0)
            mirror.send()
            assert beats == ["process.heartbeat"]
        mirror.send("FINISHED")
    run = tracking.server.client(layout.root).get_run(mirror.run_id)
    assert json.loads((directory / "tracking.json").read_text())["status"] == run.info.status == "FINISHED"
    assert run.data.tags["process.pid"] == str(os.getpid())
    assert "process.heartbeat" in run.data.tags
