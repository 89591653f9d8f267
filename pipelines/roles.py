"""Which recipes play which roles in which studies: the ``studies:`` section of params.yaml.

    studies:
      latents:
        of: { plane: vae-plane-digits, vae: vae-digits }      # role: recipe
        reads: [models/vae-plane-digits/weights, models/vae-digits/weights, data/shards/digits, data/shards/digits, ...]
        options: { side: 20 }                                 # only what differs from the defaults in the code
        seed: 0

Roles, options and what a role asks of its model are read off the study itself (:mod:`gen.studies.study`). ``reads``
follows from the roles, but DVC can neither follow them nor insert a list into the dependencies of a stage: there are
seven places for them, the last path fills those that are left, and an error here says what they must be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gen.errors import RecipeError, nearest
from gen.recipe import Recipe
from gen.registry import entry as model_entry
from gen.studies.study import Entry, entry, lacking
from pipelines.checking import Checker, schema

PLACES = 7  # in the stage of dvc.yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Cast:
    """One entry of the section.

    Attributes:
        study: its name.
        of: recipes by role, in the order of the study's signature.
        reads: what the stage depends on.
        options: what differs from the defaults.
        seed: of everything random.
    """

    study: str
    of: Mapping[str, str]
    reads: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def entry(self) -> Entry:
        """The study."""
        return entry(self.study)

    def datasets(self, recipes: Mapping[str, Recipe]) -> list[str]:
        """The data sets of the recipes, each once; the judge, if the study has one, is that of the first."""
        return list(dict.fromkeys(recipes[name].dataset for name in self.of.values()))

    def needs(self, recipes: Mapping[str, Recipe]) -> list[str]:
        """What it reads: the models, their data, and the judge if it has one."""
        datasets = self.datasets(recipes)
        models = [f"models/{recipe}/weights" for recipe in dict.fromkeys(self.of.values())]
        judge = [f"data/judge/{datasets[0]}"] if self.entry.judged else []
        return [*models, *(f"data/shards/{name}" for name in datasets), *judge]


def parse_cast(checker: Checker, name: str, value: Any, recipes: Mapping[str, Recipe]) -> Cast:
    """A checked entry of the section. Raises :class:`RecipeError` with the key that is wrong."""
    where = f"studies.{name}"
    try:
        study = entry(name)
    except RecipeError as problem:
        raise RecipeError(f"{checker.path}: {where}: {problem}") from None
    given = checker.mapping(value, where)
    for key in given:
        _known(f"{checker.path}: {where}.{key}", str(key), ("of", "reads", "options", "seed"), "key")
    of = checker.mapping(given.get("of"), f"{where}.of")
    for role in of:
        _known(f"{checker.path}: {where}.of.{role}", str(role), study.roles, "role")
    for role, capability in study.roles.items():
        if role not in of:
            raise RecipeError(f"{checker.path}: {where}.of.{role}: missing. Name the recipe that plays it.")
        _check_role(f"{checker.path}: {where}.of.{role}", of[role], capability, recipes)
    seed = given.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise RecipeError(f"{checker.path}: {where}.seed: found {seed!r}; give a whole number.")
    options = checker.mapping(given.get("options"), f"{where}.options")
    typed: Any = checker.check(schema(name, study.function, study.options), options, f"{where}.options")
    cast = Cast(
        study=name,
        of={role: of[role] for role in study.roles},
        reads=given.get("reads") or (),
        options={key: getattr(typed, key) for key in options},
        seed=seed,
    )
    if study.judged and len(found := cast.datasets(recipes)) > 1:
        raise RecipeError(
            f"{checker.path}: {where}.of: these recipes have the data sets {', '.join(found)}; distances compare "
            "models of one."
        )
    needs = cast.needs(recipes)
    if len(cast.reads) != PLACES or list(dict.fromkeys(cast.reads)) != needs:
        filled = [*needs, *needs[-1:] * (PLACES - len(needs))]
        raise RecipeError(
            f"{checker.path}: {where}.reads: found {given.get('reads')!r}; with these recipes it must be "
            f"[{', '.join(filled)}]: {PLACES} places, for DVC, the last path in those that are left."
        )
    return cast


def _check_role(place: str, recipe: Any, capability: type, recipes: Mapping[str, Recipe]) -> None:
    """The recipe exists, and its model can do what the role asks for, as far as its class tells."""
    if recipe not in recipes:
        raise RecipeError(
            f"{place}: there is no recipe '{recipe}'. Allowed: {', '.join(recipes)}.{nearest(str(recipe), recipes)}"
        )
    model = model_entry(recipes[recipe].model)
    if missing := lacking(model.cls, capability):
        fitting = [name for name, each in recipes.items() if not lacking(model_entry(each.model).cls, capability)]
        raise RecipeError(
            f"{place}: the model of '{recipe}', {model.name}, has no {', '.join(missing)}, which this role asks for. "
            f"Recipes whose models have: {', '.join(fitting) or 'none'}."
        )


def _known(place: str, name: str, allowed: Any, what: str) -> None:
    if name not in allowed:
        raise RecipeError(f"{place}: unknown {what}. Allowed: {', '.join(allowed)}.{nearest(name, allowed)}")
