"""The report says what is on disk, all of it escaped, and nothing that cannot be true."""

from __future__ import annotations

import html.parser
import inspect
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import nn

import pipelines
from gen import registry
from gen.data.manifest import MANIFEST, Field, Manifest, SplitInfo
from gen.data.sample import Source
from gen.data.spaces import DataSpec, Space
from gen.errors import StoreError
from gen.model import GenerativeModel
from gen.store import save_model
from gen.train.events import EventLog
from pipelines.layout import Layout
from pipelines.report import ImplausibleError, refuse_leaks, write_report
from pipelines.reporting import figures
from pipelines.reporting.entry import Chapter, gather
from pipelines.reporting.sheet import sheet
from pipelines.reporting.studies import gather_studies
from pipelines.reporting.tables import COLUMNS, duration, significant
from pipelines.roles import Cast

NASTY = "<script>alert('x')</script> & \"quotes\" | `code`"
FACTS = {
    "title": f"Report {NASTY}",
    "published": {
        "toy": [
            {
                "number": "86.76",
                "unit": "nats",
                "data": f"MNIST {NASTY}",
                "note": NASTY,
                "source": NASTY,
                "seen": "quoted",
            }
        ]
    },
    "provenance": {"Written by": NASTY},
}


class Toy(GenerativeModel):
    """Two groups of parameters."""

    spaces = ("binary_dynamic", "dequantized", "levels")

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"first": list(self.first.parameters()), "second": list(self.second.parameters())}


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.list_models()
    monkeypatch.setitem(registry._entries, "toy", registry.Entry("toy", "adversarial/toy", Toy))


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 30), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def train(root: Path, name: str = "toy-digits", *, space: str = "binary_dynamic", shape=(1, 28, 28), data="digits"):
    """What the train stage leaves, and no more."""
    weights = Layout(root).weights(name)
    weights.mkdir(parents=True)
    save_model(
        weights,
        Toy(DataSpec(shape, 10, Space.parse(space))),
        name="toy",
        hyper={},
        recipe={"name": name, "dataset": data, "space": space, "training": {"batch": 64}},
        data="d" * 64,
        images=123_456,
        seconds=185.2,
        device="cpu",
        world=2,
        threads=1,
    )


