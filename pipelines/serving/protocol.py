"""The bodies of MLflow's scoring protocol (its version 2): rows in one of four forms, and params.

{"dataframe_split": {"columns": ["count"], "data": [[16]]}, "params": {"seed": 1}}
{"dataframe_records": [{"task": "score", "image": "iVBOR..."}]}
{"instances": [{"count": 16}]}
{"inputs": {"count": [16, 4]}}                  columns; or one row of scalars; or a list of rows
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from gen.errors import nearest
from gen.serve.errors import RequestError, shown

Rows = list[Mapping[str, Any]]


def read_body(body: bytes) -> tuple[Rows, Mapping[str, Any]]:
    """The rows and the params of a request.

    Raises:
        RequestError: it is not JSON, or not of one of the forms.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as problem:  # bytes that are no UTF-8 are a ValueError, too
        reason = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise RequestError(
            f"body: found {len(body):,} bytes that are not JSON: {reason}. Send a JSON object."
        ) from None
    if not isinstance(content, dict):
        raise RequestError(f"body: found {shown(content)}. Send an object with one of: {', '.join(_FORMS)}.")
    for key in content:
        if key not in (*_FORMS, "params"):
            raise RequestError(
                f"body: {shown(key)}: unknown. Allowed: one of {', '.join(_FORMS)}; and params."
                f"{nearest(key, (*_FORMS, 'params'))}"
            )
    forms = [key for key in content if key in _FORMS]
    if len(forms) != 1:
        raise RequestError(f"body: found {', '.join(forms) or 'no rows'}. Send exactly one of: {', '.join(_FORMS)}.")
    params = content.get("params")
    if params is not None and not isinstance(params, dict):
        raise RequestError(f'params: found {shown(params)}. Send an object, as {{"seed": 1}}.')
    return _FORMS[forms[0]](content[forms[0]], forms[0]), params or {}


def _split(value: Any, form: str) -> Rows:
    """A table: names of columns and lists of cells. An index is allowed, and means nothing."""
    if not isinstance(value, dict) or not {"columns", "data"} <= value.keys() <= {"columns", "data", "index"}:
        found = f"the keys {', '.join(map(str, value))}" if isinstance(value, dict) else shown(value)
        raise RequestError(f"{form}: found {found}. Send an object of columns and data.")
    columns, data = value["columns"], value["data"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise RequestError(f"{form}: columns: found {shown(columns)}. Send a list of names.")
    if len({*columns}) < len(columns):
        raise RequestError(f"{form}: columns: found {shown(columns)}. Send every name once.")
    if not isinstance(data, list):
        raise RequestError(f"{form}: data: found {shown(data)}. Send a list of rows.")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise RequestError(
                f"row {number}: found {shown(row)}. Send a list of {len(columns)}: {', '.join(columns)}."
            )
    return [dict(zip(columns, row, strict=True)) for row in data]


def _records(value: Any, form: str) -> Rows:
    """A list of objects."""
    if not isinstance(value, list):
        raise RequestError(f"{form}: found {shown(value)}. Send a list of objects, one for each row.")
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            raise RequestError(f'row {number}: found {shown(row)}. Send an object, as {{"task": "sample"}}.')
    return value


def _inputs(value: Any, form: str) -> Rows:
    """Columns, each a list; or one row of values that are no lists; or a list of rows."""
    if isinstance(value, list):
        return _records(value, form)
    if not isinstance(value, dict) or not value:
        raise RequestError(f"{form}: found {shown(value)}. Send an object of columns, each a list.")
    lengths = {name: len(column) for name, column in value.items() if isinstance(column, list)}
    if not lengths:
        return [value]
    if len(lengths) < len(value) or len({*lengths.values()}) > 1:
        found = ", ".join(f"{name}: {lengths.get(name, 'no list')}" for name in value)
        raise RequestError(f"{form}: found columns of unequal lengths ({found}). Send a list of one length for each.")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


_FORMS: dict[str, Callable[[Any, str], Rows]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _records,
    "inputs": _inputs,
}
