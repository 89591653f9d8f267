"""Data sets by name.

    pull("digits", Path("data/raw/digits"))

A source is a function without arguments that returns :class:`~gen.data.raw.Raw`; adding one is one line below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gen.data.digits import digits
from gen.data.raw import Raw
from gen.errors import DataError, nearest

SOURCES: Mapping[str, Callable[[], Raw]] = {
    "digits": digits,
}


def pull(name: str, destination: Path) -> None:
    """Fetch the data set ``name`` and write it below ``destination`` in the layout of :mod:`gen.data.raw`.

    Raises:
        DataError: there is no such data set, it cannot be had, or it cannot be written.
    """
    if name not in SOURCES:
        raise DataError(f"data: there is no data set '{name}'. Allowed: {', '.join(SOURCES)}.{nearest(name, SOURCES)}")
    SOURCES[name]().save(destination)
