"""The commands of pipelines.serving."""

from __future__ import annotations

from pipelines.command import AddCommand


def add_serving_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
