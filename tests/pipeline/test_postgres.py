"""MLflow's server on PostgreSQL, artifacts through the server: what infra/compose.yaml runs, run without Docker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gen.data.sample import Collection
from gen.files import read_json
from gen.train import events
from pipelines.doctor import examine
from pipelines.layout import Layout
from pipelines.promotion.history import verify
from pipelines.tracking.forms import accepted
from pipelines.tracking.server import load_mlflow
from pipelines.tracking.shelf import Shelf
from tests.compose import INFRA, compose, words
from tests.pipeline.postgres import BINARIES, Database, Server, running_database, serving
from tests.project import VAE, Project, make_project, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARIES is None, reason="Debian's package postgresql is not installed"),
]
RECIPE = "vae-digits"
SMALL = {**VAE, "training": {**VAE["training"], "images": 64_000, "pictures": 32_000, "validate": 16_000}}
PASSWORD = "password: with $igns"  # of ASCII: MLflow's artifact proxy knows no other letters


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with running_database() as database:
        yield database


@pytest.fixture(scope="module")
def server(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Server(database, tmp_path_factory.mktemp("tracking") / "server")) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def project(server: Server, digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A recipe trained against the server, which is killed in the middle and comes back."""
    project = make_project(tmp_path_factory.mktemp("postgres") / "a project", digits_data, **{RECIPE: SMALL})
    project.set_params(**project.params(), judge={"images": 1_600})
    words = (sys.executable, "-m", "pipelines.cli", "train", RECIPE, "--workers", "0")
    training = project.start(*words, MLFLOW_TRACKING_URI=server.url)
    try:
        wait_for(lambda: training.poll() is not None or told(project) > 0)
        server.stop(signal.SIGKILL)
        before = len(project.events(RECIPE))
        wait_for(lambda: training.poll() is not None or len(project.events(RECIPE)) > before + 3)
        assert training.poll() is None, "training was over before the server was gone: it proves nothing"
    finally:
        server.start()
        output, _ = training.communicate(timeout=300)
    assert training.returncode == 0, output
    project.gen("sync", MLFLOW_TRACKING_URI=server.url)
    return project


def told(project: Project) -> int:
    """Bytes of the event log that the server has."""
    directory = project.run_directory(RECIPE)
    if directory is None or not (directory / "tracking.json").exists():
        return 0
    return sum(known["offset"] for known in read_json(directory / "tracking.json")["servers"].values())


def the_run(server: Server) -> Any:
    """The only MLflow run."""
    client = server.client
    found = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert len(found) == 1
    return found[0]


def test_a_server_killed_while_training_is_told_everything_once(project: Project, server: Server) -> None:
    run, client = the_run(server), server.client
    assert run.info.status == "FINISHED"
    curves = events.series(project.events(RECIPE))
    assert {name for name in run.data.metrics if not name.startswith("system/")} == {accepted(n) for n in curves}
    for name, points in curves.items():
        history = client.get_metric_history(run.info.run_id, accepted(name))
        assert Counter((m.step, m.value) for m in history) == Counter(points), name
    pictures = [event for event in project.events(RECIPE) if event["kind"] == "picture"]
    stored = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    assert len(stored) == len(pictures) > 0
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert list(server.artifacts.rglob("recipe.json"))
    assert not (project.root / "mlflow").exists(), "the embedded store was used, too"


LOAD = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
image = model.predict(pandas.DataFrame({"count": [2]}), params={"seed": 3, "format": "array"})[0]["images"][0]
print(json.dumps(image))
"""


def test_a_model_is_evaluated_registered_loaded_and_promoted(
    project: Project, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gen.store import load_model

    here = {"MLFLOW_TRACKING_URI": server.url}
    for stage in (["judge", "digits"], ["evaluate", RECIPE], ["register", RECIPE]):
        project.run(sys.executable, "-m", f"pipelines.{stage[0]}", stage[1], **here)
    scores = read_json(Layout(project.root).scores(RECIPE) / "metrics.json")
    metrics = the_run(server).data.metrics
    assert {name: metrics[f"eval/{name}"] for name in scores} == scores
    client = server.client
    assert client.get_model_version_by_alias(RECIPE, "candidate").version == "1"
    answer = subprocess.run(
        [sys.executable, "-c", LOAD, f"models:/{RECIPE}@candidate"],
        cwd=tmp_path,
        env=project.environment(**here, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    image = torch.tensor(json.loads(answer.stdout))
    assert image.shape[:2] == load_model(Layout(project.root).weights(RECIPE)).model.spec.shape[1:]
    project.gen("promote", RECIPE, "--to", "champion", "--force", "--why", "a test", **here)
    assert client.get_model_version_by_alias(RECIPE, "champion").version == "1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    assert verify(Shelf(project.root), RECIPE).findings == []


CROWD = """
import sys
from pathlib import Path
from gen.train.events import EventLog
from pipelines.tracking.provenance import Description
from pipelines.tracking.tracker import Tracker
root, name = Path(sys.argv[1]), sys.argv[2]
run = root / "runs" / name
log = EventLog(run / "events.jsonl")
log.append("start", 0)
for k in range(1, 6):
    log.metrics("metrics", 100 * k, {"loss": 1 / k})
