"""What population-based training may change in the middle of a training [Jaderberg et al. 2017].

A member that goes on from the weights of a better one takes over all of its values, so the weights always fit. Beyond
that it may change only what leaves the shapes of weights and of optimizers' states as they are: fields of optimizers,
and hyper-parameters that are no sizes. The rest of a sweep's space stays what it was when the better one was drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.recipe import Recipe
from gen.registry import build
from pipelines.sweeping.dimensions import RANGES, Dimension
from pipelines.sweeping.spaces import Sweep, varied


def mutations(sweep: Sweep, recipe: Recipe, spec: DataSpec) -> Mapping[str, Sequence[Any] | Callable[[], Any]]:
    """By key, what a member may change to: choices to step along, or what draws a value anew.

    Raises:
        RecipeError: the sweep varies nothing that can be changed in the middle of a training.
    """
    found = {
        key: partial(_drawn, dimension) if dimension.kind in RANGES else list(dimension.given)
        for key, dimension in sweep.space.items()
        if _changeable(dimension, recipe, spec)
    }
    if not found:
        raise RecipeError(
            f"sweeps.{sweep.recipe}.space: varies nothing that population-based training can change in the middle of "
            f"a training: {', '.join(sweep.space)}. Add a field of an optimizer, or use --scheduler asha."
        )
    return found


def _changeable(dimension: Dimension, recipe: Recipe, spec: DataSpec) -> bool:
    section, *_, field = dimension.key.split(".")
    if section != "hyper":
        return section == "optim" and field != "algorithm"
    shapes = set()
    with torch.random.fork_rng(devices=[]):
        for value in dimension.given:
            model = build(recipe.model, spec, **varied(recipe, {dimension.key: value}).hyper)
            shapes.add(tuple((name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()))
    return len(shapes) == 1


def _drawn(dimension: Dimension) -> Any:
    return dimension.draw(random.random())


@dataclass(frozen=True, slots=True)
class Tidy:
    """Brings values that were multiplied by something back into their ranges.

    Attributes:
        space: of the sweep.
    """

    space: Mapping[str, Dimension]

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, each in its range and rounded."""
        return {key: self.space[key].tidy(value) for key, value in values.items()}
