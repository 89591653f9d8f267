"""Adopting: the values are in params.yaml and every other byte is as it was; or nothing was written, and why."""

from __future__ import annotations

import copy
import difflib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gen.errors import RecipeError
from pipelines import params
from pipelines.layout import Layout
from pipelines.sweeping.adopt import adopt, adopt_best
from pipelines.sweeping.best import Best, read_best, write_best
from pipelines.sweeping.ledger import identity
from pipelines.sweeping.surgery import put
from pipelines.sweeping.trial import Trial

ROOT = Path(__file__).parents[2]
NAME = "dcgan-digits"
HEAD = """\
# Everything a run depends on.
datasets: {digits: {source: digits}}   # real ones

recipes:
  # before the recipe
  dcgan-digits:
    model: 'adversarial/dcgan'  # the chapter
    dataset: digits
    space: "signed"
"""
TAIL = """
  vae-digits:
    model: variational/vae
    dataset: digits
    space: binary_dynamic
    training: { images: 1_000, batch: 32 }
tour: [dcgan-digits]   # the end
"""


def read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode())
    return path


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that went, and lines that came."""
    lines = list(difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True)))
    return [line[2:] for line in lines if line[0] == "-"], [line[2:] for line in lines if line[0] == "+"]


# ---- one style after the other -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "values", "went", "came"),
    [
        (  # a value in braces keeps its neighbours
            "    training: { images: 50_000, batch: 32, ema: 1_000 } # why\n",
            {"training.batch": 64},
            ["    training: { images: 50_000, batch: 32, ema: 1_000 } # why\n"],
            ["    training: { images: 50_000, batch: 64, ema: 1_000 } # why\n"],
        ),
        (  # a new key in braces, with the file's way to write numbers
            "    training: { images: 50_000 } # why\n",
            {"training.ema": 5000, "training.augment": ["flip", "shift(2)"], "training.precision": "bf16"},
            ["    training: { images: 50_000 } # why\n"],
            ["    training: { images: 50_000, ema: 5_000, augment: [flip, shift(2)], precision: bf16 } # why\n"],
        ),
        (  # sections that are missing come before training, and before its comment
            "    # the budget\n    training: { images: 50_000 }\n",
            {"optim.generator.lr": 7.34e-4, "hyper.latents": 32, "optim.discriminator.betas": [0.5, 0.9]},
            [],
            [
                "    hyper: { latents: 32 }\n",
                "    optim: { generator: { lr: 7.34e-4 }, discriminator: { betas: [0.5, 0.9] } }\n",
            ],
        ),
        (  # lines of their own
            "    hyper:\n      width: 8   # small\n"
            "    training:\n      images: 50_000\n      batch: 32\n\n      # last\n",
            {"hyper.width": 16, "hyper.latents": 100, "training.ema": None, "training.channels_last": True},
            ["      width: 8   # small\n"],
            ["      width: 16   # small\n", "      latents: 100\n", "      ema: null\n", "      channels_last: true\n"],
        ),
        (  # sections with nothing in them
            "    hyper:   # none\n    optim: {}\n    training: { images: 50_000 }\n",
            {"hyper.latents": 8, "optim.generator.lr": 0.01},
            ["    hyper:   # none\n", "    optim: {}\n"],
            ["    hyper: { latents: 8 }   # none\n", "    optim: { generator: { lr: 0.01 } }\n"],
        ),
        (  # a null, a list in lines, braces over several lines
            "    optim:\n      generator:\n        betas:\n          - 0.5\n          - 0.999\n"
            "    training:\n      { images: 50_000, # the budget\n        ema: null, # none yet\n        batch: 32 }\n",
            {"optim.generator.betas": [0.0, 0.9], "training.ema": 500, "training.seed": 3},
            ["          - 0.5\n", "          - 0.999\n", "        ema: null, # none yet\n", "        batch: 32 }\n"],
            ["          [0.0, 0.9]\n", "        ema: 500, # none yet\n", "        batch: 32, seed: 3 }\n"],
        ),
        (  # quotes stay what they were; what is equal already stays as it is written
            "    optim: { generator: { lr: 1e-3, decay: 'linear' } }\n    training: { images: 50_000, batch: 3_2 }\n",
            {"optim.generator.decay": "cosine", "optim.generator.lr": 0.001, "training.batch": 32},
            ["    optim: { generator: { lr: 1e-3, decay: 'linear' } }\n"],
            ["    optim: { generator: { lr: 1e-3, decay: 'cosine' } }\n"],
        ),
        (  # a group beside another, each in lines
            "    optim:\n      generator:\n        lr: 1e-3   # fast\n    training: { images: 50_000 }\n",
            {"optim.generator.clip": 1.0, "optim.discriminator.lr": 1e-4},
            [],
            ["        clip: 1.0\n", "      discriminator: { lr: 1e-4 }\n"],
        ),
    ],
)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_the_rest_of_the_file_stays_as_it_is(
    tmp_path: Path, body: str, values: dict[str, Any], went: list[str], came: list[str], line_break: str
) -> None:
    text = (HEAD + body + TAIL).replace("\n", line_break)
    path = file(tmp_path, text)
    diff = adopt(NAME, values, path)
    after = path.read_bytes().decode()
    found_went, found_came = changed_lines(text, after)
    assert found_went == [line.replace("\n", line_break) for line in went]
    assert found_came == [line.replace("\n", line_break) for line in came]
    recipe = params.load(path).recipe(NAME)
    for key, value in values.items():
        section, *rest = key.split(".")
        found = getattr(recipe, section)
        for part in rest:
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert (list(found) if isinstance(found, tuple) else found) == value
    assert [line[1:] for line in diff.splitlines() if re.match(r"\+(?!\+\+ )", line)] == [x.rstrip("\n") for x in came]
    assert adopt(NAME, values, path) == "", "a second time there is nothing to do"
    assert path.read_bytes().decode() == after


def test_a_file_without_a_line_break_at_its_end(tmp_path: Path) -> None:
    text = HEAD + "    training:\n      images: 50_000\n      batch: 32"
    path = file(tmp_path, text)
    adopt(NAME, {"training.seed": 1, "training.ema": 20}, path)
    assert path.read_text() == f"{text}\n      seed: 1\n      ema: 20"


def test_every_recipe_of_this_project_can_take_its_sweep(tmp_path: Path) -> None:
    before = (ROOT / "params.yaml").read_text()
    path = file(tmp_path, before)
    for name, sweep in params.load(path).sweeps.items():
        for u in (0.1, 0.9):
            adopt(name, {d.key: d.draw(u) for d in sweep.dimensions}, path)
    went, came = changed_lines(before, path.read_text())
    assert len(went) <= len(came) <= 12
    assert all("#" not in line for line in went)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path = file(tmp_path, HEAD + "    training: { images: 50_000 }\n")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "params.yaml"
    link.symlink_to(path)
    adopt(NAME, {"training.batch": 16}, link)
    assert link.is_symlink()
    assert "batch: 16" in path.read_text()


# ---- any style ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "lr", "hyper"])
WORDS = st.sampled_from(
    ["cosine", "it's", "yes", "null", "1e-3", "a: b", "x # y", "-", "", "blocks(4)", "é", '"', "[1]"]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**7), 10**7),
    st.floats(allow_nan=False, allow_infinity=False),
    WORDS,
    st.lists(st.one_of(st.integers(0, 9), WORDS), max_size=3),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)
SECTIONS = st.dictionaries(NAMES, TREES, min_size=1, max_size=4)
WANTED = st.dictionaries(NAMES, st.one_of(LEAVES, st.dictionaries(NAMES, LEAVES, min_size=1, max_size=3)), max_size=3)


@st.composite
def written(draw: Any, value: Any, indent: int) -> str:
    """A value as some person might write it, after `key:`."""
    import json

    comment = draw(st.sampled_from(["", "  # why", " # {a: 1}"]))
    if not isinstance(value, dict) or not value or draw(st.booleans()):
        space = draw(st.sampled_from(["", " "])) if isinstance(value, dict) and not value else ""
        text = f"{{{space}}}" if space else json.dumps(value, ensure_ascii=False).replace('": ', '" : ')
        return f" {'' if value is None and draw(st.booleans()) else text}{comment}\n"
    lines = "".join(f"{' ' * indent}{key}:{draw(written(each, indent + 2))}" for key, each in value.items())
    blank = draw(st.sampled_from(["", "\n", f"{' ' * indent}# more\n"]))
    return f"{comment}\n{lines}{blank}"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_the_style_the_content_is_the_old_one_with_the_values(data: Any) -> None:
    old, wanted = data.draw(SECTIONS), data.draw(WANTED)
    text = f"top:{data.draw(written(old, 2))}last: 1 # end\n"
    expected = copy.deepcopy(old)

    def merge(place: dict, tree: dict) -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                place[key] = place.get(key) or {}
                merge(place[key], value)
            else:
                place[key] = value

    try:
        merge(expected, wanted)
    except (TypeError, AttributeError):
        expected = None  # keys and values where a value stands
    try:
        found = put(text, ("top",), wanted)
    except RecipeError as refusal:
        said = str(refusal)
    else:
        said = ""
    if said:
        assert re.search("expected keys and values|a value cannot take their place|comments inside", said), said
        return
    assert read(found) == {"top": expected, "last": 1}
    comments = re.findall(r"# (?:why|\{a: 1\}|more|end)", text)
    assert re.findall(r"# (?:why|\{a: 1\}|more|end)", found) == comments


# ---- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "values", "message"),
    [
        (
            "    training: &t { images: 50_000 }\n  other: {<<: *t}\n",
            {"training.batch": 16},
            r"recipes\.dcgan-digits\.training: is the anchor &t, which other places may share",
        ),
        (
            "    hyper: { latents: &n 8 }\n    training: { images: 50_000, batch: *n }\n",
            {"hyper.latents": 16},
            r"hyper\.latents: is the anchor &n",
        ),
        (
            "    hyper: { latents: &n 8 }\n    training: { images: 50_000, batch: *n }\n",
            {"training.batch": 16},
            r"training\.batch: is the anchor &n",
        ),
        (
            "    training: { images: 50_000, <<: { batch: 8 } }\n",
            {"training.batch": 16},
            r"training\.batch: comes from `<<`",
        ),
        (
            "    optim:\n      generator:\n        betas:\n          - 0.5 # low\n          - 0.9\n"
            "    training: { images: 50_000 }\n",
            {"optim.generator.betas": [0.0, 0.9]},
            r"optim\.generator\.betas: has comments inside, which would be lost",
        ),
        (
            "    training: { images: 50_000 }\n",
            {"training.batch": 0},
            r"training\.batch: found 0; it must be at least 1",
        ),
        ("    training: { images: 50_000 }\n", {"training.images": 9}, r"training\.images: the budget is the same"),
        (
            "    training: { images: 50_000 }\n",
            {"hyper.latnts": 9},
            r"hyper\.latnts: unknown .*Did you mean 'latents'\?",
        ),
        ("    training: { images: 50_000 }\n", {"model": "x"}, r"recipes\.dcgan-digits\.model: unknown key"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    tmp_path: Path, body: str, values: dict[str, Any], message: str
) -> None:
    text = HEAD + body
    if "other:" in body:  # a recipe that shares its training
        text = text.replace("  other: {<<: *t}\n", TAIL.replace("{ images: 1_000, batch: 32 }", "*t"))
    path = file(tmp_path, text)
    with pytest.raises(RecipeError, match=message) as caught:
        adopt(NAME, values, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes().decode() == text


def test_an_unknown_recipe_is_named(tmp_path: Path) -> None:
    path = file(tmp_path, HEAD + "    training: { images: 50_000 }\n")
    with pytest.raises(RecipeError, match=r"no recipe 'dcgan-digit'.*Did you mean 'dcgan-digits'"):
        adopt("dcgan-digit", {}, path)


# ---- best.yaml ---------------------------------------------------------------------------------------------------

BODY = "    training: { images: 50_000, batch: 32, report: 2_000 }\n"
VALUES = {"optim.generator.lr": 0.00147, "hyper.latents": 128, "training.ema": None, "training.augment": ["flip"]}


@pytest.fixture
def project(tmp_path: Path) -> Layout:
    path = file(tmp_path, HEAD + BODY + TAIL)
    layout = Layout(tmp_path)
    write_best(layout.sweep(NAME) / "best.yaml", best_of(path, VALUES))
    return layout


def best_of(path: Path, values: dict[str, Any]) -> Best:
    facts = {
        "recipe": NAME,
        "objective": {"minimize": "eval/fid"},
        "space": {"optim.generator.lr": {"loguniform": [1e-5, 1e-2]}},
        "base": params.load(path).recipe(NAME).as_dict(),
        "data": "d" * 64,
        "code": "c" * 64,
        "seed": 0,
    }
    trial = Trial(number=7, values=values, state="finished", curve=((50_000, 5.25),), images=50_000, seconds=61.234)
    best = Best.of(facts, trial)
    assert best.sweep == identity(facts)
    return best


def test_the_best_is_written_for_people_and_read_again(project: Layout) -> None:
    path = project.sweep(NAME) / "best.yaml"
    best = read_best(path)
    assert best == best_of(project.root / "params.yaml", VALUES)
    assert (best.value, best.trial, best.seconds, best.values) == (5.25, 7, 61.2, VALUES)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# What `gen sweep dcgan-digits` found; `gen adopt dcgan-digits`")
    assert "value: 5.25" in lines


RECIPE = {"name": NAME, "model": "m", "dataset": "d", "space": "signed", "training": {"images": 1}}
WRITTEN: dict[str, Any] = {
    **{"recipe": NAME, "objective": {"minimize": "eval/fid"}, "trial": 0, "images": 1, "seconds": 0.5},
    **{"sweep": "0123456789", "data": "1e5", "code": "null", "space": {"hyper.a": {"choice": [None]}}, "base": RECIPE},
}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["hyper.a", "training.b", "optim.c.d"]), LEAVES), st.floats(-1e300, 1e300))
def test_any_values_survive_the_file(tmp_path_factory: pytest.TempPathFactory, values: Any, value: float) -> None:
    path = tmp_path_factory.getbasetemp() / "best.yaml"
    wanted = Best(**{**WRITTEN, "values": values, "value": value})
    write_best(path, wanted)
    assert read_best(path) == wanted


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trial: 7\n", "", r"best\.trial: missing"),
        ("trial: 7", "trial: seven", r"best\.trial: .*integer; found 'seven'"),
        ("value: 5.25", "value: .nan", r"best"),
        ("code:", "cod:", r"best\.cod: unknown key\. .*Did you mean 'code'\?"),
        ("values:", "values: [", r"is not valid YAML"),
        ("  name: dcgan-digits\n", "", r"best: recipe: 'name'|best: recipe: .*name"),
    ],
)
def test_a_damaged_best_is_refused(project: Layout, old: str, new: str, message: str) -> None:
    path = project.sweep(NAME) / "best.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        adopt_best(NAME, project)
    assert str(path) in str(caught.value)


def test_without_a_sweep_it_says_what_to_do(project: Layout) -> None:
    with pytest.raises(RecipeError, match=r"best\.yaml: there is no such file\. Run `gen sweep vae-digits` first"):
        adopt_best("vae-digits", project)


def test_the_best_is_adopted_and_the_difference_shown(project: Layout) -> None:
    said = adopt_best(NAME, project)
    assert "+    optim: { generator: { lr: 0.00147 } }" in said
    assert "trial 7 of sweep" in said
    assert "eval/fid = 5.25 (minimized, on the validation split)" in said
    recipe = params.load(project.root / "params.yaml").recipe(NAME)
    assert (recipe.hyper, recipe.training.augment) == ({"latents": 128}, ("flip",))
    assert "nothing to change" in adopt_best(NAME, project), "what was adopted counts as no change of the recipe"


def test_the_recipe_as_it_stands_may_be_the_best(project: Layout) -> None:
    before = (project.root / "params.yaml").read_bytes()
    write_best(project.sweep(NAME) / "best.yaml", best_of(project.root / "params.yaml", {}))
    assert "as it stands; nothing to change" in adopt_best(NAME, project)
    assert (project.root / "params.yaml").read_bytes() == before


def test_a_recipe_that_was_changed_since_takes_force(project: Layout) -> None:
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("batch: 32, report: 2_000", "batch: 64, report: 5_000, slices: 2", 1))
    before = path.read_bytes()
    with pytest.raises(RecipeError, match=r"(?s)is not what was swept:.*training\.batch: swept 32, now 64") as caught:
        adopt_best(NAME, project)
    assert "training.slices: swept 1, now 2" in str(caught.value)
    assert "report" not in str(caught.value), "an interval changes no result"
    assert path.read_bytes() == before
    assert "lr: 0.00147" in adopt_best(NAME, project, force=True)
    assert params.load(path).recipe(NAME).training.batch == 64
