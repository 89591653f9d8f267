"""Every study, run by its stage on toy models: two sentences with numbers, figures, and the same bytes again."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from gen.data.reader import everything
from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError, StoreError
from gen.evaluate.judge import save_judge, train_judge
from gen.evaluate.seeds import fixed_seed
from gen.registry import build
from gen.shards.write import write_shards
from gen.sources.mixture import mixture
from gen.sources.placed_digits import placed_digits
from gen.store import save_model
from gen.studies.canvas import percent, rows
from gen.studies.study import Trained, entry, lacking, list_studies, spread
from pipelines import cli
from pipelines.layout import Layout
from pipelines.params import load
from pipelines.roles import PLACES
from pipelines.study import study

SMALL = {"features": 4, "layers": 2, "kernel": 3, "head": 6}  # a PixelCNN
MODELS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "ae": ("autoencoders/autoencoder", "digits", "dequantized", {"latents": 3, "hidden": (16,)}),
    "by_location": (
        "autoregressive/conditional_pixelcnn",
        "placed",
        "binary_dynamic",
        {"where": "by_location", **SMALL},
    ),
    "dae": ("autoencoders/denoising", "digits", "binary_dynamic", {"latents": 8, "hidden": (16,)}),
    "everywhere": ("autoregressive/conditional_pixelcnn", "placed", "binary_dynamic", SMALL),
    "flow": ("variational/flow_vae", "digits", "binary_dynamic", {"latents": 3, "hidden": (16,), "width": 8}),
    "ladder": ("variational/ladder_vae", "digits", "binary_dynamic", {"latents": (4, 2), "hidden": (16,), "width": 8}),
    "pixels": ("autoregressive/pixelcnn", "digits", "binary_dynamic", {"features": 4, "blocks": 1, "head": 4}),
    "levels": ("autoregressive/pixelcnn", "digits", "levels(5)", {"features": 4, "blocks": 1, "head": 4}),
    "bumps": (
        "autoregressive/pixelcnn",
        "digits",
        "levels(5)",
        {"features": 4, "blocks": 1, "head": 4, "likelihood": "logistic_mixture", "components": 2},
    ),
    "plane": ("variational/vae", "digits", "binary_dynamic", {"latents": 2, "hidden": (16,)}),
    "rbm": ("boltzmann/rbm", "digits", "binary_dynamic", {"hidden": 12, "chains": 6, "burn_in": 5}),
    "ring": ("autoencoders/denoising", "ring", "dequantized", {"latents": 8, "hidden": (16,), "amount": 0.1}),
    "scales": (
        "autoregressive/multiscale_pixelrnn",
        "digits",
        "binary_dynamic",
        {**SMALL, "small_layers": 2, "maps": 3},
    ),
    "strokes": ("linear/sparse_coding", "digits", "signed", {"patch": 6, "atoms": 20}),
    "told": ("autoregressive/conditional_pixelcnn", "digits", "binary_dynamic", SMALL),
    "untold": ("autoregressive/gated_pixelcnn", "digits", "binary_dynamic", SMALL),
    "vae": ("variational/vae", "digits", "binary_dynamic", {"latents": 3, "hidden": (16,)}),
}
DIGITS = "data/shards/digits"
STUDIES: dict[str, dict[str, Any]] = {
    "sparse": {
        "of": {"digits": "strokes", "photos": "strokes"},
        "reads": ["models/strokes/weights", DIGITS, DIGITS, DIGITS],
        "options": {"images": 10, "atoms": 20},
    },
    "denoising": {
        "of": {"mixture": "ring", "digits": "dae"},
        "reads": ["models/ring/weights", "models/dae/weights", "data/shards/ring", DIGITS],
        "options": {"side": 7},
    },
    "chains": {
        "of": {"rbm": "rbm"},
        "reads": ["models/rbm/weights", DIGITS, DIGITS, DIGITS],
        "options": {"particles": 6, "filters": 12},
    },
    "latents": {
        "of": {"plane": "plane", "vae": "vae"},
        "reads": ["models/plane/weights", "models/vae/weights", DIGITS, DIGITS],
        "options": {"side": 3, "pairs": 2, "steps": 3},
    },
    "generators": {
        "of": {"autoencoder": "ae", "vae": "vae"},
        "reads": ["models/ae/weights", "models/vae/weights", DIGITS, "data/judge/digits"],
    },
    "bounds": {
        "of": {"vae": "plane"},
        "reads": ["models/plane/weights", DIGITS, DIGITS, DIGITS],
        "options": {"images": 4, "side": 40, "draws": 20, "shown": 2},
    },
    "posteriors": {
        "of": {"vae": "vae", "flow": "flow", "ladder": "ladder"},
        "reads": ["models/vae/weights", "models/flow/weights", "models/ladder/weights", DIGITS],
        "options": {"images": 10, "draws": 20},
    },
    "completions": {
        "of": {"model": "pixels"},
        "reads": ["models/pixels/weights", DIGITS, DIGITS, "data/judge/digits"],
        "options": {"images": 6, "draws": 5, "shown": 3},
    },
    "coherence": {
        "of": {"single": "untold", "multi": "scales"},
        "reads": ["models/untold/weights", "models/scales/weights", DIGITS, DIGITS],
        "options": {"samples": 20, "shown": 3},
    },
    "heads": {
        "of": {"softmax": "levels", "mixture": "bumps", "single": "bumps"},
        "reads": ["models/levels/weights", "models/bumps/weights", DIGITS, DIGITS],
        "options": {"images": 6, "shown": 3},
    },
    "recurrences": {
        "of": dict.fromkeys(("plain", "spatial", "pixelcnn", "gated", "row", "diagonal"), "pixels"),
        "reads": ["models/pixels/weights", DIGITS, DIGITS, DIGITS],
        "options": {"images": 4, "samples": 1},
    },
    "conditions": {
        "of": {"told": "told", "untold": "untold"},
        "reads": ["models/told/weights", "models/untold/weights", DIGITS, "data/judge/digits"],
        "options": {"samples": 3, "shown": 3},
    },
    "places": {
        "of": {"everywhere": "everywhere", "by_location": "by_location"},
        "reads": [
            "models/everywhere/weights",
            "models/by_location/weights",
            "data/shards/placed",
            "data/shards/placed",
        ],
        "options": {"samples": 2, "shown": 2},
    },
}


def filled(reads: list[str]) -> list[str]:
    """The last path in all places that are left."""
    paths = list(dict.fromkeys(reads))
    return [*paths, *paths[-1:] * (PLACES - len(paths))]


@pytest.fixture(scope="module")
def project(toy_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Toy models, hardly initialised, their data and a judge; nothing was trained."""
    layout = Layout(tmp_path_factory.mktemp("studies"))
    layout.shards("digits").parent.mkdir(parents=True)
    layout.shards("digits").symlink_to(toy_shards)
    write_shards(mixture(shape="ring", train=80, validation=8, test=40), layout.shards("ring"))
    write_shards(placed_digits(size=18, train=80, validation=8, test=8), layout.shards("placed"))
    recipes = {}
    for name, (model, dataset, space, hyper) in MODELS.items():
        images, labels = everything(layout.shards(dataset), "train")
        spec = DataSpec(tuple(images.shape[1:]), int(labels.max()) + 1, Space.parse(space))
        with fixed_seed(0):
            made = build(model, spec, **hyper)
            made.initialize(spec.space.encode(images[:100]))
        training = {"images": 1000, "batch": 10}
        recipe = {"model": model, "dataset": dataset, "space": space, "training": training}
        layout.weights(name).mkdir(parents=True)
        save_model(
            layout.weights(name), made, name=model, hyper=hyper, recipe={"name": name, **recipe}, data="d", images=1000
        )
        recipes[name] = {**recipe, "hyper": {k: list(v) if isinstance(v, tuple) else v for k, v in hyper.items()}}
    params = {
        "datasets": {
            "digits": {"source": "digits"},
            "ring": {"source": "mixture", "options": {"shape": "ring"}},
            "placed": {"source": "placed_digits"},
        },
        "recipes": recipes,
        "studies": {name: {**cast, "reads": filled(cast["reads"])} for name, cast in STUDIES.items()},
    }
    with (layout.root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    splits = {split: everything(layout.shards("digits"), split) for split in ("train", "validation")}
    judge = train_judge(*splits["train"], splits["validation"], images_budget=640)
    save_judge(layout.judge("digits"), judge)
    return layout


def test_every_study_is_tested() -> None:
    assert set(list_studies()) == set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_leaves_what_the_report_shows(project: Layout, name: str) -> None:
    study(name, project)
    directory = project.study(name)
    found = json.loads((directory / "study.json").read_text(), parse_constant=lambda _: pytest.fail("not a number"))
    assert len(found["sentences"]) == 2
    for sentence in found["sentences"]:
        assert re.fullmatch(r"[^\s-][^\n]*\d[^\n]*\.", sentence), sentence
        assert not re.search(r"\bnan\b|\binf\b|(?<!\w)-\d", sentence), sentence
        assert sentence.count(". ") == 0, "one sentence"
    assert {path.stem for path in directory.glob("*.png")} == set(found["figures"])
    for figure, caption in found["figures"].items():
        image = Image.open(directory / f"{figure}.png")
        assert 100 < image.width < 1000 and 60 < image.height < 1500, (figure, image.size)
        assert caption[0].isupper() and not caption.endswith("."), caption
    assert found["numbers"]
    assert set(found["provenance"]["models"]) == set(STUDIES[name]["of"].values())
    again = {path.name: path.read_bytes() for path in directory.iterdir()}
    study(name, project)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == again


def test_what_is_not_trained_is_named_with_the_command_that_trains_it(project: Layout) -> None:
    weights, away = project.weights("flow"), project.model("flow") / "away"
    weights.rename(away)
    try:
        with pytest.raises(StoreError, match=r"flow is not trained\. Run `gen train flow`, or `dvc repro study@post"):
            study("posteriors", project)
        assert not list((project.root / "studies").glob(".*"))
    finally:
        away.rename(weights)
    with pytest.raises(RecipeError, match=r"studies: there is no entry for 'latent'.*Did you mean 'latents'"):
        study("latent", project)


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("latents", {"plane": "vae", "vae": "vae"}, "vae has 3 latents and cannot play 'plane'"),
        ("bounds", {"vae": "vae"}, "vae has 3 latents; 'vae' is for 2"),
        (
            "heads",
            {"softmax": "levels", "mixture": "pixels", "single": "bumps"},
            r"pixels has images \(1, 12, 12\) in binary_dynamic, and levels \(1, 12, 12\) in levels\(5\); heads are",
        ),
        ("denoising", {"mixture": "dae", "digits": "dae"}, r"dae has images of 144 values; 'mixture' is for labelled"),
        (
            "places",
            {"everywhere": "told", "by_location": "told"},
            r"told are 12 x 12 with 10 classes; allowed are 3 x 3",
        ),
    ],
)
def test_a_model_that_does_not_fit_its_role_is_refused(
    project: Layout, name: str, of: dict[str, str], message: str
) -> None:
    from functools import partial

    from gen.store import load_model

    roles = {}
    for role, recipe in of.items():
        model = load_model(project.weights(recipe)).model
        roles[role] = Trained(recipe, model, model.spec, partial(everything, project.shards("digits")))
    with pytest.raises(RecipeError, match=message):
        entry(name).function(**roles, seed=0)


