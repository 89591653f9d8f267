"""What every stage and command shares: errors in words, exit codes, and dying with DVC."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from gen.errors import GenError
from pipelines.layout import Layout
from pipelines.lifeline import tie_to_parent


def explain(work: Callable[[], int | None]) -> int:
    """Run ``work``; an error the user can act on becomes its message and its exit code, without a traceback."""
    try:
        return work() or 0
    except GenError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130


def stage(summary: str, work: Callable[[str, Layout], None], *, names: str) -> int:
    """The ``main`` of a stage file: one positional name, the project root, and the life of its parent.

    Args:
        summary: for ``--help``.
        work: the stage.
        names: what the positional argument names, e.g. ``RECIPE``.
    """
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("name", metavar=names)
    parser.add_argument("--root", type=Path, default=Path(), help="root of the project (default: here)")
    arguments = parser.parse_args()
    tie_to_parent()
    return explain(lambda: work(arguments.name, Layout(arguments.root.resolve())))
