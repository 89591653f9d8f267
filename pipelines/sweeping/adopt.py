"""``gen adopt``: what a sweep found goes into params.yaml, which keeps its comments, order and style."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gen.errors import RecipeError
from gen.files import write_bytes
from gen.recipe import Recipe
from pipelines.layout import Layout
from pipelines.params import load
from pipelines.sweeping.best import Best, read_best
from pipelines.sweeping.spaces import INTERVALS, varied
from pipelines.sweeping.surgery import put

SECTIONS = ("hyper", "optim", "training")  # in this order where they are new


def adopt(recipe_name: str, values: Mapping[str, Any], params_path: Path) -> str:
    """Put values into a recipe of a params.yaml, and leave every other byte of the file as it is.

    Args:
        recipe_name: a recipe of the file.
        values: by key, e.g. ``{"optim.generator.lr": 1.5e-3}``.
        params_path: the file. It is replaced as a whole, or not at all.

    Returns:
        What changed, as a unified diff; empty if the recipe had these values already.

    Raises:
        RecipeError: no such recipe or key, a value that does not fit, or a place in the file that cannot be changed
            without touching something else. The file is as it was.
    """
    path = params_path.resolve()  # a link stays a link
    varied(load(path).recipe(recipe_name), values, path=params_path)
    before = path.read_bytes().decode()  # bytes, for text would not keep the line breaks of other systems
    try:
        after = put(before, ("recipes", recipe_name), _tree(values), last=("training",))
    except RecipeError as problem:
        raise RecipeError(f"{params_path}: {problem}") from None
    if after == before:
        return ""
    write_bytes(path, after.encode())
    return _diff(before, after, params_path.name)


def adopt_best(recipe_name: str, layout: Layout, *, force: bool = False) -> str:
    """Adopt what the last sweep of a recipe found; what is to be said about it.

    Args:
        recipe_name: a recipe that was swept.
        layout: where things lie.
        force: also if the recipe was changed since, elsewhere than at the keys that are put in.

    Raises:
        RecipeError: no sweep, or what :func:`adopt` raises, or the recipe was changed since; the message says where.
    """
    best = read_best(layout.sweep(recipe_name) / "best.yaml")
    path = layout.root / "params.yaml"
    if best.recipe != recipe_name:
        raise RecipeError(f"{layout.sweep(recipe_name) / 'best.yaml'}: is of the recipe '{best.recipe}'.")
    if (lines := changes_since(best, load(path).recipe(recipe_name))) and not force:
        raise RecipeError(
            f"{path}: recipes.{recipe_name} is not what was swept:\n  " + "\n  ".join(lines) + "\n"
            f"What was found need not hold for it. Sweep again (`gen sweep {recipe_name}`), or adopt it with --force."
        )
    ((direction, score),) = best.objective.items()
    found = (
        f"trial {best.trial} of sweep {best.sweep}: {score} = {best.value:.5g} ({direction}d, on the validation split)"
    )
    if not best.values:
        return f"{found}\nThat is recipes.{recipe_name} as it stands; nothing to change."
    changed = adopt(recipe_name, best.values, path)
    if not changed:
        return f"{found}\nrecipes.{recipe_name} has these values already; nothing to change."
    return f"{changed}\n{found}\n`dvc repro evaluate@{recipe_name}` trains and evaluates it."


def changes_since(best: Best, recipe: Recipe) -> list[str]:
    """Where a recipe is not the one that was swept, a line each.

    The keys that are put in do not count, nor the intervals, which change no result.
    """
    swept, now = dict(_leaves(best.base)), dict(_leaves(recipe.as_dict()))
    passed_over = {*best.values, *(f"training.{interval}" for interval in INTERVALS)}
    return [
        f"{key}: swept {swept.get(key, 'unset')}, now {now.get(key, 'unset')}"
        for key in dict.fromkeys([*swept, *now])
        if key not in passed_over and swept.get(key, ...) != now.get(key, ...)
    ]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    tree: dict[str, Any] = {}
    for key in sorted(values, key=lambda key: SECTIONS.index(key.partition(".")[0])):
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = values[key]
    return tree


def _diff(before: str, after: str, name: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} before", f"{name} after", n=2, lineterm=""
    )
    return "\n".join(lines)
