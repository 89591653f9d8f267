"""Stored models become versions: sealed, described, tried, once each; and come back byte for byte."""

import json
import os
import subprocess
import sys

import pytest

from gen.errors import RecipeError, StoreError
from gen.files import read_json, sha256
from gen.serve import Answerer
from gen.store import load_model
from gen.train.events import read, series
from pipelines import tracking
from pipelines.layout import Layout, run_of
from pipelines.register import register, restored
from pipelines.tracking.sealed import fetch
from pipelines.tracking.server import TrackingError
from pipelines.tracking.smoke import SmokeError, try_out
from tests.pipeline.tracked import SHAPE, artifacts_of, flip, mirrored, publish, store, write_events
from tests.toys import TOY_HYPER

METRICS = {"nll": -3.5}


@pytest.fixture(scope="module")
def registered(module_root):
    """A registered model, `toy`: what `register` said, and its run directory."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        run_dir = module_root / "runs" / "toy"
        write_events(run_dir, 0, 2, end=True)
        weights = store(module_root / "toy" / "weights")
        tracking.tracker.log_evaluation(module_root, run_dir, METRICS, {}, weights / "model.json")
        said = tracking.registry.register(module_root, run_dir=run_dir, model_dir=weights, name="toy", metrics=METRICS)
    return said, run_dir, weights


# ---- registering ---------------------------------------------------------------------------------------------------


def test_a_version_is_described_tagged_sealed_and_tried_and_has_no_alias(root, registered):
    said, run_dir, weights = registered
    client, run = mirrored(root, run_dir)
    assert said == {"name": "toy", "version": "1", "run_id": run.info.run_id, "model_uri": "models:/toy/1"}
    version = client.get_model_version("toy", "1")
    assert version.tags["gen.weights"] == sha256(weights / "model.safetensors")
    assert version.tags["gen.manifest"] == "d" * 64
    assert version.tags["eval/nll"] == "-3.5"
    assert not {"gen.token", "process.pid"} & set(version.tags), "of the run"
    assert version.tags["gen.smoke"] == "passed"
    assert version.tags["gen.seal"] == sha256(artifacts_of(root, "toy") / "seal.json")
    assert "| nll | -3.5 |" in version.description
    assert client.get_registered_model("toy").aliases == {}
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert logged.status.name == "READY"
    assert {m.key: m.value for m in logged.metrics}["eval/nll"] == -3.5
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "toy", "version": 1}]
    assert [m.model_id for m in run.outputs.model_outputs] == [logged.model_id]
    history = client.get_metric_history(run.info.run_id, "eval/nll")
    assert len(history) == 1, "a score of the model is not another one of the run"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not any(path.endswith("/code") for path in sys.path)


def test_registering_the_same_again_returns_the_same_version(root, registered, tmp_path):
    _, run_dir, weights = registered
    again = {"run_dir": run_dir, "name": "twice"}
    first = tracking.registry.register(root, model_dir=weights, metrics=METRICS, **again)
    assert first["version"] == "1"
    assert tracking.registry.register(root, model_dir=weights, metrics=METRICS, **again) == first
    assert tracking.registry.register(root, model_dir=weights, metrics={"nll": -3.0}, **again)["version"] == "2"
    other = store(tmp_path / "other", seed=1)
    assert tracking.registry.register(root, model_dir=other, metrics=METRICS, **again)["version"] == "3"
    assert tracking.registry.register(root, model_dir=weights, metrics=METRICS, **again) == first
    assert len(tracking.server.client(root).search_model_versions("name = 'twice'")) == 3


class Killed(BaseException):
    """As if the process had been killed here: nothing catches it."""


def killed(*_, **__):
    raise Killed


@pytest.mark.parametrize("place", ["write_seal", "_new_version", "_smoke", "_link"])
def test_a_registration_that_was_cut_off_is_finished_and_nothing_is_doubled(
    root, run_dir, registered, monkeypatch, place
):
    asked = {"run_dir": run_dir, "model_dir": registered[2], "name": f"cut-{place}", "metrics": {}}
    write_events(run_dir, 0, 1, end=True)
    with monkeypatch.context() as patch:
        patch.setattr(tracking.registry, place, killed)
        with pytest.raises(Killed):
            tracking.registry.register(root, **asked)
    assert tracking.registry.register(root, **asked)["version"] == "1"
    client, run = mirrored(root, run_dir)
    (version,) = client.search_model_versions(f"name = '{asked['name']}'")
    assert version.tags["gen.smoke"] == "passed"
    (logged,) = client.search_logged_models([run.info.experiment_id], f"name = '{asked['name']}'")
    assert logged.model_id == version.source.removeprefix("models:/")
    assert [model.model_id for model in run.outputs.model_outputs] == [logged.model_id]


@pytest.mark.parametrize("name", ["sparse_coding", "pixelcnn"])
def test_every_capability_is_tried(root, run_dir, tmp_path, monkeypatch, name):
    weights = store(tmp_path / name, name=name, space=SPACES[name], **HYPER[name])
    asked = []

    def watched(model, spec, tasks):
        asked.append(tasks)
        try_out(model, spec, tasks)

    monkeypatch.setattr(tracking.registry, "try_out", watched)
    tracking.registry.register(root, run_dir=run_dir, model_dir=weights, name=name, metrics={})
    (tasks,) = asked
    assert tasks == {"sparse_coding": ("encode", "reconstruct"), "pixelcnn": ("sample", "score", "complete")}[name]


SPACES = {"sparse_coding": "signed", "pixelcnn": "binary_dynamic"}
HYPER = {"sparse_coding": {"atoms": 8, "patch": 3}, "pixelcnn": TOY_HYPER["pixelcnn"]}


class Answers:
    """A loaded model that answers as it is told."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, rows, params):
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * len(rows)


