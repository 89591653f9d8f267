"""What is known of a sample as text or JSON, from a file name or a table: read as numbers, or as classes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = float(np.finfo(np.float32).max)
_INTEGER = re.compile(r"-?\d+", re.ASCII)


def number(value: object) -> float:
    """A finite number that is one, or is written as one. Raises ``ValueError`` for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, (int, float)) and abs(value) <= _LARGEST:  # also True and False; not NaN
        return float(value)
    raise ValueError("not a finite number")


def class_of(value: object) -> str:
    """The text, whole number or truth value that names a class, as text. Raises ``ValueError`` for anything else."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int):  # also True and False
        return json.dumps(value)
    raise ValueError("not the name of a class")


def sorted_classes(values: set[str]) -> list[str]:
    """Names of classes in order: by number if all of them are whole numbers, otherwise by code point."""
    if all(map(_INTEGER.fullmatch, values)):
        return sorted(values, key=lambda value: (int(value), value))
    return sorted(values)


def labels_of(values: set[str], classes: Sequence[str]) -> dict[str, int]:
    """The label that each value stands for, where the classes are given; without those that stand for none.

    The values are names of classes or, if none of them is, indices of classes from 0 on.
    """
    named = {name: label for label, name in enumerate(classes) if name in values}
    if named:
        return named
    return {value: int(value) for value in values if _INTEGER.fullmatch(value) and 0 <= int(value) < len(classes)}
