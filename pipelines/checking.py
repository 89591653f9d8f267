"""Strictly typed sections of a YAML file; errors name file and key, what was found and what is allowed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails

from gen.errors import RecipeError, nearest

T = TypeVar("T")


class Checker:
    """Validates sections of one file and words the errors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, kind: type[T], value: Mapping[str, Any], where: str) -> T:
        """``value`` as ``kind``, strictly typed."""
        allowed = list(inspect.signature(kind).parameters)
        for key in value:
            if key not in allowed:
                raise RecipeError(
                    f"{self.path}: {where}.{key}: unknown key. Allowed: {', '.join(allowed) or 'none'}."
                    f"{nearest(str(key), allowed)}"
                )
        adapter: TypeAdapter[T] = TypeAdapter(kind)
        try:
            return adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as problem:
            raise RecipeError("\n".join(self._word(e, where) for e in problem.errors())) from None
        except RecipeError as problem:
            raise RecipeError(f"{self.path}: {where}: {problem}") from None

    def _word(self, problem: ErrorDetails, where: str) -> str:
        place = ".".join([where, *(str(part) for part in problem["loc"] if not str(part).startswith("tuple["))])
        if problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            return f"{self.path}: {place}: missing. Add it."
        return f"{self.path}: {place}: {problem['msg'][:1].lower()}{problem['msg'][1:]}; found {problem['input']!r}."

    def numbers(self, value: Any, where: str) -> dict[str, float]:
        """``value`` as a mapping to numbers."""
        found = self.mapping(value, where)
        for key, each in found.items():
            if isinstance(each, bool) or not isinstance(each, int | float):
                raise RecipeError(f"{self.path}: {where}.{key}: found {each!r}; give a number.")
        return found

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        """``value`` as a mapping; nothing given is an empty one."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise RecipeError(f"{self.path}: {where}: expected keys and values; found {value!r}.")
        return value


def schema(name: str, function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> type:
    """The pydantic schema of keyword arguments, read off the function that takes them."""
    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        key: (hints[key], ... if p.default is p.empty else p.default) for key, p in parameters.items()
    }
    found: type = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    return found