def likelihoods(space: str, **nats: tuple[str, float]) -> dict:
    scores = {}
    for estimator, (kind, value) in nats.items():
        protocol = {
            "n_real": 1000,
            "split": "test",
            "estimator": estimator,
            "kind": kind,
            "standard_error_nats": 0.5,
            "space": space,
        }
        bits = Space.parse(space).bits_per_dim(value, 3072 if "levels" in space else 784)
        for suffix in (f"_{estimator}", ""):
            scores[f"nats{suffix}"] = {"value": value, "protocol": protocol}
            scores[f"bits_per_dim{suffix}"] = {"value": bits, "protocol": protocol}
    return scores


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def everything(root: Path, name: str = "toy-digits") -> None:
    """A model with all that the stages can leave, every text of it nasty."""
    train(root, name)
    layout = Layout(root)
    log = EventLog(layout.model(name) / "events.jsonl")
    for images in range(1000, 50_000, 1000):
        log.metrics("metrics", images, {NASTY: 1e6 / images, "loss": 100.0 + images**-0.5, "lost": float("nan")})
        log.metrics("validation", images, {"loss": 101.0})
    log.close()
    for images in (0, 50, 100, 150, 200, 250, 300, 123_456):
        path = layout.model(name) / "pictures" / "samples" / f"{images:012d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(images))
    for picture in ("samples", "neighbours", "<b>atoms"):
        path = layout.scores(name) / "pictures" / f"{picture}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    protocol = {"n_real": 1000, "extractor": NASTY, "shares": [0.1, 0.9], "space": "binary_dynamic"}
    scores = likelihoods("binary_dynamic", elbo=("lower bound", -104.25), iwae_500=("lower bound", -99.5))
    scores |= {
        f"{key}{suffix}": {"value": value * factor, "protocol": protocol}
        for key, value in {"fid": 12.5, "precision": 0.75, "recall": 0.625, "coverage": 0.5, NASTY: 3.0}.items()
        for suffix, factor in (("", 1.0), ("_floor", 0.125), ("_independent", 8.0))
    }
    scores["images_per_second_64"] = {"value": 5123.4, "protocol": {"batch": 64}}
    scores["kid"] = {"value": float("nan"), "protocol": protocol}
    write(layout.scores(name) / "card.json", {"space": "binary_dynamic", "scores": scores})
    write(
        layout.scores(name) / "gate.json",
        [
            {"score": "fid", "value": 12.5, "at_least": 1.5, "at_most": 20.0, "passed": True},
            {"score": NASTY, "value": None, "at_least": 0.5, "passed": False},
        ],
    )
    write(
        layout.registered(name),
        {"name": name, "version": 1, "run_id": NASTY, "model_uri": f"models:/{NASTY}/1"},
    )
    splits = {split: SplitInfo(n, (), (0.1,), (0.3,), "0", ()) for split, n in (("train", 3500), ("test", 1000))}
    image = Field((28, 28, 1), ("image.npy",))
    source = Source(NASTY, NASTY, NASTY, NASTY)
    manifest = Manifest(source, {"image": image}, tuple("0123456789"), (), splits)
    path = layout.shards("digits") / MANIFEST
    path.parent.mkdir(parents=True)
    path.write_text(manifest.dump())


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and text; complains about tags that are not closed in order."""

    VOID = ("meta", "img", "br", "circle", "line", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader


@pytest.fixture
def full(tmp_path: Path) -> Path:
    everything(tmp_path)
    write_report(tmp_path / "report", [gather(tmp_path, "toy-digits")], FACTS)
    return tmp_path / "report"


# ---- the page ------------------------------------------------------------------------------------------------------


def test_page_fetches_nothing(full: Path) -> None:
    reader = read(full / "report.html")
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
        if "href" in attributes:
            assert (attributes["href"] or "").startswith("#")
    text = (full / "report.html").read_text()
    assert "://" not in text
    assert not re.search(r"@import|url\(", text)


def test_page_escapes_every_value(full: Path) -> None:
    text = (full / "report.html").read_text()
    assert "<script" not in text
    assert "<b>" not in text
    shown = "".join(read(full / "report.html").text)
    assert shown.count("<script>alert('x')</script> & \"quotes\" | `code`") > 10


def test_page_shows_what_is_on_disk(full: Path) -> None:
    reader = read(full / "report.html")
    shown = " ".join(" ".join(reader.text).split())
    for expected in (
        "≤ 99.50 nats",  # the quoted likelihood
        "≤ 104.25 nats",  # and the other one
        "12.5",  # FID
        "first 9 + second 4",  # parameters by group: 2 x 3 + 3 and 3 + 1
        "123,456 in batches of 64",
        "3 min 05 s",
        "cpu, 2 workers, 1 thread",
        "✓ passed",
        "✗ failed",
        "FID: 12.5 (at least 1.50 and at most 20)",
        "not measured",
        "gen sample toy-digits",
        "3,500",
        "MNIST",
    ):
        assert expected in shown, expected
    pictures = [a for tag, a in reader.tags if tag == "img"]
    assert len(pictures) == 1 + 1 + 6 + 2  # gallery, portrait, strip, evaluation
    assert all(a["alt"] is not None and (a["width"], a["height"]) == ("30", "20") for a in pictures)
    assert all(a["aria-label"] for tag, a in reader.tags if tag == "svg" and a.get("role") == "img")


def test_nothing_is_not_a_number(full: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((full / "report.json").read_text(), parse_constant=refuse)
    for name in ("report.html", "report.md"):
        text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (full / name).read_text())
        assert not re.search(r"\b([Nn]a[Nn]|inf|Infinity|None|undefined)\b", text), name


def test_writing_is_reproducible(full: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in full.iterdir()}
    write_report(full, [gather(tmp_path, "toy-digits")], FACTS)
    assert {path.name: path.read_bytes() for path in full.iterdir()} == before


# ---- studies -------------------------------------------------------------------------------------------------------


def studied(root: Path, name: str, *recipes: str) -> Cast:
    """What the study stage leaves, every text of it nasty."""
    directory = Layout(root).study(name)
    models = {recipe: {"dataset": NASTY, "space": "levels(4)", "weights": "0123456789abcdef"} for recipe in recipes}
    found = {
        "text": f"Title {NASTY}: what {NASTY} asks?\n\nAn idea.",
        "sentences": [f"Found 1.5 {NASTY}.", "And 2.5."],
        "figures": {"first": f"First {NASTY}", "second": "Second"},
        "numbers": {"x": 1.5},
        "of": dict.fromkeys("ab", recipes[0]),
        "seed": 3,
        "provenance": {"models": models, "judge": "abcdef12"},
    }
    write(directory / "study.json", found)
    for figure in found["figures"]:
        (directory / f"{figure}.png").write_bytes(png())
    return Cast(study=name, of=dict(zip("abc", recipes, strict=False)), reads=())


def test_studies_whose_recipes_are_reported_are_shown(tmp_path: Path) -> None:
    everything(tmp_path)
    train(tmp_path, "bare")
    casts = {
        "latents": studied(tmp_path, "latents", "toy-digits", "bare"),
        "bounds": studied(tmp_path, "bounds", "other"),
        "chains": Cast(study="chains", of={"rbm": "bare"}, reads=()),  # was not run
    }
    names = ["toy-digits", "bare"]
    assert gather_studies(tmp_path, casts, names[:1]) == []
    studies = gather_studies(tmp_path, casts, names)
    assert [study.name for study in studies] == ["latents"]
    write_report(tmp_path / "report", [gather(tmp_path, name) for name in names], FACTS, studies=studies)
    test_page_fetches_nothing(tmp_path / "report")

    reader = read(tmp_path / "report" / "report.html")
    shown = " ".join(" ".join(reader.text).split())
    for expected in (f"What {NASTY} asks?", "And 2.5.", "0123456789ab", "abcdef12", "gen/studies/latents.py", "seed 3"):
        assert expected in shown, expected
    pictures = [a for tag, a in reader.tags if tag == "img" and (a["alt"] or "").startswith(("First", "Second"))]
    assert [(a["width"], a["height"]) for a in pictures] == [("20", "13")] * 2  # drawn at 144 dots per inch
    ids, links = ({a[key] for _, a in reader.tags if key in a} for key in ("id", "href"))
    assert {"#study-latents", "#toy-digits", "#bare"} <= links <= {f"#{each}" for each in ids}

    told = json.loads((tmp_path / "report" / "report.json").read_text())["studies"]
    assert [(each["study"], each["numbers"], each["question"]) for each in told] == [
        ("latents", {"x": 1.5}, f"what {NASTY} asks?")
    ]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Found 1.5 &lt;script>" in text and "And 2.5." in text
    for figure in told[0]["figures"]:
        assert f"]({figure['file']})" in text
        assert (tmp_path / "report" / figure["file"]).read_bytes() == png()


# ---- what is missing -----------------------------------------------------------------------------------------------


def test_a_bare_model_is_enough(tmp_path: Path) -> None:
    train(tmp_path)
    write_report(tmp_path / "report", [gather(tmp_path, "toy-digits")], {**FACTS, "published": {}})
    reader = read(tmp_path / "report" / "report.html")
    assert not [tag for tag, _ in reader.tags if tag in ("img", "svg")]
    headings = re.findall(r"<h[23][^>]*>([^<]+)", (tmp_path / "report" / "report.html").read_text())
    assert headings == ["Results", "How to read these numbers", __doc__.partition("\n")[0], "Go on"]


PARTS = ["scores/toy-digits/pictures", "models/toy-digits/pictures", "models/toy-digits/events.jsonl"]
PARTS += ["scores/toy-digits/card.json", "scores/toy-digits/gate.json", "registered", "data"]


@pytest.mark.parametrize("part", PARTS)
def test_each_part_may_be_missing(tmp_path: Path, part: str) -> None:
    everything(tmp_path)
    (tmp_path / part).rename(tmp_path / "gone")
    write_report(tmp_path / "report", [gather(tmp_path, "toy-digits")], FACTS)
    read(tmp_path / "report" / "report.html")


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    weights = Layout(tmp_path).weights("toy-digits") / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(StoreError, match="sha256"):
        gather(tmp_path, "toy-digits")
    with pytest.raises(StoreError, match="no such file"):
        gather(tmp_path, "never-trained")


# ---- likelihoods that cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "shape", "data", "nats", "refused"),
    [
        ("binary_dynamic", (1, 28, 28), "digits", -74.9, True),
        ("binary_dynamic", (1, 28, 28), "my-MNIST", -60.0, True),
        ("binary_dynamic", (1, 28, 28), "digits", -75.1, False),
        ("binary_dynamic", (1, 8, 8), "digits", -17.0, False),  # smaller images have fewer nats
        ("binary_dynamic", (1, 28, 28), "shapes", -20.0, False),
        ("dequantized", (1, 28, 28), "digits", 1800.0, False),  # a density
        ("levels(256)", (3, 32, 32), "cifar10", -2.59 * 3072 * np.log(2), True),
        ("levels(256)", (3, 32, 32), "cifar10", -2.61 * 3072 * np.log(2), False),
        ("levels(16)", (3, 32, 32), "cifar10", -1.5 * 3072 * np.log(2), False),  # fewer levels, fewer bits
    ],
)
def test_leaks_are_refused(tmp_path: Path, space: str, shape, data: str, nats: float, refused: bool) -> None:
    train(tmp_path, space=space, shape=shape, data=data)
    # The suspicious estimator is not the quoted one: all of them are looked at.
    scores = likelihoods(space, elbo=("lower bound", nats), other=("estimate", -1e5))
    write(tmp_path / "scores" / "toy-digits" / "card.json", {"scores": scores})
    entry = gather(tmp_path, "toy-digits")
    if refused:
        with pytest.raises(ImplausibleError, match=r"elbo.*leak"):
            write_report(tmp_path / "report", [entry], FACTS)
        assert not (tmp_path / "report").exists()
    else:
        refuse_leaks(entry)


# ---- tables --------------------------------------------------------------------------------------------------------


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_says_what_the_json_says(tmp_path: Path) -> None:
    everything(tmp_path)
    train(tmp_path, "bare", space="dequantized")
    entries = [gather(tmp_path, name) for name in ("toy-digits", "bare")]
    write_report(tmp_path / "report", entries, FACTS)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    lines = [line for line in (tmp_path / "report" / "report.md").read_text().splitlines() if line.startswith("|")]
    assert len({len(cells(line)) for line in lines}) == 1
    heads, body = cells(lines[0]), [cells(line) for line in lines[2:]]
    assert len(body) == len(report["models"]) + len(report["references"])
    at = {head: i for i, head in enumerate(heads)}
    row, first = report["models"][0], body[0]
    quoted = row["likelihoods"][-1]
    assert first[at["NLL (nats)"]] == f"≤ {quoted['nats']:.2f}" == "≤ 99.50"
    assert float(first[at["NLL (bits/dim)"]]) == pytest.approx(quoted["bits_per_dim"], abs=5e-4)
    assert quoted["bits_per_dim"] == pytest.approx(99.5 / 784 / np.log(2))
    assert first[at["Estimator"]] == quoted["estimator"] == "iwae_500"
    for head, name in (("FID", "fid"), ("Precision", "precision"), ("Recall", "recall"), ("Coverage", "coverage")):
        assert float(first[at[head]]) == pytest.approx(row["scores"][name]["value"], abs=0.0051)
    assert int(first[at["Parameters"]].replace(",", "")) == row["parameters"] == 13
    assert int(first[at["Images seen"]].replace(",", "")) == row["images"] == 123_456
    assert "86.76 nats" in first[at["Published (on other data)"]]
    floor, independent = body[2], body[3]
    assert (floor[at["FID"]], independent[at["FID"]]) == ("1.56", "100")
    assert body[1][at["NLL (nats)"]] == body[1][at["FID"]] == ""
    assert len(heads) == len(COLUMNS)


def test_sheet_shows_the_samples_of_every_model_that_draws(full: Path, tmp_path: Path) -> None:
    train(tmp_path, "bare")
    entries = [gather(tmp_path, name) for name in ("toy-digits", "bare", "toy-digits")]
    assert sheet(entries[1:2]) is None
    one, two = (Image.open(io.BytesIO(sheet(chosen) or b"")) for chosen in (entries[:2], entries))
    assert one.height == two.height
    assert two.width - one.width == one.width - 20 > 300
    assert Image.open(full / "samples.png").tobytes() == one.tobytes()


def test_numbers_in_words() -> None:
    assert [duration(s) for s in (0.4, 59.6, 185.2, 7790)] == ["0 s", "1 min 00 s", "3 min 05 s", "2 h 09 min"]
    values = (0, 0.01234, -0.5, 1.0, 67.14, 1234.5, 5_000_000.0)
    assert [significant(v) for v in values] == ["0", "0.0123", "−0.500", "1.00", "67.1", "1,234", "5,000,000"]


# ---- chapters and charts -------------------------------------------------------------------------------------------


def test_chapter_is_read_up_to_the_first_formula() -> None:
    prose = "It explains an image by a few causes, and says so at some length, with `code` in it. " * 3
    doc = (
        f"VAE: a model with latent causes\n\n{prose}\n\n    L(x) = E log p(x|z)\n      - KL\n\nNets: two of them.\n\n"
        "[1] A. Author. Title that\n    goes on. 2014.\n[2] B. Other. Two. 2015."
    )
    chapter = Chapter.parse(doc)
    assert (chapter.title, chapter.summary) == ("VAE", "a model with latent causes")
    assert list(chapter.idea) == [prose.strip(), "    L(x) = E log p(x|z)\n      - KL"]
    assert list(chapter.references) == [("1", "A. Author. Title that goes on. 2014."), ("2", "B. Other. Two. 2015.")]
    assert Chapter.parse("Short").idea == []


def test_every_registered_chapter_can_be_shown() -> None:
    for name in registry.list_models():
        if name != "toy":
            chapter = Chapter.parse(inspect.getdoc(inspect.getmodule(registry.entry(name).cls)) or "")
            assert chapter.title, name
            assert chapter.idea, name


def test_curve_ends_where_its_data_end() -> None:
    drawn = str(figures.curve("loss", {"training": [(0, 900.0), (500, 2.0), (1000, 1.0)]}))
    path = re.search(r'class="line first" d="([^"]+)"', drawn)
    assert path is not None
    x, y = map(float, path[1].rpartition("L")[2].split())
    assert x == pytest.approx(figures.WIDTH - figures.RIGHT)
    # [1, 2] fills the axis but for its padding, whatever the start: the smallest value lies at the bottom.
    span = figures.HEIGHT - figures.TOP - figures.BOTTOM
    assert y == pytest.approx(figures.TOP + span * (1 - 0.06 / 1.12), abs=0.1)
    assert "↑ from 900" in drawn


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [0.0, 0.0], [-1e-9, 1e9], [1e-12, 2e-12]])
def test_curve_of_any_values_has_finite_coordinates(values: list[float]) -> None:
    drawn = str(figures.curve("loss", {"training": [(i, value) for i, value in enumerate(values)]}))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_long_curves_are_thinned_but_keep_their_mean_and_end() -> None:
    points = [(float(i), float(i % 7)) for i in range(10_001)]
    thinned = figures.thin(points)
    assert len(thinned) <= figures.POINTS
    assert thinned[-1] == points[-1]
    assert np.mean([y for _, y in thinned]) == pytest.approx(3.0, abs=0.1)


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (0.13, 0.17), (-3, 900_000), (98.2, 541.7)):
        found = figures.ticks(low, high)
        assert 2 <= len(found) <= 9
        assert all(low - 1e-9 <= t <= high + 1e-9 for t in found)
        assert np.diff(found) == pytest.approx(np.diff(found)[0])
    assert figures.log_ticks(0.9, 120) == [1, 2, 5, 10, 20, 50, 100]


# ---- published numbers ---------------------------------------------------------------------------------------------


def test_published_numbers_are_complete() -> None:
    published = yaml.safe_load((Path(pipelines.__file__).parent / "published.yaml").read_text())
    for model, lines in published.items():
        assert re.fullmatch(r"[a-z0-9_]+", model)
        for line in lines:
            assert set(line) == {"number", "unit", "data", "note", "source", "seen"}, model
            assert isinstance(line["number"], str)
            assert float(line["number"]) > 0
            assert line["seen"] in ("original", "quoted")
