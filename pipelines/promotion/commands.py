"""The commands of pipelines.promotion."""

from __future__ import annotations

from pipelines.command import AddCommand


def add_promotion_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
