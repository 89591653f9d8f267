"""What a request may hold: the one place from which parsing, MLflow's signature and the documentation are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gen.data.spaces import DataSpec
from gen.model import Completes, Encodes, GenerativeModel, Predicts, Samples, Scores, Translates

LARGEST = 10_000
"""Most images in one request: those to draw and those that are sent."""

COLDEST, HOTTEST = 0.001, 1_000.0
"""Temperatures between which no model's arithmetic overflows."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the rows, or a parameter.

    Attributes:
        name: in the request.
        type: ``image`` is a base64 PNG or nested lists of pixels.
        default: where it is left out; ``None`` means nothing.
        description: for people.
        choices: allowed values of a string; empty allows any.
    """

    name: str
    type: Literal["string", "long", "double", "image"]
    default: str | int | float | None
    description: str
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Never: what a task needs, and what it does not take, is said when the row is read."""
        return False


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to ask.

    Attributes:
        capability: the protocol a model needs for it.
        needs: columns that must be there.
        takes: further columns that may be.
        summary: what it does.
        answer: keys of the answer, and what they hold.
    """

    capability: Any
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    summary: str
    answer: dict[str, str]


TASKS: dict[str, Task] = {
    "sample": Task(Samples, (), ("count", "label"), "draw images", {"images": "`count` images"}),
    "score": Task(
        Scores,
        ("image",),
        (),
        "say how likely an image is",
        {
            "nats": "log p(x), by the estimator to quote; null where the model gives the image no probability at all",
            "bits_per_dim": "the same, as bits per pixel and channel",
            "estimator": "its name",
            "kind": "`exact`, `lower bound` or `estimate`",
        },
    ),
    "encode": Task(Encodes, ("image",), (), "infer the code of an image", {"code": "a list of numbers"}),
    "reconstruct": Task(Encodes, ("image",), (), "encode an image, and decode it again", {"image": "an image"}),
    "complete": Task(Completes, ("image", "mask"), (), "draw the unknown pixels of an image", {"image": "an image"}),
    "translate": Task(Translates, ("image",), (), "turn an image into one of the other kind", {"image": "an image"}),
    "predict": Task(
        Predicts,
        ("image",),
        (),
        "draw the frames that follow",
        {"images": "as many frames as it was trained to predict"},
    ),
}

ROW_FIELDS: tuple[Field, ...] = (
    Field("task", "string", "sample", "what to do", tuple(TASKS)),
    Field("count", "long", 1, "sample: images to draw"),
    Field("label", "long", None, "sample: class to draw, for models that take one; from 0"),
    Field("image", "image", None, "the image, where the task needs one; predict: frames, one below the other"),
    Field("mask", "image", None, "complete: known pixels are not zero; the others are drawn"),
)

PARAM_FIELDS: tuple[Field, ...] = (
    Field("seed", "long", 0, "equal requests with equal seeds have equal answers"),
    Field("temperature", "double", 1.0, "sample: below 1 more typical images, above 1 more varied ones"),
    Field("format", "string", "png", "how images come back: base64 PNG, or nested lists [H][W][C]", ("png", "array")),
)


def tasks_of(model: GenerativeModel) -> tuple[str, ...]:
    """What a model can be asked."""
    return tuple(name for name, task in TASKS.items() if isinstance(model, task.capability))


def json_schema(spec: DataSpec, tasks: tuple[str, ...], *, conditional: bool) -> dict[str, Any]:
    """The body of a request to a model with these capabilities, as JSON Schema (draft 2020-12).

    The rows are described as MLflow's ``dataframe_records``; the other forms hold the same columns.
    """
    channels, height, width = spec.shape

    def rows_of_numbers(size: int, items: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "minItems": size, "maxItems": size, "items": items}

    def rows(items: dict[str, Any]) -> dict[str, Any]:
        """Of an image, or of one frame after the other."""
        found = rows_of_numbers(height, rows_of_numbers(width, items))
        return found if spec.frames is None else {key: found[key] for key in ("type", "minItems", "items")}

    def picture(number: dict[str, Any]) -> dict[str, Any]:
        pixel = rows_of_numbers(channels, number)
        deep, flat = rows(pixel), rows(number)
        png = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
        return {"anyOf": [png, deep, flat] if channels == 1 or number["type"] != "integer" else [png, deep]}

    label = {"type": "integer", "minimum": 0, "maximum": spec.num_classes - 1} if conditional else {"type": "null"}
    columns: dict[str, dict[str, Any]] = {
        "task": {"enum": list(tasks)},
        "count": {"type": "integer", "minimum": 1, "maximum": LARGEST},
        "label": label,
        "image": picture({"type": "integer", "minimum": 0, "maximum": 255}),
        "mask": picture({"type": ["integer", "boolean"]}),
    }
    params: dict[str, dict[str, Any]] = {
        "seed": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        "temperature": {"type": "number", "minimum": COLDEST, "maximum": HOTTEST},
        "format": {"enum": list(PARAM_FIELDS[-1].choices)},
    }

    def described(properties: dict[str, dict[str, Any]], fields: tuple[Field, ...]) -> dict[str, Any]:
        for field in fields:
            properties[field.name]["description"] = field.description
            if field.default is not None:
                properties[field.name]["default"] = field.default
        return {"type": "object", "additionalProperties": False, "properties": properties}

    needs = [
        {"if": {"properties": {"task": {"const": name}}, "required": ["task"]}, "then": {"required": list(task.needs)}}
        for name, task in TASKS.items()
        if name in tasks and task.needs
    ]
    row = described(columns, ROW_FIELDS) | ({"allOf": needs} if needs else {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["dataframe_records"],
        "properties": {
            "dataframe_records": {"type": "array", "minItems": 1, "maxItems": LARGEST, "items": row},
            "params": described(params, PARAM_FIELDS),
        },
    }
