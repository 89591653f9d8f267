"""Facts in the form MLflow takes them: names it accepts, flat parameters, its clock, its limits."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100  # limits of MLflow's REST API
DIGEST_LENGTH, VALUE_LENGTH = 36, 5000


def accepted(text: str) -> str:
    """A name MLflow accepts: ``D(G(z))`` becomes ``D_G_z``."""
    return re.sub(r"/{2,}", "/", re.sub(r"[^A-Za-z0-9_./ -]+", "_", text)).strip("_/ ") or "_"


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested dictionaries as dotted keys and text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield accepted(f"{prefix}{key}"), str(value)[:VALUE_LENGTH]


def table(metrics: Mapping[str, float]) -> str:
    """Numbers as a Markdown table; nothing if there are none."""
    rows = [f"| {name} | {value:.6g} |" for name, value in sorted(metrics.items())]
    return "\n".join(["| metric | value |", "|---|---|", *rows] if rows else [])


def stamp(event: Mapping[str, Any] | None) -> int:
    """Time of an event, or now, in milliseconds: MLflow's unit."""
    return int(1000 * (time.time() if event is None else event["time"]))


def chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """The items in order, at most ``size`` at a time."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
