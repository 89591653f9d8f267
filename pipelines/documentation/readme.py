"""The README's table and picture of all models, from the same records as the pages of the site."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gen.errors import GenError
from gen.files import write_bytes
from pipelines.documentation.pages import models_of
from pipelines.documentation.record import recorded
from pipelines.reporting.sheet import sheet
from pipelines.reporting.tables import Column, markdown

MARKERS = ("<!-- models:begin -->", "<!-- models:end -->")
PICTURE = Path("docs", "samples.png")


def _ours(model: Mapping[str, Any]) -> str:
    """The number to quote of the first recipe that was measured."""
    if model["hero"] is None:
        return "not yet measured"
    headline = model["hero"]["headline"]
    value, unit, note = headline["value"], headline["unit"], headline["note"]
    number = f"{value} {unit}" if unit.startswith("nats") else f"{unit} {value}"
    return f"{number} ({re.sub('test (images|frames) of ', '', note)})"


def _at_full_scale(model: Mapping[str, Any]) -> str:
    return "; ".join(f"{run['value']} {run['unit']}, {run['data']}" for run in model["full_scale"])


def _published(model: Mapping[str, Any]) -> str:
    """The first number for each kind of data that we have a run on, or else the first one."""
    wanted = {run["data"] for run in model["full_scale"]}
    found = [other for other in model["published"] if other["data"] in wanted] or model["published"][:1]
    first = {other["data"]: f"{other['number']} {other['unit']}, {other['data']}" for other in reversed(found)}
    return "; ".join(reversed(first.values()))


COLUMNS = (
    Column("Model", lambda model: f"[{model['title']}](gen/models/{model['chapter']}.py)", numeric=False),
    Column("What it is", lambda model: model["summary"], numeric=False),
    Column("Ours", _ours, "test images", numeric=False),
    Column("Ours, whole data sets", _at_full_scale, numeric=False),
    Column("Published", _published, numeric=False),
)


def table(root: Path) -> str:
    """Every registered model, its first measurement and the published numbers, as Markdown.

    Args:
        root: of the project.
    """
    return markdown(models_of(root), COLUMNS)


def update(root: Path) -> None:
    """Put the table between the markers of README.md, and beside it write a picture of every model.

    Raises:
        GenError: the markers are not there, once each and in order.
    """
    begin, end = MARKERS
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise GenError(f"{readme}: the table goes between '{begin}' and '{end}', once each and in this order.")
    head, tail = text.partition(begin)[0], text.partition(end)[2]
    models, records = models_of(root), recorded(root)
    write_bytes(readme, f"{head}{begin}\n{markdown(models, COLUMNS)}{end}{tail}".encode())
    if picture := sheet([records[model["hero"]["recipe"]] for model in models if model["hero"]]):
        write_bytes(root / PICTURE, picture)
