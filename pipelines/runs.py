"""``gen runs``: list the runs, close those whose process is gone, send what MLflow has not been told."""

from __future__ import annotations

from pipelines.command import AddCommand


def add_runs_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
