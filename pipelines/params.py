"""The schema of params.yaml: typed, strict, and precise about what is wrong.

datasets:    name -> where the data come from
judge:       the classifier whose features FID and its kin are measured in
recipes:     name -> what to train; decides the result (see gen.recipe)
evaluation:  how every model is evaluated: the same for all, or it would be no comparison
gates:       name -> bars a trained model must pass
resources:   how to train: workers, threads, retries; never part of a result
sweeps:      name -> what `gen sweep` varies in a recipe, and what it looks for (see pipelines.sweeping.spaces)
promotion:   what a version must show before `gen promote` moves an alias (see pipelines.promotion.policy)
studies:     name -> the recipes that a demonstration is of (see pipelines.roles)
tour:        the recipes of `make tour`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gen.data.reading import Reading
from gen.errors import RecipeError, nearest
from gen.recipe import Recipe
from pipelines.checking import Checker
from pipelines.datasets import Dataset, parse_dataset
from pipelines.promotion.policy import Promotion, parse_promotion
from pipelines.recipes import parse_recipe
from pipelines.roles import Cast, parse_cast
from pipelines.sweeping.spaces import Sweep, parse_sweep

T = TypeVar("T")
SECTIONS = (
    "datasets",
    "judge",
    "recipes",
    "evaluation",
    "gates",
    "resources",
    "sweeps",
    "promotion",
    "studies",
    "tour",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeParams:
    """How the judge is trained.

    Attributes:
        images: budget in training images.
        seed: seed of weights and order.
    """

    images: int = 32_000
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How every model is evaluated.

    Attributes:
        samples: images drawn for the distances; the reference is the whole test split.
        seed: of noise and samples.
    """

    samples: int = 1_000
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar of a gate on one score: ``at_least``, ``at_most`` or both."""

    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """How to train. Changes speed, never the meaning of a recipe.

    Attributes:
        workers: 0 trains in this process without Ray; n through Ray Train; ``[lo, hi]`` is elastic.
        threads: CPU threads of one worker.
        gpu: one GPU per worker; ``auto`` takes one if the cluster has any.
        max_failures: how often lost workers are replaced before the run fails.
        address: of a Ray cluster whose nodes have this project installed and share its files; ``local`` starts one.
        reading: how each worker reads its data: what is kept in memory, the cache of shards of a server, ...
    """

    workers: int | tuple[int, int] = 1
    threads: int = 1
    gpu: Literal["auto", "yes", "no"] = "auto"
    max_failures: int = 3
    address: str = "local"
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        low, high = self.span
        if not 0 <= low <= high or (low == 0 and high > 0):
            raise RecipeError(
                f"resources.workers: found {self.workers}; give 0, n >= 1, or [lo, hi] with 1 <= lo <= hi."
            )
        if self.threads < 1:
            raise RecipeError(f"resources.threads: found {self.threads}; it must be at least 1.")

    @property
    def span(self) -> tuple[int, int]:
        """Least and most workers."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)


@dataclass(frozen=True, slots=True)
class Params:
    """The whole of a params.yaml, checked."""

    path: Path
    datasets: Mapping[str, Dataset]
    recipes: Mapping[str, Recipe]
    judge: JudgeParams = field(default_factory=JudgeParams)
    evaluation: Evaluation = field(default_factory=Evaluation)
    gates: Mapping[str, Mapping[str, Bar]] = field(default_factory=dict)
    resources: Mapping[str, Resources] = field(default_factory=dict)
    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    promotion: Promotion = field(default_factory=Promotion)
    studies: Mapping[str, Cast] = field(default_factory=dict)
    tour: Sequence[str] = ()

    def recipe(self, name: str) -> Recipe:
        """A recipe by name. Raises :class:`RecipeError` with the nearest one if there is none."""
        if name not in self.recipes:
            raise RecipeError(
                f"{self.path}: there is no recipe '{name}'. Recipes: {', '.join(self.recipes)}."
                f"{nearest(name, self.recipes)}"
            )
        return self.recipes[name]

    def dataset(self, name: str) -> Dataset:
        """A data set by name. Raises :class:`RecipeError` with the nearest one if there is none."""
        if name not in self.datasets:
            raise RecipeError(
                f"{self.path}: there is no data set '{name}'. Data sets: {', '.join(self.datasets)}."
                f"{nearest(name, self.datasets)}"
            )
        return self.datasets[name]

    def sweep(self, name: str) -> Sweep:
        """The sweep of a recipe. Raises :class:`RecipeError` if params.yaml says nothing of one."""
        if name not in self.sweeps:
            raise RecipeError(
                f"{self.path}: sweeps: there is no entry for '{name}', so nothing says what to vary. "
                f"Sweeps: {', '.join(self.sweeps) or 'none'}. Add one; docs/sweeps.md shows how."
            )
        return self.sweeps[name]

    def resources_of(self, name: str) -> Resources:
        """The resources of a recipe: its own entry, or the default."""
        return self.resources.get(name) or self.resources.get("default") or Resources()


