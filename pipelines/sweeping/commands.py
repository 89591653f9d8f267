"""The commands of pipelines.sweeping."""

from __future__ import annotations

from pipelines.command import AddCommand


def add_sweeping_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
