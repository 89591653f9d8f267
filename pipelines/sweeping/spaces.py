"""What a sweep varies and what it looks for: the ``sweeps:`` section of params.yaml.

    sweeps:
      dcgan-digits:
        objective: { minimize: eval/fid }       # or maximize; a score of the evaluate stage, on the validation split
        every: 10_000                           # images between two measurements of a trial
        space:
          optim.generator.lr: { loguniform: [1e-4, 2e-3] }
          hyper.latents: { choice: [32, 64, 100] }
          training.batch: { grid: [16, 32] }

Kinds of ranges are in :mod:`pipelines.sweeping.dimensions`. Everything that can be known without data is checked when
the file is read: the ends of every range and every choice are put into the recipe, which is checked as any recipe.
Groups of optimizers, and what a chapter asks of its hyper-parameters, need a model: see :func:`check_models`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

from gen.data.spaces import DataSpec
from gen.errors import RecipeError, nearest
from gen.model import GenerativeModel, Optim
from gen.recipe import Recipe, Training
from gen.registry import build, entry
from gen.train.optim import ALGORITHMS, make_optimizer, override
from pipelines.checking import Checker
from pipelines.recipes import parse_recipe
from pipelines.sweeping.dimensions import Dimension

INTERVALS = ("report", "validate", "pictures", "checkpoint")  # of a recipe's training; they change no result
SWEPT = tuple(f.name for f in fields(Training) if f.name not in ("images", *INTERVALS))
PARAMS = Path("params.yaml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What is looked for.

    Attributes:
        score: of the evaluate stage, without ``eval/``, e.g. ``fid``.
        direction: which way is better.
    """

    score: str
    direction: Literal["minimize", "maximize"]

    @property
    def name(self) -> str:
        """As it is written and tracked: ``eval/fid``."""
        return f"eval/{self.score}"

    def loss(self, value: float) -> float:
        """The value as something to minimise."""
        return value if self.direction == "minimize" else -value

    def as_dict(self) -> dict[str, str]:
        """As params.yaml has it."""
        return {self.direction: self.name}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """One entry of the section.

    Attributes:
        recipe: the name of the recipe that is varied.
        objective: what is looked for.
        every: images between two measurements; the end is measured too.
        space: what is varied, by key, in the order of the file.
    """

    recipe: str
    objective: Objective
    every: int
    space: Mapping[str, Dimension]

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What is varied, in the order of the file."""
        return tuple(self.space.values())

    def as_dict(self) -> dict[str, Any]:
        """As params.yaml has it, with the recipe's name."""
        space = {key: dimension.as_dict() for key, dimension in self.space.items()}
        return {"recipe": self.recipe, "objective": self.objective.as_dict(), "every": self.every, "space": space}


# ---- reading -----------------------------------------------------------------------------------------------------


def parse_sweep(checker: Checker, name: str, value: Any, recipes: Mapping[str, Recipe]) -> Sweep:
    """A checked sweep of the recipe ``name``. Raises :class:`RecipeError` with the key that is wrong."""
    where = f"sweeps.{name}"
    given = checker.mapping(value, where)
    for key in given:
        _known(f"{checker.path}: {where}.{key}", str(key), ("objective", "every", "space"))
    recipe = recipes[name]
    space = checker.mapping(given.get("space"), f"{where}.space")
    if not space:
        raise RecipeError(
            f"{checker.path}: {where}.space: nothing to vary. Add a key, e.g. "
            "`training.batch: { choice: [32, 64] }`, or remove the sweep."
        )
    dimensions = {}
    for key, kind in space.items():
        try:
            check_key(str(key), recipe)
            dimensions[key] = Dimension.parse(key, kind)
        except RecipeError as problem:
            raise RecipeError(f"{checker.path}: {where}.space.{key}{problem}") from None
    sweep = Sweep(
        recipe=name,
        objective=_objective(checker, given.get("objective"), f"{where}.objective"),
        every=_every(checker, given.get("every"), f"{where}.every", recipe.training.images),
        space=dimensions,
    )
    for corner in _corners(sweep):
        varied(recipe, corner, path=checker.path, where=f"{where}.space")
        for key, each in corner.items():
            _check_optim(checker, key, each, f"{where}.space")
    _check_slices(checker, sweep, recipe, f"{where}.space")
    return sweep


