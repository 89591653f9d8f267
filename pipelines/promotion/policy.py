"""What a version must show before an alias moves to it: the ``promotion:`` section of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gen.recipe import Recipe
from pipelines.checking import Checker


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """To be written."""


def parse_promotion(checker: Checker, value: Any, recipes: Mapping[str, Recipe]) -> Promotion:
    """To be written."""
    return Promotion()
