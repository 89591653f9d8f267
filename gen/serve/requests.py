"""Rows and params, checked: whatever is wrong with them is said before the model does anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import nearest
from gen.serve.errors import RequestError, shown
from gen.serve.images import read_frames, read_image, read_mask
from gen.serve.schema import COLDEST, HOTTEST, LARGEST, PARAM_FIELDS, ROW_FIELDS, TASKS


@dataclass(frozen=True, slots=True)
class Params:
    """See :data:`gen.serve.schema.PARAM_FIELDS`."""

    seed: int = 0
    temperature: float = 1.0
    format: Literal["png", "array"] = "png"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to do.

    Attributes:
        number: of the row in the request, from 0.
        task: a key of :data:`gen.serve.schema.TASKS`.
        count: images to draw.
        label: class to draw.
        image: uint8 (C, H, W), or the frames of a video (C, T, H, W).
        known: bool (C, H, W).
    """

    number: int
    task: str
    count: int = 1
    label: int | None = None
    image: Tensor | None = None
    known: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be met."""

    rows: tuple[Row, ...]
    params: Params

    @property
    def images(self) -> int:
        """Images to draw and images sent."""
        return sum(row.count for row in self.rows)


def parse_request(
    rows: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any] | None,
    spec: DataSpec,
    tasks: Sequence[str],
    *,
    conditional: bool,
) -> Request:
    """Check a request against what a model is and can do.

    Args:
        rows: a mapping for each row. ``None`` and NaN, with which tables fill their gaps, count as left out.
        params: likewise.
        spec: of the model.
        tasks: what it can be asked.
        conditional: whether it takes labels.

    Raises:
        RequestError: with the row, the column, what was found, and what is allowed.
    """
    checked = _params(_given(params or {}, "params", [field.name for field in PARAM_FIELDS]))
    if not 1 <= len(rows) <= LARGEST:
        raise RequestError(
            f"rows: found {len(rows)}, allowed 1 to {LARGEST:,}. Send at least one, or several requests."
        )
    names = [field.name for field in ROW_FIELDS]
    total, given = 0, []
    for number, row in enumerate(rows):  # counts first: nothing is decoded of what is too large
        where = f"row {number}"
        found = _given(row, where, names)
        task = _task(found, where, tasks)
        count = _whole(found.get("count", 1), f"{where}: count", 1, LARGEST)
        if count > 1 and task != "sample":
            raise RequestError(
                f"{where}: count: found {count}, but '{task}' does one image a row. Send one row for each."
            )
        total += count
        given.append((task, count, found))
    if total > LARGEST:
        raise RequestError(f"count: found {total:,} images in all, allowed up to {LARGEST:,}. Ask several times.")
    return Request(
        tuple(_row(number, *parts, spec=spec, conditional=conditional) for number, parts in enumerate(given)), checked
    )


def _given(values: Mapping[str, Any], where: str, allowed: Sequence[str]) -> dict[str, Any]:
    """What is there and not a gap of a table."""
    if not isinstance(values, Mapping):
        raise RequestError(f"{where}: found {shown(values)}, allowed names and values. Send an object, {{...}}.")
    for name in values:
        if name not in allowed:
            raise RequestError(
                f"{where}: {shown(name)}: unknown. Allowed: {', '.join(allowed)}.{nearest(str(name), allowed)}"
            )
    return {name: v for name, v in values.items() if v is not None and not (isinstance(v, float) and math.isnan(v))}


def _task(found: Mapping[str, Any], where: str, tasks: Sequence[str]) -> str:
    task = found.get("task", "sample")
    if not isinstance(task, str) or task not in TASKS:
        raise RequestError(
            f"{where}: task: found {shown(task)}, allowed: {', '.join(TASKS)}.{nearest(str(task), TASKS)}"
        )
    if task not in tasks:
        asked = "" if "task" in found else ", which is what a row without `task` asks for"
        raise RequestError(f"{where}: task: this model cannot do '{task}'{asked}. It can: {', '.join(tasks)}.")
    return task


def _row(number: int, task: str, count: int, found: Mapping[str, Any], *, spec: DataSpec, conditional: bool) -> Row:
    where, rules = f"row {number}", TASKS[task]
    for name in rules.needs:
        if name not in found:
            raise RequestError(f"{where}: {name}: missing. '{task}' needs {' and '.join(rules.needs)}.")
    for name in found:
        if name not in ("task", "count", *rules.needs, *rules.takes):
            raise RequestError(
                f"{where}: {name}: '{task}' takes {', '.join((*rules.needs, *rules.takes))}. Leave it out of this row."
            )
    label = image = known = None
    if "label" in found:
        if not conditional:
            raise RequestError(f"{where}: label: this model takes no labels. Leave it out.")
        label = _whole(found["label"], f"{where}: label", 0, spec.num_classes - 1)
    if "image" in found:
        read = read_image if spec.frames is None else read_frames
        image = torch.tensor(read(found["image"], spec.shape, f"{where}: image")).movedim(-1, 0)
    if "mask" in found:
        known = torch.tensor(read_mask(found["mask"], spec.shape, f"{where}: mask")).permute(2, 0, 1)
    return Row(number, task, count, label, image, known)


def _params(found: Mapping[str, Any]) -> Params:
    temperature = found.get("temperature", 1.0)
    if not _is_number(temperature) or not COLDEST <= temperature <= HOTTEST:
        raise RequestError(
            f"params: temperature: found {shown(temperature)}, allowed numbers from {COLDEST:g} to {HOTTEST:g}. "
            "1 is the model itself."
        )
    form = found.get("format", "png")
    if form not in ("png", "array"):
        raise RequestError(
            f"params: format: found {shown(form)}, allowed: png, array.{nearest(str(form), ('png', 'array'))}"
        )
    seed = _whole(found.get("seed", 0), "params: seed", -(2**63), 2**63 - 1)
    return Params(seed, float(temperature), form)


def _whole(value: Any, where: str, least: int, most: int) -> int:
    """A whole number between two others; 3.0 is one, as tables with gaps have no other way to say it."""
    if not _is_number(value) or not least <= value <= most or value != int(value):
        raise RequestError(f"{where}: found {shown(value)}, allowed whole numbers from {least:,} to {most:,}.")
    return int(value)


def _is_number(value: Any) -> bool:
    """Whether it is a finite number; true and false are none. NumPy's are welcome."""
    if isinstance(value, bool) or not hasattr(value, "__float__") or isinstance(value, str):
        return False
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False
