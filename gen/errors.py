"""Errors a user can act on.

Every message says what was found, where, what is allowed and what to do next. The command line prints the
message without a traceback and exits with the error's code, so scripts can tell the cases apart.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GenError(Exception):
    """Something the user can put right. Base of every error this project raises on purpose."""

    exit_code = 1


class RecipeError(GenError):
    """A recipe, parameter or argument that does not say something possible."""

    exit_code = 2


class DataError(GenError):
    """Data that is missing, damaged or not what its manifest says."""

    exit_code = 3


class StoreError(GenError):
    """A stored model or checkpoint that is damaged, or belongs to another recipe."""

    exit_code = 5


class TrainingError(GenError):
    """Training that cannot go on: not-finite gradients, lost workers, a second writer."""

    exit_code = 6


class PreemptedError(GenError):
    """Training was asked to stop; a checkpoint was saved and the same command resumes."""

    exit_code = 143


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` if an allowed word is close to ``word``, otherwise an empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