def test_the_command_lists_and_runs_studies(project: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--root", str(project.root), "study"]) == 0
    shown = capsys.readouterr().out
    assert "Latents: what lies between the codes of two images?" in shown
    assert cli.main(["--root", str(project.root), "study", "posteriors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["of"] == STUDIES["posteriors"]["of"]
    assert cli.main(["--root", str(project.root), "study", "nothing"]) == 2


# ---- what studies are made of --------------------------------------------------------------------------------------


def test_capabilities_are_asked_of_classes_and_of_models(project: Layout) -> None:
    roles = load(project.root / "params.yaml").studies["chains"].entry.roles
    rbm = build("rbm", DataSpec((1, 4, 4), 0, Space.parse("binary_fixed")), hidden=3)
    assert lacking(rbm, roles["rbm"]) == []
    assert lacking(type(rbm), roles["rbm"]) == [], "what only instances have is not asked of classes"
    vae = build("vae", rbm.spec)
    assert lacking(vae, roles["rbm"]) == ["rbm", "pictures"]
    assert lacking(type(vae), roles["rbm"]) == ["pictures"]


@pytest.mark.parametrize(("total", "count"), [(10, 3), (3, 10), (7, 7), (1000, 400)])
def test_spread_rows_are_different_and_reach_over_all(total: int, count: int) -> None:
    found = spread(total, count)
    assert len(found.unique()) == min(total, count)
    assert found.min() >= 0 and total - math.ceil(total / min(total, count)) <= found.max() < total


def test_rows_show_every_pixel_as_it_is() -> None:
    images = torch.randint(0, 256, (5, 1, 6, 4), dtype=torch.uint8)
    sheet = Image.open(io.BytesIO(rows([[("", images[:3])], [("", images[3:])]], scale=3))).convert("L")
    # A row of three over one of two: 6 pixels of paper around cells of 18 x 12, and 18 more between the groups.
    assert sheet.size == (6 + 3 * 18, 6 + 2 * 24 + 18)
    pixels = torch.tensor(list(sheet.getdata()), dtype=torch.uint8).view(sheet.height, sheet.width)
    for k, (top, left) in enumerate([(6, 6), (6, 24), (6, 42), (48, 6), (48, 24)]):
        cell = pixels[top : top + 18, left : left + 12]
        assert torch.equal(cell[1::3, 1::3], images[k, 0]), k


def test_percent() -> None:
    assert (percent(0.123), percent(0.1234, 1)) == ("12\u00a0%", "12.3\u00a0%")
