"""What a study is: a demonstration of the lecture as a function of trained models, which returns what it found.

    @study("latents")
    def latents(*, plane: Trained[Encodes], vae: Trained[Encodes], seed: int, side: int = 20) -> Findings: ...

The signature is the schema. An argument annotated :class:`Trained` is a role, and what stands in brackets is what the
model in it must be able to do; ``judge: Judge`` asks for the judge of the data and ``seed: int`` for the seed; what has
a default is an option of params.yaml. The docstring of the file is the study's text: first line
``Title: the question it answers``, then the idea, then the references. A study trains nothing.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import RecipeError, nearest
from gen.evaluate.bench import in_space
from gen.evaluate.judge import Judge

M = TypeVar("M")
Study = TypeVar("Study", bound=Callable[..., "Findings"])


@dataclass(frozen=True, slots=True)
class Trained(Generic[M]):
    """A trained model in a role, and the data it was trained on.

    Attributes:
        recipe: the name of its recipe.
        model: in evaluation mode, on the CPU.
        spec: shape and space of its images.
        split: images, uint8 (N, C, H, W), and labels, int64 (N,) or ``None``, of a split of its data set by name.
    """

    recipe: str
    model: M
    spec: DataSpec
    split: Callable[[str], tuple[Tensor, Tensor | None]]

    def images(self, split: str, *, seed: int, count: int | None = None) -> Tensor:
        """``count`` images of a split, evenly spread over it, or all of them, in the model's space, (N, C, H, W)."""
        images = self.split(split)[0]
        return in_space(images[spread(len(images), count or len(images))], self.spec.space, seed=seed)

    def double(self) -> Trained[M]:
        """The same with a copy of the model that computes in double precision."""
        model: Any = self.model
        return Trained(self.recipe, copy.deepcopy(model).double(), self.spec, self.split)


def lacking(model: object, capability: type) -> list[str]:
    """What a protocol names and a model, or its class as far as methods go, does not have.

    ``isinstance`` asks no more, but from Python 3.12 on it does not see the submodules of a torch module.
    """
    bases = [base for base in capability.__mro__ if getattr(base, "_is_protocol", False) and base is not Protocol]
    members = {name: each for base in bases for name, each in vars(base).items() if not name.startswith("_")}
    wanted = [name for name, each in members.items() if inspect.isfunction(each) or not isinstance(model, type)]
    return [name for name in wanted if not hasattr(model, name)]


def spread(total: int, count: int) -> Tensor:
    """``count`` rows out of ``total``, evenly spread, or all of them: splits may be sorted by class."""
    return torch.arange(min(count, total)) * total // min(count, total)


@dataclass(frozen=True, slots=True)
class Figure:
    """A PNG, and what it shows in a line without a full stop."""

    png: bytes
    caption: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a study found.

    Attributes:
        figures: by name, in the order in which they are shown.
        sentences: what they say, with the measured numbers in them.
        numbers: what was measured, JSON-able: numbers, and lists and mappings of numbers, by name.
    """

    figures: Mapping[str, Figure]
    sentences: tuple[str, str]
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A registered study.

    Attributes:
        name: as in ``gen study NAME``.
        function: what runs it.
    """

    name: str
    function: Callable[..., Findings]

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function)

    @property
    def file(self) -> str:
        """Its file below ``gen/studies``."""
        return self.function.__module__.rpartition(".")[2] + ".py"

    @property
    def text(self) -> str:
        """The docstring of that file."""
        return inspect.getdoc(inspect.getmodule(self.function)) or self.name

    @property
    def roles(self) -> dict[str, type]:
        """Roles, and the capability that each asks for."""
        return {key: get_args(hint)[0] for key, hint in self._hints.items() if get_origin(hint) is Trained}

    @property
    def judged(self) -> bool:
        """Whether it measures in the features of a judge."""
        return Judge in self._hints.values()

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """What params.yaml may set."""
        return {key: p for key, p in inspect.signature(self.function).parameters.items() if p.default is not p.empty}


_entries: dict[str, Entry] = {}


def study(name: str) -> Callable[[Study], Study]:
    """Decorator that files a study under ``name``."""

    def file(function: Study) -> Study:
        if name in _entries:
            raise ValueError(f"two studies are registered as '{name}': {_entries[name].function} and {function}")
        _entries[name] = Entry(name, function)
        return function

    return file


def list_studies() -> list[str]:
    """Names of the studies, in the order of the table of contents."""
    import_module("gen.studies")
    return list(_entries)


def entry(name: str) -> Entry:
    """A study by name. Raises :class:`RecipeError` if there is none."""
    names = list_studies()
    if name not in _entries:
        raise RecipeError(f"there is no study '{name}'. Allowed: {', '.join(names)}.{nearest(name, names)}")
    return _entries[name]
