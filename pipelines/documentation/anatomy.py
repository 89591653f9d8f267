"""What a model's class says of itself: hyper-parameters, spaces and capabilities."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args, get_origin, get_type_hints

import gen.model
from gen.registry import Entry


@dataclass(frozen=True, slots=True)
class Hyper:
    """One hyper-parameter.

    Attributes:
        name: in the recipe's ``hyper`` section.
        kind: its type; for a choice, what may be chosen.
        default: as it would be written in params.yaml; empty if it must be given.
        text: what the class's docstring says about it, as it is written there.
    """

    name: str
    kind: str
    default: str
    text: str


@dataclass(frozen=True, slots=True)
class Capability:
    """Something that evaluation can ask of the model.

    Attributes:
        name: of the protocol in gen/model.py.
        text: first line of its docstring.
        methods: that make it up.
    """

    name: str
    text: str
    methods: Sequence[str]


def hyper_parameters(entry: Entry) -> list[Hyper]:
    """The constructor's, in its order."""
    described = arguments(inspect.getdoc(entry.cls) or "")
    hints = get_type_hints(entry.cls.__init__)
    return [
        Hyper(name, kind(hints[name], str(parameter.annotation)), default(parameter.default), described.get(name, ""))
        for name, parameter in entry.hyper.items()
    ]


def arguments(doc: str) -> dict[str, str]:
    """The ``Args:`` of a docstring: name -> text on one line."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if not section:
        return {}
    lines = inspect.cleandoc(section[1])
    found = re.findall(r"^(\w+)(?: \([^)]*\))?:[ \n]((?:.*(?:\n[ \t]+.*|\n(?=\n*[ \t]))*))", lines, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def kind(hint: Any, written: str) -> str:
    """A type in words: the choices of a ``Literal``, or as it is written."""
    if get_origin(hint) is Literal:
        return " or ".join(default(choice) for choice in get_args(hint))
    return written


def default(value: Any) -> str:
    """A value as it would be written in params.yaml."""
    if value is inspect.Parameter.empty:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def capabilities(entry: Entry) -> list[Capability]:
    """The protocols of gen/model.py that the class satisfies, in their order there."""
    protocols = [found for found in vars(gen.model).values() if getattr(found, "_is_protocol", False)]
    return [
        Capability(
            protocol.__name__,
            (inspect.getdoc(protocol) or "").partition("\n")[0],
            [
                name
                for name, member in vars(protocol).items()
                if inspect.isfunction(member) and not name.startswith("_")
            ],
        )
        for protocol in protocols
        if protocol.__module__ == gen.model.__name__ and issubclass(entry.cls, protocol)
    ]


def chapter_doc(entry: Entry) -> str:
    """The docstring of a model's file."""
    return inspect.getdoc(import_module(entry.cls.__module__)) or entry.name


def family(entry: Entry) -> tuple[str, str]:
    """Title and one sentence on the models of a family, from the docstring of its package, or from its name."""
    package = entry.cls.__module__.rpartition(".")[0]
    folder = package.rpartition(".")[2].replace("_", " ").capitalize()
    title, _, text = " ".join((inspect.getdoc(import_module(package)) or folder).split()).partition(":")
    return title.rstrip("."), text.strip()


def code_begins(entry: Entry) -> int:
    """The line of a model's file on which its docstring is over."""
    first = ast.parse(inspect.getsource(import_module(entry.cls.__module__))).body[0]
    return (first.end_lineno or 0) + 1 if isinstance(first, ast.Expr) else 1
