"""What training leaves, made up: event logs, and small models on disk; and what MLflow was told about them."""

import json
import time

import torch
from PIL import Image

from gen.data.spaces import DataSpec, Space
from gen.files import atomic_directory, write_json
from gen.recipe import Recipe, Training
from gen.registry import build
from gen.store import save_model
from gen.train.events import EventLog
from pipelines import tracking
from pipelines.tracking.provenance import Dataset, Description

SHAPE = (1, 6, 5)


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


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def mirrored(root, run_dir):
    """The only MLflow run of a run directory, and a client."""
    client = tracking.server.client(root)
    (server,) = json.loads((run_dir / "tracking.json").read_text())["servers"].values()
    found = client.search_runs(
        [e.experiment_id for e in client.search_experiments()], f"tags.`gen.token` = '{server['token']}'"
    )
    assert [run.info.run_id for run in found] == [server["run_id"]]
    return client, found[0]


def store(directory, *, seed=0, name="factor", space="dequantized", shape=SHAPE, made=None, **hyper):
    """A small model on disk, with the hyper-parameters of a small factor model unless others are given."""
    torch.manual_seed(seed)
    hyper = hyper or {"latents": 3}
    model = build(name, DataSpec(shape, 10, Space.parse(space)), **hyper)
    with atomic_directory(directory) as staging:
        made = made or {"data": "d" * 64, "recipe": {"model": name}}
        save_model(staging, model, name=name, hyper=hyper, images=200, **made)
    return directory


def artifacts_of(root, name, version="1"):
    """Where the embedded store keeps the files of a version."""
    found = tracking.server.client(root).get_model_version(name, version)
    return root / "mlflow" / "artifacts" / "models" / found.source.removeprefix("models:/") / "artifacts"


def flip(path, place=-1):
    """Change one bit of one byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def publish(layout, name, *, model="factor", space="dequantized", hyper=None, shape=SHAPE, data="d" * 64, **evaluated):
    """What the stages before `register` leave of a model, and what `dvc pull` brings; returns its recipe.

    `evaluated`: its `metrics`, `scores` with their protocols, verdicts of its `gate`.
    """
    hyper = hyper or {"latents": 3}
    training = Training(images=200, batch=32)
    recipe = Recipe(name=name, model=model, dataset="digits", space=space, hyper=hyper, training=training)
    made = {
        **{"recipe": recipe.as_dict(), "data": data, "code": "c" * 64, "torch": "2.0"},
        **{"steps": 4, "seconds": 1.5, "device": "cpu", "world": 1, "threads": 1},
    }
    store(layout.weights(name), name=model, space=space, shape=shape, made=made, **hyper)
    write_events(layout.model(name), 0, 2, end=True)
    write_json(layout.scores(name) / "metrics.json", evaluated.get("metrics", {}))
    write_json(layout.scores(name) / "card.json", {"scores": evaluated.get("scores", {})})
    write_json(layout.scores(name) / "gate.json", evaluated.get("gate", []))
    (layout.scores(name) / "pictures").mkdir()
    Image.new("L", (8, 8)).save(layout.scores(name) / "pictures" / "samples.png")
    return recipe
