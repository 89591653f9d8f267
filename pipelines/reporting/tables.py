"""The tables of the report: one row per model as JSON, and from it every table that is printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.reporting.entry import Entry

Row = Mapping[str, Any]
Form = Callable[[float], str]

MARKS = {"floor": "real images", "independent": "independent pixels"}


def to_row(entry: Entry, published: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What is known about a model, JSON-able."""
    meta = entry.meta
    return {
        "recipe": entry.recipe,
        "title": entry.chapter.title,
        "summary": entry.chapter.summary,
        "model": entry.model,
        "family": entry.family,
        "dataset": meta["recipe"]["dataset"],
        "data": meta["data"],
        "space": meta["spec"]["space"],
        "parameters": entry.parameters,
        "groups": dict(entry.groups),
        **{key: meta[key] for key in ("images", "seconds", "device", "world", "threads")},
        "likelihoods": [asdict(nll) for nll in entry.likelihoods],
        "scores": {name: asdict(score) for name, score in entry.scores.items()},
        "gates": list(entry.gates),
        "registered": dict(entry.registered),
        "published": list(published.get(entry.model, [])),
    }


def references(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows for what no model can be expected to beat and for what every model must beat, in each space."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for mark, label in MARKS.items():
        for row in rows:
            known = {name: {"value": score[mark]} for name, score in row["scores"].items() if score[mark] is not None}
            if known:
                reference = {"title": label.capitalize(), "space": row["space"], "scores": known}
                found.setdefault((label, row["space"]), reference)
    return list(found.values())


# ---- numbers in words ----------------------------------------------------------------------------------------------


def fixed(decimals: int) -> Form:
    """Numbers with so many decimals."""
    return lambda value: f"{value:,.{decimals}f}".replace("-", "−")


def significant(value: float) -> str:
    """Three significant digits, but never fewer than the whole part has: 1,234, 67.1, 0.0123."""
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
    return fixed(min(max(decimals, 0), 8))(value)


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 05 s``, ``2 h 10 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def nats(nll: Mapping[str, Any]) -> str:
    """A negative log-likelihood with its mark: a lower bound on log p is an upper bound on its negative."""
    mark = {"exact": "", "lower bound": "≤ ", "estimate": "≈ "}[nll["kind"]]
    return mark + fixed(2)(nll["nats"])


# ---- columns -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its head.
        cell: text for a row; empty if there is nothing to say.
        hint: small print under the title.
        numeric: aligned to the right.
    """

    title: str
    cell: Callable[[Row], str]
    hint: str = ""
    numeric: bool = True


def _score(name: str, form: Form) -> Callable[[Row], str]:
    return lambda row: form(row["scores"][name]["value"]) if name in row["scores"] else ""


def _quoted(form: Callable[[Mapping[str, Any]], str]) -> Callable[[Row], str]:
    return lambda row: form(row["likelihoods"][-1]) if row.get("likelihoods") else ""


def _fact(key: str, form: Callable[[Any], str]) -> Callable[[Row], str]:
    return lambda row: form(row[key]) if key in row else ""


def _trained_by(row: Row) -> str:
    """The family, and the groups of parameters that move in turn where there is more than one."""
    turns = " and ".join(row["groups"]) if len(row.get("groups", ())) in (2, 3) else ""
    return row.get("family", "") + (f", {turns} in turn" if turns else "")


def _published(row: Row) -> str:
    return next((f"{p['number']} {p['unit']}, {p['data']}" for p in row.get("published", [])), "")


COLUMNS = (
    Column("Model", _fact("title", str), numeric=False),
    Column("Space", _fact("space", str), numeric=False),
    Column("NLL", _quoted(nats), "nats"),
    Column("NLL", _quoted(lambda nll: fixed(3)(nll["bits_per_dim"])), "bits/dim"),
    Column("Estimator", _quoted(lambda nll: nll["estimator"]), numeric=False),
    Column("FID", _score("fid", significant)),
    Column("Precision", _score("precision", fixed(2))),
    Column("Recall", _score("recall", fixed(2))),
    Column("Coverage", _score("coverage", fixed(2))),
    Column("Published", _published, "on other data", numeric=False),
    Column("Sampling", _score("images_per_second_64", significant), "images/s"),
    Column("Parameters", _fact("parameters", fixed(0))),
    Column("Images seen", _fact("images", fixed(0))),
    Column("Time", _fact("seconds", duration)),
    Column("Trained by", _trained_by, numeric=False),
)


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A Markdown table."""

    def line(cells: Iterable[str]) -> str:
        escaped = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;") for cell in cells)
        return "| " + " | ".join(" ".join(cell.split()) for cell in escaped) + " |"

    heads = (f"{column.title} ({column.hint})" if column.hint else column.title for column in columns)
    rules = ("---:" if column.numeric else "---" for column in columns)
    return "\n".join([line(heads), line(rules), *(line(c.cell(row) for c in columns) for row in rows)]) + "\n"
