"""The record of a run: one JSON object a line, appended and never rewritten.

Training writes here and nowhere else. Whoever wants to know - the progress bar, MLflow, the curves of the report -
follows the file, so none of them can slow training down or stop it.

A resumed run replays the steps after its checkpoint. They are bit-equal, so an event that was
already recorded is dropped, and every (kind, name, images) stands in the file once. Only a run that goes on from the
checkpoint of another one (``transplant``) starts its record anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gen.files import finite, writing

REPEATABLE = ("metrics", "validation", "picture")


class EventLog:
    """Appends to ``events.jsonl``. One writer at a time: rank 0."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recorded: set[tuple[str, str, int]] = set()
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = 0
            if path.exists():
                content = path.read_bytes()
                whole = content.rfind(b"\n") + 1  # a kill may have torn the last line
                for event in map(json.loads, content[:whole].splitlines()):
                    if event["kind"] == "transplant":
                        self.recorded.clear()
                    self.recorded.add((event["kind"], event.get("name", ""), event["images"]))
            self.file = path.open("ab")
            self.file.truncate(whole)

    def append(self, kind: str, images: int, **facts: Any) -> None:
        """Record one event; a replayed one is dropped.

        Args:
            kind: ``start``, ``metrics``, ``validation``, ``picture``, ``checkpoint``, ``warning``,
                ``transplant``, ``end``.
            images: the clock.
            facts: JSON-able.
        """
        key = (kind, facts.get("name", ""), images)
        if kind in REPEATABLE and key in self.recorded:
            return
        self.recorded.add(key)
        with writing(self.path):
            line = json.dumps({"kind": kind, "images": images, "time": time.time(), **facts}, allow_nan=False)
            self.file.write(line.encode() + b"\n")
            self.file.flush()

    def metrics(self, kind: str, images: int, values: Mapping[str, float], **facts: Any) -> None:
        """Record numbers; those that are not finite are named under ``nonfinite`` instead."""
        kept = finite(values)
        lost = sorted(set(values) - set(kept))
        self.append(kind, images, values=kept, **({"nonfinite": lost} if lost else {}), **facts)

    def close(self) -> None:
        """Sync and close."""
        os.fsync(self.file.fileno())
        self.file.close()


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole events from a byte offset on, and the offset to go on from. A missing file has none."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content.rfind(b"\n") + 1
    return [json.loads(line) for line in content[:whole].splitlines()], offset + whole


def series(events: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Curves: name -> [(images, value), ...]. Validation metrics are prefixed ``val/``, those of a sweep ``sweep/``."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        prefix = {"metrics": "train/", "validation": "val/", "sweep": "sweep/"}.get(event["kind"])
        for name, value in event["values"].items() if prefix else ():
            curves.setdefault(f"{prefix}{name}", []).append((event["images"], value))
    return curves