def _resources(checker: Checker, name: str, value: Any) -> Resources:
    where = f"resources.{name}"
    given = checker.mapping(value, where)
    reading = checker.check(
        Reading, checker.mapping(given.pop("reading", None), f"{where}.reading"), f"{where}.reading"
    )
    return replace(checker.check(Resources, given, where), reading=reading)


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check a params.yaml.

    Raises:
        RecipeError: it names the file and the key, what was found, and what is allowed.
    """
    checker = Checker(path)
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file. Run this in the root of the project.") from None
    except YAMLError as problem:
        raise RecipeError(f"{path}: is not valid YAML: {problem}") from None
    sections = checker.mapping(raw, "top level")
    for key in sections:
        if key not in SECTIONS:
            raise RecipeError(
                f"{path}: {key}: unknown section. Allowed: {', '.join(SECTIONS)}.{nearest(key, SECTIONS)}"
            )

    def each(section: str, parse: Callable[[str, Any], T]) -> dict[str, T]:
        given = checker.mapping(sections.get(section), section)
        return {name: parse(name, value) for name, value in given.items()}

    datasets = each("datasets", partial(parse_dataset, checker))
    recipes = each("recipes", lambda name, value: parse_recipe(checker, name, value, datasets))
    resources = each("resources", partial(_resources, checker))
    gates = {
        name: {
            score: checker.check(Bar, checker.mapping(bar, f"gates.{name}.{score}"), f"gates.{name}.{score}")
            for score, bar in checker.mapping(bars, f"gates.{name}").items()
        }
        for name, bars in checker.mapping(sections.get("gates"), "gates").items()
    }
    tour = list(sections.get("tour") or [])
    named = (
        ("gates", gates),
        ("resources", resources),
        ("sweeps", checker.mapping(sections.get("sweeps"), "sweeps")),
        ("tour", tour),
    )
    for section, names in named:
        for name in names:
            if name not in recipes and not (section == "resources" and name == "default"):
                raise RecipeError(
                    f"{path}: {section}: there is no recipe '{name}'. Allowed: {', '.join(recipes)}."
                    f"{nearest(str(name), recipes)}"
                )
    return Params(
        path=path,
        datasets=datasets,
        recipes=recipes,
        judge=checker.check(JudgeParams, checker.mapping(sections.get("judge"), "judge"), "judge"),
        evaluation=checker.check(Evaluation, checker.mapping(sections.get("evaluation"), "evaluation"), "evaluation"),
        gates=gates,
        resources=resources,
        sweeps=each("sweeps", lambda name, value: parse_sweep(checker, name, value, recipes)),
        promotion=parse_promotion(checker, sections.get("promotion"), recipes),
        studies=each("studies", lambda name, value: parse_cast(checker, name, value, recipes)),
        tour=tour,
    )


def with_workers(resources: Resources, workers: int | tuple[int, int] | None) -> Resources:
    """The resources with another number of workers, if one is given on the command line."""
    return resources if workers is None else replace(resources, workers=workers)
