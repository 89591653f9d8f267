"""Checks of numbers that a recipe gives."""

from __future__ import annotations

from gen.errors import RecipeError


def at_least(least: float, **hyper: float) -> None:
    """Raise :class:`RecipeError` for the first of these hyper-parameters that is below ``least``, or no number."""
    for name, value in hyper.items():
        if not value >= least:
            raise RecipeError(f"hyper.{name}: found {value}, allowed {least} and more; leave it out for the default.")


def divisible(colours: int, **hyper: int) -> None:
    """Raise :class:`RecipeError` for the first of these numbers of features that is no multiple of the channels."""
    for name, value in hyper.items():
        if value < 1 or value % colours:
            raise RecipeError(
                f"hyper.{name}: found {value}, allowed positive multiples of the image's {colours} channels. "
                f"Use {max(1, -(-value // colours)) * colours}."
            )


def odd(**hyper: int) -> None:
    """Raise :class:`RecipeError` for the first of these widths that has no middle, or is 1."""
    for name, value in hyper.items():
        if value < 3 or value % 2 == 0:
            raise RecipeError(f"hyper.{name}: found {value}, allowed odd numbers from 3. Use {max(3, value | 1)}.")