IMAGE = [[[0]] * SHAPE[2]] * SHAPE[1]


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        ("sample", {"images": [IMAGE]}, "'sample' answers with 1 images; asked for were 2"),
        ("sample", {"images": [IMAGE[1:]] * 2}, r"an image of the shape \(5, 5, 1\)"),
        ("sample", {"pictures": []}, "with pictures; promised are images"),
        ("encode", {"code": [0.0, float("nan")]}, "not finite"),
        ("reconstruct", {"image": [0, 1]}, "shape"),
        ("score", {}, "with nothing; promised are nats"),
        ("score", ValueError("no likelihood"), "'score' fails: ValueError: no likelihood"),
    ],
)
def test_what_a_model_must_answer(registered, task, answer, message):
    spec = load_model(registered[2]).model.spec
    with pytest.raises(SmokeError, match=message):
        try_out(Answers(answer), spec, (task,))
    try_out(Answers({"images": [IMAGE, IMAGE]}), spec, ("sample",))


def test_a_version_that_cannot_be_used_says_so_every_time(root, run_dir, registered, monkeypatch):
    write_events(run_dir, 0, 1, end=True)
    asked = {"run_dir": run_dir, "model_dir": registered[2], "name": "broken", "metrics": {}}

    def refusing(model, spec, tasks):
        raise SmokeError("'sample' fails")

    monkeypatch.setattr(tracking.registry, "try_out", refusing)
    for _ in range(2):
        with pytest.raises(SmokeError, match=r"models:/broken/1: registered, but it cannot be used: .*'sample' fails"):
            tracking.registry.register(root, **asked)
    client = tracking.server.client(root)
    (version,) = client.search_model_versions("name = 'broken'")
    assert "gen.smoke" not in version.tags
    flip(artifacts_of(root, "broken") / "served.py")
    with pytest.raises(StoreError, match=r"the code was changed: served\.py"):
        tracking.registry.register(root, **asked)


def test_damaged_weights_are_not_registered(root, run_dir, tmp_path):
    weights = store(tmp_path / "weights")
    flip(weights / "model.safetensors")
    with pytest.raises(StoreError, match="sha256"):
        tracking.registry.register(root, run_dir=run_dir, model_dir=weights, name="damaged", metrics={})
    assert not run_dir.exists()


def test_without_a_server_nothing_is_registered(root, run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="run the same command again"):
        tracking.registry.register(root, run_dir=run_dir, model_dir=store(tmp_path / "w"), name="away", metrics={})


# ---- the stage -----------------------------------------------------------------------------------------------------


def test_a_model_trained_elsewhere_brings_its_curves_and_pictures(root):
    layout, name = Layout(root), "factor-pulled"
    recipe = publish(layout, name, metrics=METRICS)
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
    assert read_json(layout.registered(name))["version"] == "1"
    version = client.get_model_version(name, "1")
    assert version.run_id == run.info.run_id
    files = artifacts_of(root, name)
    assert (files / "card.png").read_bytes() == (layout.scores(name) / "pictures" / "samples.png").read_bytes()
    assert "Linear factor model" in (files / "card.html").read_text()
    assert f"/{files.parent.name}/artifacts/files?artifact_file_path=card.png" in version.description
    assert read_json(run_dir / "recipe.json") == recipe.as_dict()
    load_model(run_dir / "final")  # the run is complete: training it here would keep it as it is


