"""Videos through all stages; and the recipes of videos: pixels that see each other are worth their price."""

from __future__ import annotations

import re

import pytest
import torch

from gen.data.sample import Collection
from gen.files import read_json
from gen.store import load_model
from tests.project import Project, as_json, make_project
from tests.workshop import Workshop

pytestmark = pytest.mark.slow
TRAINING = {"images": 64, "batch": 8, "report": 32, "validate": 64, "pictures": 64, "checkpoint": 64}
VIDEOS = {
    "model": "autoregressive/video_pixel_network",
    "dataset": "moving",
    "space": "binary_dynamic",
    "hyper": {"context": 2, "features": 2, "encoder": 1, "states": 3, "decoder": 1},
    "training": TRAINING,
}
OPTIONS = {"size": 32, "frames": 4, "digits": 1, "bounce": "stochastic", "train": 40, "validation": 10, "test": 10}


@pytest.fixture(scope="module")
def project(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    recipes = {
        "vpn": VIDEOS,
        "pixelcnn-of-videos": {**VIDEOS, "model": "autoregressive/pixelcnn", "hyper": {}},
        "vpn-of-images": {**VIDEOS, "dataset": "digits"},
    }
    project = make_project(tmp_path_factory.mktemp("videos") / "project", digits_data)
    project.set_params(
        datasets={
            "digits": {"source": "digits"},
            "moving": {
                "source": "moving_digits",
                "options": {**OPTIONS, "slowest": 1.0, "fastest": 3.0},
                "prepare": {"resize": [8, 8]},
            },
        },
        judge={"images": 640},
        recipes=recipes,
        evaluation={"samples": 20},
        gates={"vpn": {"nats": {"at_least": -1000.0}}},
        promotion={"vpn": {"no_regression": {"nats": {"margin": 1.0}}, "images": 4}},
        resources={"default": {"workers": 0}},
        tour=["vpn"],
    )
    return project


def stage(project: Project, name: str, *words: str, expect: int = 0) -> str:
    return project.run("python", "-m", f"pipelines.{name}", *words, expect=expect)


def test_every_stage_takes_videos(project: Project) -> None:
    for name in ("pull", "shard", "judge"):
        stage(project, name, "moving")
    for name in ("train", "evaluate", "register"):
        stage(project, name, "vpn")
    stage(project, "report", "--tour", "--out", "report/tour")
    stored = load_model(project.root / "models/vpn/weights")
    assert (stored.model.spec.shape, stored.model.spec.frames) == ((1, 8, 8), 4)
    assert list((project.root / "models/vpn/pictures/predictions").glob("*.png"))
    assert (project.root / "scores/vpn/pictures/predictions.png").is_file()
    score = read_json(project.root / "scores/vpn/card.json")["scores"]["nats"]
    assert score["protocol"].items() >= {"kind": "exact", "frames_given": 2, "frames_predicted": 2}.items()
    assert read_json(project.root / "registered/vpn.json")["name"] == "vpn"
    assert "Test videos" in (project.root / "report/tour/report.html").read_text()


def test_videos_are_promoted_by_the_nats_of_their_frames(project: Project) -> None:
    for name in ("pull", "shard", "judge"):
        stage(project, name, "moving")
    for images in (64, 256):
        recipes = {**project.params()["recipes"], "vpn": {**VIDEOS, "training": {**TRAINING, "images": images}}}
        project.set_params(**{**project.params(), "recipes": recipes})
        for name in ("train", "evaluate", "register"):
            stage(project, name, "vpn")
        verdicts = as_json(project.gen("promote", "vpn", "--json"))["verdicts"]
    rows = {row["check"]: row for row in verdicts}
    assert rows["smoke sample"]["found"] == "4 x 2x1x8x8 uint8"
    gain, low, high = (float(x) for x in re.findall(r"[-+]?[\d.]+", rows["no regression: nats"]["found"]))
    assert 0 < low < gain < high, "trained for longer, and surely better"


def test_models_of_images_and_of_videos_refuse_each_others_data(project: Project) -> None:
    for name in ("pull", "shard"):
        stage(project, name, "moving")
    refused = stage(project, "train", "pixelcnn-of-videos", expect=3)
    assert "moving: holds videos of shape (1, 4, 8, 8), where images (C, H, W) are needed." in refused
    refused = stage(project, "train", "vpn-of-images", expect=3)
    assert "holds images of shape (1, 28, 28), where videos (C, T, H, W) are needed." in refused


def test_pixels_that_see_each_other_beat_independent_ones(trained: Workshop) -> None:
    """Moving digits that bounce at random: at least 5 % fewer nats per frame, and far fewer than without a past."""
    vpn, baseline = (trained(name).scores for name in ("vpn-moving", "vpn-baseline-moving"))
    assert -vpn["nats"] <= 0.95 * -baseline["nats"]
    assert -baseline["nats"] <= 0.9 * -baseline["independent_nats"]


@torch.no_grad()
def test_the_network_counts_on_the_past(trained: Workshop) -> None:
    """The frames given in reverse order are worth less than in their own: it has learnt how things move."""
    found = trained("vpn-moving")
    x, model = found.images("test"), found.model
    given = model.given()
    reversed_past = torch.cat([x[:, :, :given].flip(2), x[:, :, given:]], 2)
    own, other = (model.frame_log_probs(each)[:, 0].mean() for each in (x, reversed_past))
    assert own - other > 1.0
