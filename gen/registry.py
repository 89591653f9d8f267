"""Models by name.

    @register("dcgan")
    class DCGAN(GenerativeModel): ...

    model = build("dcgan", spec, width=32)

Adding a model touches one new file, one line in ``gen/models/__init__.py`` and one recipe in ``params.yaml``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from typing import Any, TypeVar

from gen.data.spaces import DataSpec
from gen.errors import RecipeError, nearest
from gen.model import GenerativeModel

Model = TypeVar("Model", bound=type[GenerativeModel])


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered model.

    Attributes:
        name: as in ``build(name, ...)``.
        chapter: family and file below ``gen/models``, e.g. ``adversarial/dcgan``: what a recipe names.
        cls: the class.
    """

    name: str
    chapter: str
    cls: type[GenerativeModel]

    @property
    def summary(self) -> str:
        """First line of the chapter's docstring."""
        return (inspect.getdoc(inspect.getmodule(self.cls)) or "").partition("\n")[0]

    @property
    def hyper(self) -> Mapping[str, inspect.Parameter]:
        """The hyper-parameters: the constructor's keyword-only arguments."""
        parameters = inspect.signature(self.cls).parameters
        return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


_entries: dict[str, Entry] = {}


def register(name: str) -> Callable[[Model], Model]:
    """Class decorator that files a model under ``name``."""

    def file(cls: Model) -> Model:
        if name in _entries:
            raise ValueError(f"two models are registered as '{name}': {_entries[name].cls} and {cls}")
        chapter = cls.__module__.removeprefix("gen.models.").replace(".", "/")
        _entries[name] = Entry(name, chapter, cls)
        return cls

    return file


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered models that match a shell pattern, in the order of the table of contents."""
    import_module("gen.models")
    return [name for name in _entries if fnmatch(name, pattern)]


def entry(name: str) -> Entry:
    """The entry of a model, by its name or its chapter. Raises :class:`RecipeError` if there is none."""
    names = list_models()
    for candidate in _entries.values():
        if name in (candidate.name, candidate.chapter):
            return candidate
    raise RecipeError(f"model: there is no model '{name}'. Allowed: {', '.join(names)}.{nearest(name, names)}")


def build(name: str, spec: DataSpec, **hyper: Any) -> GenerativeModel:
    """An untrained model.

    Raises:
        RecipeError: no such model, a hyper-parameter it does not have, or a space its objective is not meant for.
    """
    found = entry(name)
    for key in hyper:
        if key not in found.hyper:
            raise RecipeError(
                f"hyper.{key}: {found.name} has no such hyper-parameter. "
                f"Allowed: {', '.join(found.hyper) or 'none'}.{nearest(key, found.hyper)}"
            )
    if spec.space.kind not in found.cls.spaces:
        raise RecipeError(
            f"space: {found.name} does not live in '{spec.space}'. Allowed: {', '.join(found.cls.spaces)}. "
            "Change `space` in the recipe."
        )
    return found.cls(spec, **{key: tuple(v) if isinstance(v, list) else v for key, v in hyper.items()})
