"""One recipe of params.yaml, checked against the model it names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gen.data.spaces import Space
from gen.errors import RecipeError, nearest
from gen.recipe import Recipe, Training
from gen.registry import entry
from pipelines.checking import Checker, schema


def parse_recipe(checker: Checker, name: str, value: Any, datasets: Collection[str], *, where: str = "") -> Recipe:
    """A checked recipe. Raises :class:`RecipeError` with the key that is wrong.

    Args:
        checker: of the file it stands in.
        name: of the recipe.
        value: what the file says.
        datasets: names of the data sets there are.
        where: what errors call the place (default: ``recipes.<name>``).
    """
    where = where or f"recipes.{name}"
    given = checker.mapping(value, where)
    given["training"] = checker.check(Training, checker.mapping(given.get("training"), where), f"{where}.training")
    allowed = ("model", "dataset", "space", "hyper", "optim", "training")
    for key in given:
        if key not in allowed:
            raise RecipeError(
                f"{checker.path}: {where}.{key}: unknown key. Allowed: {', '.join(allowed)}.{nearest(key, allowed)}"
            )
    for key in ("model", "dataset", "space"):
        if not isinstance(given.get(key), str):
            raise RecipeError(f"{checker.path}: {where}.{key}: found {given.get(key)!r}; give a name.")
    try:
        found = entry(given["model"])
        space = Space.parse(given["space"])
    except RecipeError as problem:
        raise RecipeError(f"{checker.path}: {where}.{problem}") from None
    if given["model"] != found.chapter:
        raise RecipeError(
            f"{checker.path}: {where}.model: found '{given['model']}'; name the chapter, '{found.chapter}', so that "
            "DVC knows which file the stage depends on."
        )
    if space.kind not in found.cls.spaces:
        raise RecipeError(
            f"{checker.path}: {where}.space: {found.name} does not live in '{space}'. "
            f"Allowed: {', '.join(found.cls.spaces)}."
        )
    if given["dataset"] not in datasets:
        raise RecipeError(
            f"{checker.path}: {where}.dataset: there is no data set '{given['dataset']}'. "
            f"Allowed: {', '.join(datasets)}.{nearest(given['dataset'], datasets)}"
        )
    hyper = checker.mapping(given.get("hyper"), f"{where}.hyper")
    hyper_schema = schema(found.name, found.cls.__init__, found.hyper)
    typed: Any = checker.check(hyper_schema, hyper, f"{where}.hyper")
    optim = {
        group: checker.mapping(fields, f"{where}.optim.{group}")
        for group, fields in checker.mapping(given.get("optim"), f"{where}.optim").items()
    }
    return Recipe(
        name=name,
        model=found.chapter,
        dataset=given["dataset"],
        space=str(space),
        training=given["training"],
        hyper={key: getattr(typed, key) for key in hyper},
        optim=optim,
    )
