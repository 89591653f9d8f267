"""Change single values in a YAML file and leave every other byte as it is: comments, order, quotes, line breaks.

A parser says where in the text each value stands; the new ones are written there, and keys that are missing are put
where a person would. Nothing is ever re-emitted, because no emitter gives back what it read. What comes of it is parsed
again and must be the old content with exactly these values changed.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from gen.errors import RecipeError

Tree = Mapping[str, Any]
FLOW = (" ", ",", "[", "]", "{", "}", ":", "#")


class Edit(NamedTuple):
    """``text[start:end]`` becomes ``new``."""

    start: int
    end: int
    new: str


def put(text: str, path: tuple[str, ...], values: Tree, *, last: tuple[str, ...] = ()) -> str:
    """The text with values put in.

    Args:
        text: YAML, one document.
        path: keys down to a mapping that is there.
        values: what to put there: a nested mapping goes into the mapping of that name, anything else is a value.
        last: keys before which new ones are put, where they are there.

    Raises:
        RecipeError: it cannot be done without touching something else; the message says what stands in the way, to be
            put after the file's name.
    """
    node = YAML(typ="safe", pure=True).compose(text)
    for depth, key in enumerate(path):
        _check_unshared(node, path[:depth])
        pair = _pairs(node).get(key)
        if pair is None:
            raise RecipeError(f"{'.'.join(path[: depth + 1])}: is not written out there.")
        node = pair[1]
    surgeon = _Surgeon(text, last)
    edits = sorted(surgeon.edits(node, values, path))  # at one place, what is indented more comes first
    for start, end, new in reversed(edits):
        text = text[:start] + new + text[end:]
    _check(surgeon.text, text, path, values)
    return text


class _Surgeon:
    """Finds the edits of one text."""

    def __init__(self, text: str, last: tuple[str, ...]) -> None:
        self.text, self.last = text, last
        self.line_break = "\r\n" if "\r\n" in text else "\n"
        self.grouped = re.search(r"\d_\d{3}\b", text) is not None  # the file writes 100_000

    def edits(self, node: Node, values: Tree, path: tuple[str, ...]) -> Iterator[Edit]:
        """What turns a mapping into one with these values."""
        _check_unshared(node, path)
        if not isinstance(node, MappingNode):
            raise RecipeError(f"{'.'.join(path)}: expected keys and values, found {_short(self.text, node)}.")
        pairs = _pairs(node)
        missing = {}
        for key, value in values.items():
            if key not in pairs:
                missing[key] = value
                continue
            here = (*path, key)
            found = pairs[key][1]
            if isinstance(value, Mapping) and not _is_empty(found):
                yield from self.edits(found, value, here)
            else:
                yield from self._replace(pairs[key], value, here)
        if missing:
            if "<<" in pairs:
                raise RecipeError(
                    f"{'.'.join((*path, next(iter(missing))))}: comes from `<<`, or would hide what comes from there. "
                    "Write it out by hand first."
                )
            yield self._insert(node, missing)

    def _replace(self, pair: tuple[Node, Node], value: Any, path: tuple[str, ...]) -> Iterator[Edit]:
        key, found = pair
        for part in _parts(found):
            _check_unshared(part, path)
        if isinstance(found, MappingNode) and not isinstance(value, Mapping):
            raise RecipeError(f"{'.'.join(path)}: keys and values stand there; a value cannot take their place.")
        if _is_implicit(found):  # `key:` and nothing
            colon = self.text.find(":", key.end_mark.index) + 1
            yield Edit(colon, colon, f" {self.written(value)}")
            return
        start, end = found.start_mark.index, _end(found)
        source = self.text[start:end]
        if _same(_parsed(source), value):
            return
        if "#" in source and not isinstance(found, ScalarNode):
            raise RecipeError(f"{'.'.join(path)}: has comments inside, which would be lost. Change it by hand.")
        yield Edit(start, end, self.written(value, quote=found.style if isinstance(found, ScalarNode) else None))

    def _insert(self, node: MappingNode, values: Tree) -> Edit:
        """New keys: in one line after the others, or each on a line of its own."""
        written = [f"{self.written(key)}: {self.written(value)}" for key, value in values.items()]
        if node.flow_style:
            if not node.value:
                return Edit(node.start_mark.index, node.end_mark.index, f"{{ {', '.join(written)} }}")
            place = max(_end(each) for each in node.value[-1])
            return Edit(place, place, "".join(f", {each}" for each in written))
        before = next((n for n, (key, _) in enumerate(node.value) if n and key.value in self.last), len(node.value))
        place = max(_end(each) for each in node.value[before - 1])
        if self.text[place - 1] != "\n":  # what is left of the line: a comment
            found = self.text.find("\n", place)
            place = len(self.text) if found < 0 else found + 1
        indent = " " * node.value[0][0].start_mark.column
        lines = "".join(f"{indent}{each}{self.line_break}" for each in written)
        return Edit(place, place, lines if self.text[place - 1] == "\n" else f"{self.line_break}{lines.rstrip()}")

    def written(self, value: Any, *, quote: str | None = None) -> str:
        """A value as this file would write it, fit for a line of its own and for braces."""
        match value:
            case None:
                return "null"
            case bool():
                return "true" if value else "false"
            case int():
                return f"{value:_}" if self.grouped and abs(value) >= 1_000 else str(value)
            case float():
                return _number(value)
            case str():
                if quote == "'":
                    return "'" + value.replace("'", "''") + "'"
                plain = quote is None and not any(mark in value for mark in FLOW) and _same(_parsed(value), value)
                return value if plain else json.dumps(value, ensure_ascii=False)
            case list() | tuple():
                return f"[{', '.join(self.written(each) for each in value)}]"
            case Mapping():
                inside = ", ".join(f"{self.written(key)}: {self.written(each)}" for key, each in value.items())
                return f"{{ {inside} }}"
        raise RecipeError(f"cannot write {value!r} into YAML.")


def _number(value: float) -> str:
    """The shortest digits that give the number back; small ones as 7.34e-4."""
    if not math.isfinite(value):
        raise RecipeError(f"cannot write {value!r} into a recipe.")
    if value != 0 and abs(value) < 1e-3:
        shortest = next(text for digits in range(18) if float(text := f"{value:.{digits}e}") == value)
        mantissa, exponent = shortest.split("e")
        return f"{mantissa}e{int(exponent)}"
    return repr(value)


def _parsed(text: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return None


def _pairs(node: Node) -> dict[str, tuple[Node, Node]]:
    return {key.value: (key, value) for key, value in node.value} if isinstance(node, MappingNode) else {}


def _parts(node: Node) -> Iterator[Node]:
    """A node and everything in it."""
    yield node
    for each in node.value if not isinstance(node, ScalarNode) else ():
        for part in each if isinstance(each, tuple) else (each,):
            yield from _parts(part)


def _short(text: str, node: Node) -> str:
    """The first line of a node's text."""
    return repr(text[node.start_mark.index : _end(node)].partition("\n")[0])


