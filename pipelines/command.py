"""How a package adds its commands to ``gen``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

from pipelines.layout import Layout

Work = Callable[[argparse.Namespace, Layout], int | None]
"""A command: parsed arguments and where things lie; its exit code, ``None`` for 0. Errors are :class:`GenError`."""


class AddCommand(Protocol):
    """Adds one command to ``gen``."""

    def __call__(self, name: str, work: Work, summary: str, more: str = "") -> argparse.ArgumentParser:
        """The parser of the command ``name``, to which its arguments are added."""
        ...
