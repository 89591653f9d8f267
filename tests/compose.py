"""infra/compose.yaml as Docker reads it: variables put in. What its services run can be run without Docker, too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

INFRA = Path(__file__).parents[1] / "infra"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?+])([^}]*))?\}")


def example_variables() -> dict[str, str]:
    """Every variable of example.env, set or commented out, with its value there."""
    lines = (INFRA / "tracking" / "example.env").read_text().splitlines()
    found = (re.fullmatch(r"#?([A-Z0-9_]+)=(\S*).*", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def interpolated(text: str, given: Mapping[str, str]) -> str:
    """``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}`` and ``${NAME:+instead}`` of Compose, not nested."""

    def value(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        found = given.get(name, "")
        if kind == "+":
            return word if found else ""
        if kind == "?" and not found:
            raise KeyError(f"{name}: {word}")
        return found or (word if kind == "-" else "")

    return VARIABLE.sub(value, text)


def filled(node: Any, given: Mapping[str, str]) -> Any:
    """What YAML holds, with variables put into every text of it."""
    if isinstance(node, Mapping):
        return {key: filled(value, given) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, given) for value in node]
    return interpolated(node, given) if isinstance(node, str) else node


def compose(**given: str) -> dict[str, Any]:
    """The file with these variables."""
    read: dict[str, Any] = filled(YAML(typ="safe", pure=True).load((INFRA / "compose.yaml").read_text()), given)
    for service in read["services"].values():  # a variable without a value has that of the same name, or is not there
        asked = {
            name: given.get(name) if value is None else value for name, value in service.get("environment", {}).items()
        }
        service["environment"] = {name: str(value) for name, value in asked.items() if value is not None}
    return read


def words(command: str | list[str]) -> list[str]:
    """A command as Docker runs it: a list as it is, a text in the words of a shell, without one."""
    return shlex.split(command) if isinstance(command, str) else list(command)