def _is_implicit(node: Node) -> bool:
    """Whether there is no text of it: ``key:`` and nothing."""
    return isinstance(node, ScalarNode) and node.style is None and node.value == ""


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and (node.value in ("", "~") or node.value.lower() == "null")


def _end(node: Node) -> int:
    """Where a node's text ends; the end of what is in it, for blocks, whose own mark lies behind what follows them."""
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return max(_end(each) for each in last) if isinstance(last, tuple) else _end(last)


def _check_unshared(node: Node, path: tuple[str, ...]) -> None:
    if node.anchor:
        raise RecipeError(
            f"{'.'.join(path)}: is the anchor &{node.anchor}, which other places may share: to change it would change "
            "them too. Write it out by hand first."
        )


def _same(a: Any, b: Any) -> bool:
    """Whether two contents are one, types and all; the order of keys is not content."""
    return json.dumps(a, sort_keys=True, default=repr) == json.dumps(b, sort_keys=True, default=repr)


def _check(before: str, after: str, path: tuple[str, ...], values: Tree) -> None:
    """Raise unless the text says what it said before, with exactly these values put in."""

    def merge(place: dict[str, Any], tree: Tree) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                place[key] = copy.deepcopy(place.get(key)) or {}
                merge(place[key], value)
            else:
                place[key] = value

    wanted = _parsed(before)
    place = wanted
    for key in path:
        place = place[key]
    merge(place, values)
    if not _same(_parsed(after), wanted):
        raise RecipeError(f"{'.'.join(path)}: is written in a way that cannot be changed safely. Change it by hand.")
