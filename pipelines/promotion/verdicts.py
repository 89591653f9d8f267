"""Verdicts: what a gate found, check by check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gen.files import digest

ROW, ROWS = 120, 2_500  # characters of a row, and of all rows, in the log


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of a gate's table.

    Attributes:
        check: what was looked at.
        required: what it must be.
        found: what it is.
        passed: whether that is enough. A check that could not be made has failed.
        why: what a failure means and what to do, or what a number means; may be empty.
        binding: whether not even force helps.
    """

    check: str
    required: str
    found: str
    passed: bool
    why: str = ""
    binding: bool = False


def summary(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What the log keeps of a gate: how many passed, short rows, failed ones first, and the digest of all of it."""
    rows = [f"{v.check}: {v.found}"[:ROW] for v in sorted(verdicts, key=lambda v: v.passed)]
    while len(json.dumps(rows)) > ROWS:
        rows.pop()
    failed = sum(not v.passed for v in verdicts)
    return {
        "digest": digest([asdict(v) for v in verdicts]),
        "passed": len(verdicts) - failed,
        "failed": failed,
        "rows": rows,
    }


def table(verdicts: Sequence[Verdict]) -> str:
    """For a terminal: one line per check, and below them what there is to say."""
    head = ("check", "required", "found")
    cells = [head, *((v.check, v.required, v.found) for v in verdicts)]
    widths = [max(len(row[k]) for row in cells) for k in range(3)]
    marks = ["", *("passed" if v.passed else "FAILED" for v in verdicts)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), mark]).rstrip()
        for row, mark in zip(cells, marks, strict=True)
    ]
    checks_by_reason: dict[str, list[str]] = {}
    for verdict in verdicts:
        checks_by_reason.setdefault(verdict.why, []).append(verdict.check)
    notes = [f"  {', '.join(checks)}: {why}" for why, checks in checks_by_reason.items() if why]
    return "\n".join([*lines, *notes])
