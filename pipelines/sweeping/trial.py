"""A trial of a sweep, as it is remembered: its values, how it stands, what was measured and what that cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from gen.errors import StoreError

State = Literal["waiting", "running", "finished", "pruned", "failed", "killed"]
OVER: tuple[State, ...] = ("finished", "pruned", "failed")  # for good; the others may go on in another session
Value = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


class Change(NamedTuple):
    """Where a trial's values became others (population-based training).

    Attributes:
        images: on the clock of the weights it went on from.
        values: from there on.
        donor: the trial whose weights these were; ``None`` if not known.
    """

    images: int
    values: Mapping[str, Any]
    donor: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial. Change it through its ledger.

    Attributes:
        number: from 0.
        values: what it changes in the recipe, now.
        state: how it stands; see :mod:`pipelines.sweeping.ledger`.
        curve: the objective by images, which ascend; NaN where it was not finite.
        images: trained on so far; those trained again after an interruption count once.
        seconds: worked so far, over all interruptions.
        error: why it failed or was killed.
        history: where its values became others.
    """

    number: int
    values: Mapping[str, Any]
    state: State = "waiting"
    curve: tuple[tuple[int, Value], ...] = ()
    images: int = 0
    seconds: float = 0.0
    error: str = ""
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise([0, *(images for images, _ in self.curve)])):
            raise ValueError("curve: the images do not ascend")
        if self.number < 0 or self.images < 0 or not 0 <= self.seconds < math.inf:
            raise ValueError("number, images or seconds: below 0, or not finite")

    @property
    def value(self) -> float:
        """The objective at the last measurement; NaN if there is none, or it was not finite."""
        return self.curve[-1][1] if self.curve else math.nan

    @property
    def clock(self) -> int:
        """Images at which the trial's weights were last heard of."""
        return max([0, *(images for images, _ in self.curve[-1:]), *(change.images for change in self.history[-1:])])

    def as_dict(self) -> dict[str, Any]:
        """As it is written: JSON has no NaN, so a value that is not finite is null."""
        curve = [[images, value if math.isfinite(value) else None] for images, value in self.curve]
        return json.loads(json.dumps({**asdict(self), "curve": curve}, allow_nan=False))


def place(sweep: Path, number: int) -> Path:
    """The run directory of a trial below that of its sweep."""
    return sweep / "trials" / f"{number:04d}"


def read_trial(path: Path) -> Trial:
    """A trial from its file, checked in every field: nothing is repaired silently.

    Raises:
        StoreError: torn, or not the trial whose directory it lies in.
    """
    remedy = "Restore it from a copy; or remove the trial's directory, and the trial is run again."
    try:
        content = path.read_bytes()
        trial = TypeAdapter(Trial).validate_json(content, strict=True)
    except ValidationError as problem:
        error = problem.errors()[0]
        place = "".join(f"{part}: " for part in error["loc"][:1])
        raise StoreError(f"{path}: damaged, or not a trial: {place}{error['msg']}. {remedy}") from None
    if trial.as_dict() != json.loads(content):
        raise StoreError(f"{path}: damaged, or not a trial: keys are missing or unknown. {remedy}")
    if path.parent.name != f"{trial.number:04d}":
        raise StoreError(f"{path}: holds trial {trial.number}, which belongs into trials/{trial.number:04d}. {remedy}")
    return trial