def test_a_run_that_is_here_is_not_replaced_by_what_was_published(root):
    layout, name = Layout(root), "factor-trained"
    publish(layout, name, metrics=METRICS)
    write_events(run_of(layout, name), 0, 3)
    before = (run_of(layout, name) / "events.jsonl").read_bytes()
    restored(name, layout)
    assert (run_of(layout, name) / "events.jsonl").read_bytes() == before


# ---- fetching ------------------------------------------------------------------------------------------------------


def test_what_is_fetched_is_what_was_registered(root, registered, tmp_path):
    client = tracking.server.client(root)
    client.set_registered_model_alias("toy", "champion", "1")
    for version in ("1", "champion", "@champion"):
        found = fetch(root, "toy", version, tmp_path / version)
        assert (found.name, found.version, found.directory) == ("toy", "1", tmp_path / version)
        assert found.seal == found.tags["gen.seal"]
        assert (found.model / "model.safetensors").read_bytes() == (registered[2] / "model.safetensors").read_bytes()
        load_model(found.model)
    assert found.signature == tracking.registry.signature()
    assert [column.name for column in found.signature.inputs] == ["task", "count", "label", "image", "mask"]
    assert not any(column.required for column in found.signature.inputs)


def test_what_is_there_and_intact_is_not_downloaded_again(root, registered, tmp_path, monkeypatch):
    there = fetch(root, "toy", "1", tmp_path / "there").directory
    with monkeypatch.context() as patch:
        patch.setattr(tracking.sealed, "_download", killed)
        fetch(root, "toy", "1", there)
        flip(there / "code/gen/model.py")
        with pytest.raises(Killed):
            fetch(root, "toy", "1", there)
    fetch(root, "toy", "1", there)
    assert (there / "code/gen/model.py").read_bytes() == (artifacts_of(root, "toy") / "code/gen/model.py").read_bytes()


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("nobody", "1", "no such registered model. Register it"),
        ("toy", "7", "there is no such version. Found: 1"),
        ("toy", "champoin", "there is no such alias. Found: @champion. Did you mean 'champion'?"),
    ],
)
def test_what_there_is_not_is_said(root, registered, tmp_path, name, version, message):
    tracking.server.client(root).set_registered_model_alias("toy", "champion", "1")
    with pytest.raises(RecipeError) as problem:
        fetch(root, name, version, tmp_path / "fetched")
    assert message in str(problem.value)
    assert not (tmp_path / "fetched").exists()


@pytest.mark.slow
def test_a_version_loads_with_its_own_code_in_an_empty_place(root, registered, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    code = (
        "import json, sys, mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "import gen\n"
        "x = model.predict(pd.DataFrame({'count': [2, 3]}), params={'seed': 7})\n"
        "print(json.dumps({'gen': gen.__file__, 'x': x, 'pipelines': 'pipelines' in sys.modules}))\n"
    )
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, "models:/toy/1"],
        cwd=place,
        env=kept | {"MLFLOW_TRACKING_URI": tracking.server.tracking_uri(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["gen"] == str(artifacts_of(root, "toy") / "code" / "gen" / "__init__.py")
    assert not answer["pipelines"]
    assert answer["x"] == Answerer(load_model(registered[2]).model)([{"count": 2}, {"count": 3}], {"seed": 7})
    assert list(place.iterdir()) == []
    fetch(root, "toy", "1", tmp_path / "fetched")  # what loading in place leaves in the store is no damage


@pytest.mark.slow
def test_versions_go_through_a_server_and_its_artifact_proxy(root, run_dir, wire, tmp_path):
    wire.connect()
    weights = store(tmp_path / "weights")
    write_events(run_dir, 0, 1, end=True)
    said = tracking.registry.register(root, run_dir=run_dir, model_dir=weights, name="served", metrics={"nll": 1.0})
    found = fetch(root, "served", said["version"], tmp_path / "fetched")
    assert (found.model / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
    wire.cut()
    with pytest.raises(TrackingError, match="Connection refused"):
        fetch(root, "served", said["version"], tmp_path / "again")
