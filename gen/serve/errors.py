"""What is wrong with a request, and says so to whoever sent it."""

from __future__ import annotations

from gen.errors import GenError


class RequestError(GenError):
    """A request that cannot be met: the row, the column, what was found, what is allowed, what to do."""

    exit_code = 2


def shown(value: object) -> str:
    """A value as messages show it: never longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