log.append("end", 500)
tracker = Tracker(root, run, Description(experiment="crowd", run_name=name))
sys.exit(0 if tracker.finish("FINISHED", deadline=90) else tracker.problem)
"""


@pytest.mark.parametrize("through", ["the server", "the database"])
def test_many_at_once_on_first_use(through: str, server: Server, database: Database, tmp_path: Path) -> None:
    """Of an experiment that is not there yet, and of a database without a table."""
    uri = server.url if through == "the server" else database.create("crowd")
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(tmp_path), f"run-{k}"],
            cwd=INFRA.parent,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(3)
    ]
    problems = [process.communicate(timeout=150)[1] for process in crowd]
    assert [process.returncode for process in crowd] == [0] * len(crowd), problems
    client = load_mlflow().MlflowClient(tracking_uri=uri)
    assert [e.name for e in client.search_experiments() if e.name == "crowd"] == ["crowd"]
    runs = client.search_runs([client.get_experiment_by_name("crowd").experiment_id])
    assert sorted(run.info.run_name for run in runs) == [f"run-{k}" for k in range(3)]
    for run in runs:
        assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [100, 200, 300, 400, 500]


def test_a_backup_brings_everything_back(project: Project, server: Server, database: Database, tmp_path: Path) -> None:
    def script(name: str, *more: str) -> str:
        command = ["sh", INFRA / "tracking" / name, server.artifacts, tmp_path, *more]
        done = subprocess.run(
            command, env=os.environ | database.environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run = the_run(server)
    picture = next(server.artifacts.rglob("*.png"))
    before = (run.data.metrics, picture.read_bytes())
    backup = script("backup.sh")
    server.client.delete_run(run.info.run_id)
    picture.write_bytes(b"damaged")
    server.stop()
    assert script("restore.sh", backup).endswith(backup)
    server.start()
    assert (the_run(server).data.metrics, picture.read_bytes()) == before


def test_users_and_an_s3_store(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional parts of the compose file: its command for the bucket, too."""
    pytest.importorskip("flask_wtf")
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(port=0, verbose=False)
    store.start()
    try:
        endpoint = "http://{}:{}".format(*store.get_host_and_port())
        keys = {"MLFLOW_S3_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "mlflow", "AWS_SECRET_ACCESS_KEY": "secret"}
        given = {"ARTIFACTS": "s3://models/all", "BASIC_AUTH": "yes", **keys}
        bucket = compose(POSTGRES_PASSWORD="secret", **given)["services"]["bucket"]
        command = [word.replace("/tracking/", f"{INFRA}/tracking/") for word in words(bucket["command"])]
        for _ in range(2):
            subprocess.run([sys.executable, *command[1:]], env=os.environ | bucket["environment"], check=True)
        secrets = {"ADMIN_PASSWORD": PASSWORD, "SECRET_KEY": "f" * 32, "WORKERS": "1"}
        with serving(Server(database, tmp_path / "server", **given, **secrets)) as server:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
            assert server.status("/api/2.0/mlflow/experiments/get?experiment_id=0") == 401
            assert server.status("/api/2.0/mlflow/experiments/get?experiment_id=0", Host="evil.example") == 403
            assert "MLFLOW_TRACKING_USERNAME" in diagnosis(tmp_path).remedy
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
            assert diagnosis(tmp_path).ok
            client = server.client
            run = client.create_run(client.create_experiment("private"))
            client.log_text(run.info.run_id, "kept", "note.txt")
            assert load_mlflow().artifacts.load_text(f"{run.info.artifact_uri}/note.txt") == "kept"
            assert not list(server.artifacts.iterdir())
    finally:
        store.stop()


def diagnosis(root: Path) -> Any:
    """What ``gen doctor`` says about MLflow."""
    return next(finding for finding in examine(Layout(root)) if finding.what == "mlflow")


MOVER = """
import sys
from pathlib import Path
from pipelines.promotion.moves import promote
from pipelines.tracking.shelf import Shelf
for version in ("1", "2"):
    promote(Shelf(Path(sys.argv[1])), "contested", source=version, gate=lambda *_: [])
"""


def test_two_promoters_take_turns(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is a lease in the registry here, not a file: whoever makes a name that PostgreSQL takes once has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where the processes of one machine meet
    client = server.client
    client.create_registered_model("contested")
    run = client.create_run(client.create_experiment("elsewhere")).info
    for _ in range(2):
        client.create_model_version("contested", source=f"{run.artifact_uri}/model", run_id=run.run_id)
    movers = []
    for machine in ("a", "b"):
        environment = {"MLFLOW_TRACKING_URI": server.url, "XDG_CACHE_HOME": str(tmp_path / machine)}
        words = [sys.executable, "-c", MOVER, str(tmp_path / machine)]
        movers.append(subprocess.Popen(words, cwd=INFRA.parent, env=os.environ | environment))
    assert [mover.wait(200) for mover in movers] == [0, 0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    report = verify(Shelf(tmp_path / "a"), "contested")
    assert report.findings == []
    assert report.entries >= 4
    assert [model.name for model in client.search_registered_models("name LIKE 'gen.lock.%'")] == []
