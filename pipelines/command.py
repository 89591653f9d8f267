"""How commands are added to ``gen``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Protocol

from pipelines.layout import Layout

Work = Callable[[argparse.Namespace, Layout], int | None]
"""A command: parsed arguments and where things lie; its exit code, ``None`` for 0. Errors are :class:`GenError`."""


class AddCommand(Protocol):
    """Adds one command to ``gen``."""

    def __call__(self, name: str, work: Work, summary: str, more: str = "") -> argparse.ArgumentParser:
        """The parser of the command ``name``, to which its arguments are added."""
        ...


def adder(commands: Any, *, json: bool = False) -> AddCommand:
    """What adds commands beside each other.

    Args:
        commands: what ``add_subparsers`` gave.
        json: every one of them takes ``--json``.
    """

    def add(name: str, work: Work, summary: str, more: str = "") -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}"
        )
        added.set_defaults(work=work)
        if json:
            added.add_argument("--json", action="store_true", help="print JSON")
        return added

    return add
