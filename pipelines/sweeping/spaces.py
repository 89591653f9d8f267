"""What a sweep varies and what it looks for: the ``sweeps:`` section of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gen.recipe import Recipe
from pipelines.checking import Checker
from pipelines.datasets import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """To be written."""

    recipe: str


def parse_sweep(
    checker: Checker, name: str, value: Any, recipes: Mapping[str, Recipe], datasets: Mapping[str, Dataset]
) -> Sweep:
    """To be written."""
    return Sweep(recipe=name)
