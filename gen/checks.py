"""Checks of numbers that a recipe gives."""

from __future__ import annotations

from gen.errors import RecipeError


def at_least(least: float, **hyper: float) -> None:
    """Raise :class:`RecipeError` for the first of these hyper-parameters that is below ``least``, or no number."""
    for name, value in hyper.items():
        if not value >= least:
            raise RecipeError(f"hyper.{name}: found {value}, allowed {least} and more; leave it out for the default.")
