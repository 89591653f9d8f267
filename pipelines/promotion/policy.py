"""What a version must show before an alias moves to it: the ``promotion:`` section of params.yaml.

    promotion:
      default:                                        # of every recipe, unless its own entry says otherwise
        confidence: 0.95
        resamples: 1_000
        seed: 0
        images: 16
        latency: { images: 16, at_most_seconds: 10 }
      vae-digits:
        no_regression: { nats: { margin: 0.5 } }      # at most 0.5 nats worse than the champion

The absolute bars are those of ``gates:``, which stage ``evaluate`` holds a model to as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gen.errors import RecipeError, nearest
from gen.evaluate.regression import COMPARISONS
from gen.recipe import Recipe
from gen.registry import entry
from pipelines.checking import Checker


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin:
    """How much worse than the champion a score may be, in its own unit: less than anybody would notice.

    Attributes:
        margin: the lower end of the interval of the difference must lie above its negative.
    """

    margin: float

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise RecipeError(f"margin: found {self.margin:g}; it must be at least 0, and finite.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """How long a request may take, on the machine that runs the gate.

    Attributes:
        images: drawn in one go.
        at_most_seconds: for all of them, the median of several tries.
    """

    images: int = 16
    at_most_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.images < 1 or not self.at_most_seconds > 0:
            raise RecipeError(
                f"found {self.images} images in at most {self.at_most_seconds:g} seconds; give at least one image, "
                "and more than no time."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The gate of one recipe, beside its bars.

    Attributes:
        no_regression: scores that must not fall behind the champion's, see :mod:`gen.evaluate.regression`.
        confidence: of the intervals of the differences.
        resamples: of the bootstrap.
        seed: of the bootstrap; what is measured is measured under that of ``evaluation:``.
        images: of the smoke sample.
        latency: of sampling.
    """

    no_regression: Mapping[str, Margin] = field(default_factory=dict)
    confidence: float = 0.95
    resamples: int = 1_000
    seed: int = 0
    images: int = 16
    latency: Latency = field(default_factory=Latency)

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise RecipeError(f"confidence: found {self.confidence:g}; it must be from 0.5 to below 1.")
        if self.resamples * (1 - self.confidence) < 10:
            raise RecipeError(
                f"resamples: found {self.resamples}; an interval of {self.confidence:g} needs at least "
                f"{10 / (1 - self.confidence):.0f}, or its ends are chance."
            )
        if self.images < 1:
            raise RecipeError(f"images: found {self.images}; it must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """The gates of all recipes."""

    recipes: Mapping[str, Policy] = field(default_factory=dict)

    def policy(self, recipe: str) -> Policy:
        """That of one recipe."""
        return self.recipes.get(recipe, Policy())


def parse_promotion(checker: Checker, value: Any, recipes: Mapping[str, Recipe]) -> Promotion:
    """The section, checked. Raises :class:`RecipeError` with the key that is wrong."""
    sections = checker.mapping(value, "promotion")
    for name in sections:
        if name != "default" and name not in recipes:
            raise RecipeError(
                f"{checker.path}: promotion: there is no recipe '{name}'. Allowed: default, {', '.join(recipes)}."
                f"{nearest(str(name), ['default', *recipes])}"
            )
    given = {name: checker.mapping(section, f"promotion.{name}") for name, section in sections.items()}
    shared = given.pop("default", {})
    _policy(checker, shared, "promotion.default")  # whether or not anybody takes all of it over
    policies = {}
    for name, recipe in recipes.items():
        where, own = f"promotion.{name}", given.get(name, {})
        policy = _policy(checker, {**shared, **own}, where if own else "promotion.default")
        _can_be_measured(checker, policy, recipe, where if "no_regression" in own else "promotion.default")
        policies[name] = policy
    return Promotion(recipes=policies)


def _policy(checker: Checker, given: Mapping[str, Any], where: str) -> Policy:
    fields = dict(given)
    parts: dict[str, Any] = {}
    if "no_regression" in fields:
        place = f"{where}.no_regression"
        scores = checker.mapping(fields.pop("no_regression"), place)
        for score in scores:
            if score not in COMPARISONS:
                raise RecipeError(
                    f"{checker.path}: {place}.{score}: two models cannot be compared on it. "
                    f"Allowed: {', '.join(COMPARISONS)}.{nearest(str(score), COMPARISONS)}"
                )
        parts["no_regression"] = {
            score: checker.check(Margin, checker.mapping(margin, f"{place}.{score}"), f"{place}.{score}")
            for score, margin in scores.items()
        }
    if "latency" in fields:
        place = f"{where}.latency"
        parts["latency"] = checker.check(Latency, checker.mapping(fields.pop("latency"), place), place)
    return replace(checker.check(Policy, fields, where), **parts)


def _can_be_measured(checker: Checker, policy: Policy, recipe: Recipe, where: str) -> None:
    """Raise unless the recipe's model has every score that is asked for."""
    model = entry(recipe.model).cls
    has = [score for score, how in COMPARISONS.items() if issubclass(model, how.capability)]
    for score in policy.no_regression:
        if score not in has:
            raise RecipeError(
                f"{checker.path}: {where}.no_regression.{score}: {model.__name__}, the model of '{recipe.name}', has "
                f"no such score. Allowed: {', '.join(has) or 'none'}."
            )