def _objective(checker: Checker, value: Any, where: str) -> Objective:
    found = checker.mapping(value, where)
    for key in found:
        _known(f"{checker.path}: {where}.{key}", str(key), ("minimize", "maximize"))
    if len(found) != 1:
        raise RecipeError(
            f"{checker.path}: {where}: found {found or 'nothing'}; give one score and which way is better, e.g. "
            "{ minimize: eval/fid } or { maximize: eval/nats }."
        )
    ((direction, name),) = found.items()
    score = re.fullmatch(r"eval/(\w+)", name) if isinstance(name, str) else None
    if score is None:
        raise RecipeError(
            f"{checker.path}: {where}.{direction}: found {name!r}; give eval/<score>, a score that `gen evaluate` "
            "prints, e.g. eval/fid."
        )
    return Objective(score=score[1], direction="minimize" if direction == "minimize" else "maximize")


def _every(checker: Checker, value: Any, where: str, budget: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= budget:
        some = -(-budget // 4)
        marks = ", ".join(f"{mark:_}" for mark in (*range(some, budget, some), budget))
        raise RecipeError(
            f"{checker.path}: {where}: found {value!r}; give images between two measurements, 1 to {budget:_}, which "
            f"is what a trial trains on: {some:_} measures it at {marks} images, and it may be stopped there."
        )
    return value


def check_key(key: str, recipe: Recipe) -> None:
    """Raise :class:`RecipeError` unless a key names something of this recipe that a sweep may vary.

    The message is to be put after the key's place. Whether a group of parameters exists only a model can say.
    """
    section, *rest = key.split(".")
    match section, rest:
        case "hyper", [name]:
            found = entry(recipe.model)
            _known("", name, found.hyper, f"hyper-parameter of {found.name}")
        case "training", [name]:
            if name == "images":
                raise RecipeError(": the budget is the same for every trial, or they could not be compared.")
            if name in INTERVALS:
                raise RecipeError(f": an interval changes no result. Allowed: {', '.join(SWEPT)}.")
            _known("", name, SWEPT, "field")
        case "optim", [_, name]:
            allowed = dict.fromkeys(["algorithm", *(f.name for cls in ALGORITHMS.values() for f in fields(cls))])
            _known("", name, allowed, "field")
        case _:
            forms = ("hyper.NAME", "optim.GROUP.FIELD", "training.FIELD")
            raise RecipeError(f": unknown key. Allowed: {', '.join(forms)}.{nearest(key, forms)}")


def _known(place: str, name: str, allowed: Any, what: str = "key") -> None:
    if name not in allowed:
        raise RecipeError(f"{place}: unknown {what}. Allowed: {', '.join(allowed)}.{nearest(name, allowed)}")


def _corners(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """As few configurations as hold a place inside every range, both its ends, and every choice."""
    probes = [
        (dimension.key, (dimension.draw(0.5), *dimension.given) if dimension.values is None else dimension.given)
        for dimension in sweep.dimensions
    ]
    for turn in range(max(len(values) for _, values in probes)):
        yield {key: values[turn % len(values)] for key, values in probes}


def _check_optim(checker: Checker, key: str, value: Any, where: str) -> None:
    """The type of an optimizer's field; a recipe's own are not looked at before there is a model."""
    section, *rest = key.split(".")
    if section != "optim":
        return
    group, name = rest
    if name == "algorithm":
        if value not in ALGORITHMS:
            raise RecipeError(
                f"{checker.path}: {where}.{key}: found {value!r}. Allowed: {', '.join(ALGORITHMS)}."
                f"{nearest(str(value), ALGORITHMS)}"
            )
        return
    kind: type[Optim] = next(cls for cls in ALGORITHMS.values() if name in {f.name for f in fields(cls)})
    checker.check(kind, {name: value}, f"{where}.optim.{group}")


def _check_slices(checker: Checker, sweep: Sweep, recipe: Recipe, where: str) -> None:
    """Every batch can be cut into every number of slices, whatever a trial draws."""
    keys = [key for key in ("training.batch", "training.slices") if key in sweep.space]
    for values in product(*(sweep.space[key].values or () for key in keys)):
        given = dict(zip(keys, values, strict=True))
        try:
            replace(recipe.training, **{key.removeprefix("training."): value for key, value in given.items()})
        except RecipeError as problem:
            found = ", ".join(f"{key} {value}" for key, value in given.items())
            raise RecipeError(f"{checker.path}: {where}: with {found}: {problem}") from None


# ---- a recipe with other values ----------------------------------------------------------------------------------


def varied(recipe: Recipe, values: Mapping[str, Any], *, path: Path = PARAMS, where: str = "") -> Recipe:
    """The recipe with these values put in, checked as any recipe; with none, the recipe itself.

    Args:
        recipe: to be varied; stays as it is.
        values: by key, e.g. ``{"optim.model.lr": 1e-3}``.
        path: of the file errors name.
        where: what errors call the place (default: ``recipes.<name>``).

    Raises:
        RecipeError: a key that is not there, or a value that does not fit.
    """
    raw = recipe.as_dict()
    name = raw.pop("name")
    for key, value in values.items():
        try:
            check_key(key, recipe)
        except RecipeError as problem:
            raise RecipeError(f"{path}: {where or f'recipes.{name}'}.{key}{problem}") from None
        *sections, field = key.split(".")
        place = raw
        for section in sections:
            place = place.setdefault(section, {})
        place[field] = value
    return parse_recipe(Checker(path), name, raw, (recipe.dataset,), where=where)


def check_models(sweep: Sweep, recipe: Recipe, spec: DataSpec, *, path: Path = PARAMS) -> None:
    """Build the model and its optimizers at the ends of every range and for every choice.

    Raises:
        RecipeError: a value the chapter refuses, a group of parameters the model does not have, a field its optimizer
            does not have or refuses.
    """
    where = f"{path}: sweeps.{sweep.recipe}.space"
    for corner in _corners(sweep):
        try:
            model, optims = _built(varied(recipe, corner, path=path), spec)
        except RecipeError as problem:
            raise RecipeError(f"{where}.{problem}") from None
        groups = model.groups()
        for group, optim in optims.items():
            try:
                make_optimizer(optim, groups[group])
            except (TypeError, ValueError) as problem:  # torch's own checks
                raise RecipeError(f"{where}.optim.{group}: {problem}. Found: {optim}.") from None


def own_values(sweep: Sweep, recipe: Recipe, spec: DataSpec) -> dict[str, Any]:
    """What the recipe has at the keys of a sweep, stated or by default: where trial 0, the recipe as it is, lies.

    A field that the recipe's optimizer does not have is left out.
    """
    _, optims = _built(recipe, spec)
    hyper = entry(recipe.model).hyper
    algorithms = {cls: name for name, cls in ALGORITHMS.items()}
    found: dict[str, Any] = {}
    for key in sweep.space:
        match key.split("."):
            case ["hyper", name]:
                found[key] = recipe.hyper.get(name, hyper[name].default)
            case ["training", name]:
                found[key] = getattr(recipe.training, name)
            case ["optim", group, "algorithm"]:
                found[key] = algorithms[type(optims[group])]
            case ["optim", group, name] if hasattr(optims[group], name):
                found[key] = getattr(optims[group], name)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def _built(recipe: Recipe, spec: DataSpec) -> tuple[GenerativeModel, dict[str, Optim]]:
    """The untrained model of a recipe and its optimizers; the default generator stays where it was."""
    with torch.random.fork_rng(devices=[]):
        model = build(recipe.model, spec, **recipe.hyper)
    return model, override(model.optimizers(), recipe.optim)
