"""The site: a page for every registered model, no number on it that was not recorded, no link that leads nowhere."""

from __future__ import annotations

import html.parser
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from gen.files import read_json
from gen.registry import build, entry, list_models
from gen.store import save_model
from pipelines import params
from pipelines.documentation.anatomy import arguments, capabilities, chapter_doc, family, hyper_parameters
from pipelines.documentation.chapter import body, escape, inline
from pipelines.documentation.pages import quoted, write
from pipelines.documentation.record import LARGEST, MEASURED, META, record, recorded, reduced, restore, small
from pipelines.documentation.studies import record_study, studied
from pipelines.layout import Layout
from pipelines.reporting.entry import Chapter
from tests.commandlines import in_script, understood
from tests.toys import TOY_HYPER, toy_spec

ROOT = Path(__file__).parents[2]
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|mnt)/\w")
RECORDS = sorted((ROOT / MEASURED).rglob("*.json"))
SENTINEL = 41.3737


def png(width: int = 6, height: int = 6) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def a_record(recipe: str, name: str) -> dict[str, Any]:
    """As `--record` writes it."""
    recipes = params.load(ROOT / "params.yaml").recipes
    facts = {
        "recipe": recipes[recipe].as_dict() if recipe in recipes else {"dataset": "digits", "training": {"batch": 7}},
        "spec": {"shape": [1, 28, 28], "num_classes": 10, "space": "binary_dynamic"},
        "data": "d" * 64,
        "images": 987_654,
        "seconds": 61.2,
        "device": "cpu",
        "world": 1,
        "threads": 1,
    }
    protocol = {"n_real": 1000, "split": "test", "seed": 0}
    return {
        "recipe": recipe,
        "model": name,
        "meta": facts,
        "splits": {"train": 3500, "test": 1000},
        "groups": {"model": 12_345},
        "parameters": 12_345,
        "likelihoods": [
            {
                "estimator": "iwae_77",
                "kind": "lower bound",
                "space": "binary_dynamic",
                "nats": SENTINEL,
                "bits_per_dim": 0.0761,
                "error": 0.5,
                "protocol": protocol,
            }
        ],
        "scores": {"fid": {"name": "fid", "value": 5.678, "floor": 0.1, "independent": 99, "protocol": protocol}},
        "gates": [{"score": "nats", "value": -SENTINEL, "at_least": -50, "passed": True}],
        "picture": {"name": "samples", "caption": "Samples, not selected"},
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """params.yaml as it is, and nothing measured."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return root


@pytest.fixture(scope="module")
def bare(project: Path) -> dict[str, str]:
    """The pages of models when nothing was measured."""
    write(project / "docs", project)
    return {path.stem: path.read_text() for path in (project / "docs" / "models").glob("*.md")}


# ---- what is written -------------------------------------------------------------------------------------------------


def test_every_model_has_a_page(bare: dict[str, str]) -> None:
    assert {*list_models(), "_catalogue"} == set(bare)
    for name in list_models():
        page, model = bare[name], entry(name)
        assert page.startswith(f"# {escape(Chapter.parse(chapter_doc(model)).title)}\n")
        assert all(f"| `{each.name}` |" in page for each in hyper_parameters(model))
        assert all(f"**{each.name}.**" in page for each in capabilities(model))
        assert all(f"`{space}`" in page for space in model.cls.spaces)
        assert f"models/{name}.md" in bare["_catalogue"]


def test_the_catalogue_is_in_the_order_of_the_table_of_contents(bare: dict[str, str]) -> None:
    text = f"\n{bare['_catalogue']}"
    places = [text.index(f"models/{name}.md") for name in list_models()]
    assert places == sorted(places)
    for name, place in zip(list_models(), places, strict=True):
        assert text[:place].rpartition("\n## ")[2].startswith(f"{escape(family(entry(name))[0])}\n")


@pytest.mark.parametrize("name", list_models())
def test_every_hyper_parameter_is_described(name: str) -> None:
    assert [each.name for each in hyper_parameters(entry(name)) if not each.text] == []
    unknown = set(arguments(entry(name).cls.__doc__ or "")) - set(entry(name).hyper) - {"spec"}
    assert unknown == set(), "described, but not there"


def test_what_was_not_measured_is_said(bare: dict[str, str]) -> None:
    for name in list_models():
        assert "not yet measured" in bare[name].lower()
        assert "{figure}" not in bare[name]


def test_numbers_come_from_the_record(project: Path, bare: dict[str, str]) -> None:
    recipe, name = next(
        (recipe.name, entry(recipe.model).name) for recipe in params.load(ROOT / "params.yaml").recipes.values()
    )
    folder = project / MEASURED
    folder.mkdir(parents=True)
    record = a_record(recipe, name)
    (folder / f"{recipe}.json").write_text(json.dumps(record))
    (folder / f"{recipe}.png").write_bytes(png())
    write(project / "docs", project)
    page = (project / "docs" / "models" / f"{name}.md").read_text()
    catalogue = (project / "docs" / "models" / "_catalogue.md").read_text()
    for text in (page, catalogue):
        assert "≤ 41.37" in text
        assert "iwae_77" in text
        assert f"measured/{recipe}.png" in text
    for found in ("5.68", "0.100", "99.0", "987,654", "12,345", "1 min 01 s", "3,500 train", "n real 1,000"):
        assert found in page
        assert found not in bare[name]
    assert "earlier form" not in page
    others = {path.stem: path.read_text() for path in (project / "docs" / "models").glob("*.md")}
    assert {key for key, text in others.items() if text != bare[key]} == {name, "_catalogue"}

    record["meta"]["recipe"]["training"]["images"] = 5
    (folder / f"{recipe}.json").write_text(json.dumps(record))
    write(project / "docs", project)
    assert "earlier form" in (project / "docs" / "models" / f"{name}.md").read_text()


def test_pages_of_models_that_are_gone_go(project: Path) -> None:
    stale = project / "docs" / "models" / "of_old.md"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("# Of old")
    kept = write(project / "docs", project)[0]
    before = kept.stat().st_mtime_ns
    write(project / "docs", project)
    assert not stale.exists()
    assert kept.stat().st_mtime_ns == before, "Sphinx would read it again"


def test_a_recipe_is_quoted_as_it_stands() -> None:
    path = ROOT / "params.yaml"
    texts = quoted(path)
    for recipe in params.load(path).recipes:
        assert texts[recipe].startswith("model: ")
        assert all(line in path.read_text() for line in texts[recipe].splitlines())


def test_commands_on_pages_are_commands(bare: dict[str, str]) -> None:
    commands = [line for page in bare.values() for line in in_script(page)]
    assert len(commands) >= len(list_models())
    assert [line for line in commands if not understood(line)] == []


# ---- what is recorded ------------------------------------------------------------------------------------------------


def test_records_are_of_this_project_and_name_no_machine() -> None:
    recipes = params.load(ROOT / "params.yaml").recipes
    for path in RECORDS:
        text = path.read_text()
        assert not MACHINE.search(text), path
        if path.parent == ROOT / MEASURED:
            facts = json.loads(text)
            assert path.stem == facts["recipe"]
            assert facts["recipe"] in recipes, "a recipe that is gone; remove its record"
            assert set(facts["meta"]) <= set(META)
            assert all(np.isfinite(nll.nats) for nll in restore(facts, path.with_suffix(".png")).likelihoods)
            assert path.with_suffix(".png").exists() == bool(facts["picture"])


def test_a_trained_model_is_recorded_without_its_machine(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for folder in (layout.weights("vae-digits"), layout.scores("vae-digits") / "pictures"):
        folder.mkdir(parents=True)
    facts = {**a_record("vae-digits", "vae")["meta"], "cwd": str(tmp_path)}
    facts.pop("spec")
    model = build("vae", toy_spec("vae"), **TOY_HYPER["vae"])
    save_model(layout.weights("vae-digits"), model, name="vae", hyper=TOY_HYPER["vae"], **facts)
    protocol = {"estimator": "elbo", "kind": "lower bound", "space": "binary_dynamic", "standard_error_nats": 0.5}
    scores = {name: {"value": -SENTINEL, "protocol": protocol} for name in ("nats_elbo", "nats", "bits_per_dim_elbo")}
    (layout.scores("vae-digits") / "card.json").write_text(json.dumps({"scores": scores}))
    (layout.scores("vae-digits") / "pictures" / "samples.png").write_bytes(png())
    layout.registered("vae-digits").parent.mkdir()
    layout.registered("vae-digits").write_text(json.dumps({"tracking_uri": str(tmp_path)}))
    path = record(tmp_path, "vae-digits")
    assert str(tmp_path) not in path.read_text()
    found = recorded(tmp_path)["vae-digits"]
    assert (found.model, found.meta["images"], found.likelihoods[-1].nats) == ("vae", 987_654, SENTINEL)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert [picture.name for picture in found.pictures] == ["samples"]


def test_a_study_is_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "demo"
    folder.mkdir(parents=True)
    facts = {"figures": {"b": "B", "a": "A"}, "sentences": ["One.", "Two."], "numbers": {}}
    (folder / "study.json").write_text(json.dumps({**facts, "where": str(tmp_path)}))
    for name in "ab":
        (folder / f"{name}.png").write_bytes(png(400, 400))
    stale = tmp_path / MEASURED / "studies" / "demo-old.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(png())
    assert studied(tmp_path) == ["demo"]
    found = read_json(record_study(tmp_path, "demo"))
    assert [(each["file"], each["caption"], each["width"]) for each in found["figures"]] == [
        ("demo-b.png", "B", 400),
        ("demo-a.png", "A", 400),
    ]
    assert set(found) == {"name", "figures", "sentences", "numbers"}
    assert {path.name for path in stale.parent.glob("*.png")} == {"demo-a.png", "demo-b.png"}
    assert all(path.stat().st_size <= LARGEST for path in stale.parent.glob("*.png"))


def test_recorded_pictures_are_small() -> None:
    large = {path.name: path.stat().st_size for path in (ROOT / MEASURED).rglob("*.png")}
    assert {name: size for name, size in large.items() if size > LARGEST} == {}


def test_a_small_picture_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 5, 1), dtype=np.uint8).repeat(3, axis=2)
    file = io.BytesIO()
    Image.fromarray(pixels.repeat(4, 0).repeat(4, 1)).save(file, "PNG")
    found = np.asarray(Image.open(io.BytesIO(small(file.getvalue(), "x"))))
    assert (found == pixels[:5, :, 0]).all(), "no higher than wide, grey, not enlarged"
    assert reduced(pixels) is pixels


# ---- a docstring as Markdown -----------------------------------------------------------------------------------------

DOC = """Thing: what it is.

It has h* and p*(h), which *are* f_i, see `x_y` and :mod:`gen.nets`, in [0, 1] as in [1], [2] and [3].

Objective, over x:

    min  |a_b|   (eq. 1 of [1])
         <= 2

Nets: two. Algorithm: one step.
NOTE: it is over.

- first
  goes on
- second

[1] A. Author. Title. 2000.
[2] B. Author. Another
    title. 2001.
"""


def test_a_docstring_becomes_markdown() -> None:
    text = body(DOC, anchor="a_thing", marks=["1", "2"])
    paragraphs = text.split("\n\n")
    assert paragraphs[0] == (
        r"It has h\* and p\*(h), which *are* f\_i, see `x_y` and `gen.nets`, in \[0, 1\] as in "
        r"\[[1](#a-thing-ref-1)\], \[[2](#a-thing-ref-2)\] and \[3\]."
    )
    assert paragraphs[1] == "**Objective**, over x:"
    assert "min  |a_b|   (eq. 1 of [1])\n     <= 2" in text, "a formula stays as it is"
    assert [p for p in paragraphs if p.startswith("**")][1:] == [
        "**Nets:** two.",
        "**Algorithm:** one step.",
        "**Note:** it is over.",
    ]
    assert text.endswith("- first goes on\n- second"), "the references stand elsewhere"


def test_markdown_shows_text_as_it_is() -> None:
    from markdown_it import MarkdownIt

    for text in (
        "a_b_ *c* <b> [x](y) `",
        "1. first",
        "- no list",
        "# no head",
        "|W|_2 + _x_ ~y~ ^z^ {role}`x`",
        "a & b",
    ):
        tokens = MarkdownIt("commonmark").parse(escape(text))
        assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
        assert "".join(child.content for child in tokens[1].children or []) == text
    assert inline("the mean\nof `a_b`") == "the mean of `a_b`"


@pytest.mark.parametrize("name", list_models())
def test_all_of_a_chapter_is_on_its_page(name: str) -> None:
    """Every word of the docstring, in order: nothing is lost between two kinds of block."""
    doc = chapter_doc(entry(name))
    text = body(doc, anchor=name, marks=[mark for mark, _ in Chapter.parse(doc).references])
    written = re.split(r"\n\[1\] |\nReferences:", doc.split("\n\n", 1)[1])[0]
    words = re.findall(r"[a-z]{2,}", re.sub(r":\w+:(?=`)", "", written).lower())
    shown = re.findall(r"[a-z]{2,}", re.sub(r"\(#[\w-]+\)|\{code-block\} text\n:class: [\w ]+", "", text).lower())
    assert shown == words


# ---- the site --------------------------------------------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    """What a page leads to and loads, and the places on it."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag in ("img", "script", "source", "iframe") and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and "href" in given:
            self.loaded.append(given["href"])
        if tag == "a" and "href" in given:
            self.targets.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: every warning is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", out / "doctrees"]
    done = subprocess.run(
        [*command, ROOT / "docs", out / "html"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def pages(site: Path) -> Iterator[tuple[Path, Links]]:
    for path in sorted(site.rglob("*.html")):
        links = Links()
        links.feed(path.read_text())
        yield path, links


@pytest.mark.slow
def test_the_site_is_built_and_no_link_leads_nowhere(site: Path) -> None:
    read = dict(pages(site))
    assert {f"models/{name}.html" for name in list_models()} < {str(path.relative_to(site)) for path in read}
    guides = [path.stem for path in (ROOT / "docs").glob("*.md")]
    assert all((site / f"{guide}.html") in read for guide in guides)
    for path, links in read.items():
        if path.name in ("genindex.html", "search.html"):
            continue
        for target in links.targets + links.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert place.exists(), f"{path.relative_to(site)}: {target}"
            if parts.fragment and place.suffix == ".html" and target in links.targets:
                assert parts.fragment in read[place].ids, f"{path.relative_to(site)}: {target}"


@pytest.mark.slow
def test_the_site_fetches_nothing_and_names_no_machine(site: Path) -> None:
    for path, links in pages(site):
        assert [address for address in links.loaded if urlsplit(address).netloc] == [], path
        assert not MACHINE.search(path.read_text()), path
    for path in (site / "_static").rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import\s+[\"'](?:https?:)?//", path.read_text()), path


@pytest.mark.slow
def test_the_site_shows_what_was_recorded(site: Path) -> None:
    for path in (ROOT / MEASURED).glob("*.json"):
        facts = read_json(path)
        page = (site / "models" / f"{facts['model']}.html").read_text()
        assert f"{facts['meta']['images']:,}" in page
        for nll in facts["likelihoods"]:
            assert f"{nll['nats']:,.2f}".replace("-", "−") in page
