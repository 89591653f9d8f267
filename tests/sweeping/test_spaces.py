"""The `sweeps:` section: what is wrong is named with its key; ranges draw what they say; recipes take values in."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.recipe import Recipe
from pipelines import params
from pipelines.sweeping.dimensions import Dimension
from pipelines.sweeping.spaces import Sweep, check_models, own_values, varied

ROOT = Path(__file__).parents[2]
PARAMS = """
datasets:
  digits: { source: digits }
recipes:
  dcgan-digits:
    model: adversarial/dcgan
    dataset: digits
    space: signed
    optim: { generator: { lr: 1e-3 } }
    training: { images: 50_000, batch: 32 }
sweeps:
  dcgan-digits:
    objective: { minimize: eval/fid }
    every: 10_000
    space:
      optim.generator.lr: { loguniform: [1e-4, 2e-3] }
      hyper.latents: { choice: [32, 64, 100] }
      training.batch: { grid: [16, 32] }
"""
SPEC = DataSpec(shape=(1, 28, 28), num_classes=10, space=Space.parse("signed"))


def read(tmp_path: Path, text: str = PARAMS) -> tuple[Sweep, Recipe]:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    loaded = params.load(path)
    return loaded.sweeps["dcgan-digits"], loaded.recipes["dcgan-digits"]


def with_space(*lines: str) -> str:
    return (
        PARAMS.partition("    space:\n      optim")[0] + "    space:\n" + "".join(f"      {line}\n" for line in lines)
    )


# ---- reading -----------------------------------------------------------------------------------------------------


def test_a_good_section_is_read_in_its_order(tmp_path: Path) -> None:
    sweep, _ = read(tmp_path)
    assert [d.key for d in sweep.dimensions] == ["optim.generator.lr", "hyper.latents", "training.batch"]
    assert (sweep.objective.name, sweep.objective.direction, sweep.every) == ("eval/fid", "minimize", 10_000)
    assert sweep.as_dict()["space"]["hyper.latents"] == {"choice": [32, 64, 100]}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("every:", "evry:", r"sweeps\.dcgan-digits\.evry: unknown key\. Allowed: .*Did you mean 'every'\?"),
        ("every: 10_000", "every: 60_000", r"every: found 60000; give images .* 1 to 50_000, .* 12_500 measures it at"),
        ("every: 10_000", "every: 0", r"every: found 0"),
        ("every: 10_000", "every: true", r"every: found True"),
        ("    every: 10_000\n", "", r"every: found None; give images between two measurements"),
        (
            "minimize",
            "minimise",
            r"objective\.minimise: unknown key\. Allowed: minimize, maximize\. Did you mean 'mini",
        ),
        ("eval/fid", "fid", r"objective\.minimize: found 'fid'; give eval/<score>"),
        (
            "{ minimize: eval/fid }",
            "{ minimize: eval/fid, maximize: eval/kid }",
            r"objective: found .*; give one score",
        ),
        ("{ minimize: eval/fid }", "eval/fid", r"objective: expected keys and values; found 'eval/fid'"),
        (
            "sweeps:\n  dcgan-digits",
            "sweeps:\n  dcgan-digit",
            r"sweeps: there is no recipe 'dcgan-digit'\. .*Did you mean",
        ),
        (
            "hyper.latents",
            "hyper.latnts",
            r"space\.hyper\.latnts: unknown hyper-parameter of dcgan\. .*mean 'latents'\?",
        ),
        ("training.batch", "training.batches", r"space\.training\.batches: unknown field\. .*Did you mean 'batch'\?"),
        ("training.batch", "training.images", r"space\.training\.images: the budget is the same for every trial"),
        ("training.batch", "training.validate", r"space\.training\.validate: an interval changes no result"),
        (
            "generator.lr",
            "generator.learning",
            r"space\.optim\.generator\.learning: unknown field\. Allowed: algorithm, lr",
        ),
        (
            "optim.generator.lr",
            "optimizer.lr",
            r"space\.optimizer\.lr: unknown key\. Allowed: hyper\.NAME, optim\.GROUP",
        ),
        ("loguniform", "log", r"lr\.log: unknown kind\. Allowed: uniform, loguniform, int, choice, grid"),
        ("[1e-4, 2e-3]", "[2e-3, 1e-4]", r"lr\.loguniform: found \[0\.002, 0\.0001\]; low must be less than high"),
        ("[1e-4, 2e-3]", "[0, 1e-4]", r"lr\.loguniform: .*both ends must be above 0"),
        ("[1e-4, 2e-3]", "[1e-4, .inf]", r"lr\.loguniform: .*both finite"),
        ("[1e-4, 2e-3]", "[1e-4, fast]", r"lr\.loguniform: found .*; give two numbers, \[low, high\]"),
        ("[1e-4, 2e-3]", "[1e-4, 1e-3, 2e-3]", r"lr\.loguniform: found .*; give two numbers"),
        ("{ grid: [16, 32] }", "[16, 32]", r"space\.training\.batch: found \[16, 32\]; give one kind of range"),
        ("{ grid: [16, 32] }", "{ grid: [16, 16] }", r"training\.batch\.grid: found 16 twice"),
        ("{ grid: [16, 32] }", "{ grid: [] }", r"training\.batch\.grid: found \[\]; give a list"),
        (
            "{ grid: [16, 32] }",
            "{ grid: [2026-01-01] }",
            r"training\.batch\.grid: found .*; give finite numbers, words",
        ),
        (
            "{ grid: [16, 32] }",
            "{ grid: [16, 0] }",
            r"space\.training: training\.batch: found 0; it must be at least 1",
        ),
        ("{ grid: [16, 32] }", "{ grid: [16, many] }", r"space\.training\.batch: .*integer; found 'many'"),
        ("{ grid: [16, 32] }", "{ int: [16, 32.5] }", r"training\.batch\.int: found .*; give two whole numbers"),
        ("[32, 64, 100]", "[32, 64, large]", r"space\.hyper\.latents: .*integer; found 'large'"),
        ("{ choice: [32, 64, 100] }", "{ loguniform: [8, 64] }", r"space\.hyper\.latents: .*integer.*; found 22\.6"),
        ("{ loguniform: [1e-4, 2e-3] }", "{ choice: [1e-4, fast] }", r"space\.optim\.generator\.lr: .*; found 'fast'"),
        ("batch: 32 }", "batch: 32, slices: 2 }\n", None),  # 16 and 32 can be halved
        ("batch: 32 }", "batch: 48, slices: 3 }\n", r"space\.training: training\.slices: a batch of 16 .* 3 equal"),
    ],
)
def test_bad_sections_are_refused(tmp_path: Path, old: str, new: str, message: str | None) -> None:
    assert old in PARAMS
    text = PARAMS.replace(old, new) if old != "minimize" else PARAMS.replace(old, new, 1)
    if message is None:
        read(tmp_path, text)
        return
    with pytest.raises(RecipeError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'params.yaml'}: sweeps")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["optim.generator.algorithm: { choice: [adam, adagrad] }"],
            r"algorithm: found 'adagrad'\. Allowed: adam, sgd",
        ),
        (["optim.generator.decay: { choice: [cosine, cosin] }"], r"optim\.generator\.decay: .*found 'cosin'"),
        (
            ["training.batch: { int: [16, 32] }", "training.slices: { choice: [1, 2] }"],
            r"training\.batch 17, .*slices 2",
        ),
        (["training.batch: { int: [1, 64] }"], None),
        (["training.seed: { int: [0, 9] }", "training.ema: { choice: [null, 1_000] }"], None),
        (["training.augment: { choice: [[], [shift(1)]] }", "optim.generator.betas: { grid: [[0.5, 0.999]] }"], None),
        (["training.augment: { choice: [[], [spin(1)]] }"], r"space\.training: augment: .*spin"),
    ],
)
def test_what_goes_together_is_checked_together(tmp_path: Path, lines: list[str], message: str | None) -> None:
    text = with_space(*lines)
    if message is None:
        read(tmp_path, text)
    else:
        with pytest.raises(RecipeError, match=message):
            read(tmp_path, text)


# ---- with a model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "optim.generatr.lr: { loguniform: [1e-4, 1e-3] }",
            r"space\.optim\.generatr: .*no such group.*mean 'generator'",
        ),
        (
            "optim.generator.momentum: { uniform: [0, 0.9] }",
            r"space\.optim\.generator\.momentum: Adam has no such field",
        ),
        ("optim.generator.lr: { choice: [1e-3, -1.0] }", r"space\.optim\.generator: Invalid learning rate: -1"),
        ("hyper.latents: { choice: [64, 0] }", r"space\.hyper\.latents: found 0, allowed 1 and more"),
        ("hyper.latents: { choice: [64, 1] }", None),
    ],
)
def test_what_a_model_refuses_is_found_before_the_first_trial(tmp_path: Path, line: str, message: str | None) -> None:
    sweep, recipe = read(tmp_path, with_space(line))
    before = torch.get_rng_state()
    if message is None:
        check_models(sweep, recipe, SPEC)
    else:
        with pytest.raises(RecipeError, match=message) as caught:
            check_models(sweep, recipe, SPEC)
        assert str(caught.value).startswith("params.yaml: sweeps.dcgan-digits.space.")
    assert torch.equal(torch.get_rng_state(), before)


def test_own_values_are_what_the_recipe_states_or_what_the_code_says(tmp_path: Path) -> None:
    lines = ("hyper.latents: { choice: [8, 64] }", "optim.generator.lr: { loguniform: [1e-4, 1e-2] }")
    more = ("optim.discriminator.betas: { choice: [[0.5, 0.9]] }", "training.batch: { int: [1, 64] }")
    sweep, recipe = read(tmp_path, with_space(*lines, *more, "optim.generator.algorithm: { choice: [adam, sgd] }"))
    assert own_values(sweep, recipe, SPEC) == {
        "hyper.latents": 64,  # the constructor's
        "optim.generator.lr": 1e-3,  # the recipe's; the model would take 2e-3
        "optim.discriminator.betas": [0.5, 0.999],  # the model's
        "training.batch": 32,
        "optim.generator.algorithm": "adam",
    }


def test_the_sweeps_of_this_project_hold_the_recipes_they_start_from() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert {"vae-digits", "dcgan-digits"} <= set(loaded.sweeps)
    for name, sweep in loaded.sweeps.items():
        recipe = loaded.recipes[name]
        spec = DataSpec(shape=(1, 28, 28), num_classes=10, space=Space.parse(recipe.space))
        check_models(sweep, recipe, spec)
        for key, value in own_values(sweep, recipe, spec).items():
            assert 0 <= sweep.space[key].unit(value) <= 1, f"{name}: {key} = {value}"


# ---- values in a recipe ------------------------------------------------------------------------------------------


def test_without_values_a_recipe_is_itself() -> None:
    loaded = params.load(ROOT / "params.yaml")
    for recipe in loaded.recipes.values():
        assert varied(recipe, {}) == recipe


def test_values_are_put_in_and_the_recipe_stays(tmp_path: Path) -> None:
    _, recipe = read(tmp_path)
    values = {"optim.discriminator.lr": 3e-4, "hyper.latents": 8, "training.augment": ["shift(1)"], "training.seed": 3}
    found = varied(recipe, values)
    assert found.optim == {"generator": {"lr": 1e-3}, "discriminator": {"lr": 3e-4}}
    assert (found.hyper, found.training.augment, found.training.seed) == ({"latents": 8}, ("shift(1)",), 3)
    assert (recipe.hyper, dict(recipe.optim)) == ({}, {"generator": {"lr": 1e-3}})
    with pytest.raises(RecipeError, match=r"best\.yaml: recipes\.dcgan-digits\.hyper\.latent: unknown .*'latents'"):
        varied(recipe, {"hyper.latent": 8}, path=Path("best.yaml"))


# ---- ranges ------------------------------------------------------------------------------------------------------

positive = st.floats(1e-6, 1e3)
ranges = st.one_of(
    st.tuples(st.just("loguniform"), st.tuples(positive, positive)),
    st.tuples(st.just("uniform"), st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))),
    st.tuples(st.just("int"), st.tuples(st.integers(-100, 100), st.integers(-100, 100))),
).filter(lambda found: found[1][1] - found[1][0] > 1e-6 * abs(found[1][0]))
lists = st.tuples(
    st.sampled_from(["choice", "grid"]),
    st.lists(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text("ab"), st.lists(st.integers(0, 9))), min_size=1
    ),
)


def dimension(kind: str, given: list) -> Dimension:
    return Dimension.parse("hyper.x", {kind: given})


@given(ranges, st.floats(0, 1, exclude_max=True))
def test_draws_stay_inside_and_lie_where_they_were_drawn(found: tuple, u: float) -> None:
    kind, (low, high) = found
    axis = dimension(kind, [low, high])
    value = axis.draw(u)
    assert low <= value <= high
    assert axis.draw(axis.unit(value)) == value, "unit is the inverse of draw"
    assert axis.tidy(value) == value, "what was drawn is rounded already"
    if kind != "int":
        assert abs(axis.unit(value) - u) < 0.01, "rounding moves a draw by less than a hundredth of the range"


@given(lists)
def test_every_choice_can_be_drawn_and_found_again(found: tuple) -> None:
    kind, given = found
    try:
        axis = dimension(kind, given)
    except RecipeError as problem:
        assert "twice" in str(problem)  # noqa: PT017
        return
    assert [axis.draw((n + 0.5) / len(given)) for n in range(len(given))] == given
    assert [axis.index(value) for value in given] == list(range(len(given)))
    assert all(axis.draw(axis.unit(value)) == value for value in given)


def test_draws_follow_their_distributions() -> None:
    units = [(n + 0.5) / 1_000 for n in range(1_000)]
    log = dimension("loguniform", [1e-4, 1e-2])
    assert sum(log.draw(u) < 1e-3 for u in units) == pytest.approx(500, abs=2), "as many below the middle as above"
    dice = dimension("int", [1, 6])
    assert [sum(dice.draw(u) == side for u in units) for side in range(1, 7)] == pytest.approx([1000 / 6] * 6, abs=1)
    assert dice.values == (1, 2, 3, 4, 5, 6)
    assert log.values is None
    assert dimension("choice", ["a", None]).values == ("a", None)


def test_drawn_numbers_read_well() -> None:
    assert dimension("loguniform", [1e-4, 2e-3]).draw(0.37) == 0.000303
    assert dimension("uniform", [0, 1]).draw(1 / 3) == 0.333
    assert dimension("uniform", [0.99, 0.9999]).draw(0.5) == 0.99495
    assert dimension("loguniform", [1e-3, 1.01e-3]).draw(0.5) == 0.00100499, "a narrow range needs more digits"


def test_values_from_elsewhere_are_brought_in_or_lie_outside() -> None:
    log, whole, words = (
        dimension("loguniform", [1e-4, 1e-2]),
        dimension("int", [1, 4]),
        dimension("choice", [1, 2.5, True]),
    )
    assert (log.tidy(0.5), log.tidy(0.00123456), log.tidy(-1.0)) == (1e-2, 0.00123, 1e-4)
    assert (whole.tidy(3.6), whole.tidy(9)) == (4, 4)
    assert log.unit(1e-1) == pytest.approx(1.5)
    assert whole.unit(0) < 0 < 1 < whole.unit(9)
    assert log.unit(0.0) == -math.inf
    assert math.isnan(log.unit(None))
    assert math.isnan(words.unit(7))
    assert (words.index(1.0), words.index(True)) == (0, 2), "1 and 1.0 are one value, True is another"
