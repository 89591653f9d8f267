"""One axis of a search: the values a key of a recipe may take, and how they are drawn.

    uniform: [low, high]        any number between the ends
    loguniform: [low, high]     any number between the ends, every factor as likely as every other: learning rates
    int: [low, high]            a whole number, both ends included
    choice: [a, b, ...]         one of these, whatever they are
    grid: [a, b, ...]           one of these, each in its turn where `choice` leaves it to chance

Drawn numbers are rounded to about a thousandth of their range, so that a recipe reads well: the rounded value is the
value that is trained, recorded and adopted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gen.errors import RecipeError, nearest

Kind = Literal["uniform", "loguniform", "int", "choice", "grid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RANGES = ("uniform", "loguniform", "int")
DIGITS = 3  # of a place in a range: what survives rounding


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """One axis. Build it with :meth:`parse`.

    Attributes:
        key: what it varies: ``hyper.NAME``, ``optim.GROUP.FIELD`` or ``training.FIELD``.
        kind: how its values are drawn; see module.
        given: the two ends of a range, or all values, as params.yaml has them.
    """

    key: str
    kind: Kind
    given: tuple[Any, ...]

    @classmethod
    def parse(cls, key: str, value: Any) -> Dimension:
        """``{kind: [...]}``. Raises :class:`RecipeError` with what is wrong, to be put after the key's place."""
        if not isinstance(value, Mapping) or len(value) != 1:
            raise RecipeError(f": found {value!r}; give one kind of range, e.g. {{ loguniform: [1e-4, 1e-2] }}.")
        ((kind, given),) = value.items()
        if kind not in KINDS:
            raise RecipeError(f".{kind}: unknown kind. Allowed: {', '.join(KINDS)}.{nearest(str(kind), KINDS)}")
        if not isinstance(given, list) or not given:
            raise RecipeError(f".{kind}: found {given!r}; give a list.")
        if kind in RANGES:
            _check_range(kind, given)
        else:
            _check_choices(kind, given)
        ends = [float(end) for end in given] if kind in ("uniform", "loguniform") else given
        return cls(key=key, kind=kind, given=tuple(ends))

    def as_dict(self) -> dict[str, list[Any]]:
        """As params.yaml has it, without its key."""
        return {self.kind: list(self.given)}

    @property
    def values(self) -> tuple[Any, ...] | None:
        """Every value, in order; ``None`` where a range has no end of them."""
        match self.kind:
            case "uniform" | "loguniform":
                return None
            case "int":
                low, high = self.given
                return tuple(range(low, high + 1))
        return self.given

    def draw(self, u: float) -> Any:
        """The value at ``u`` in [0, 1): the inverse of the distribution function, rounded."""
        low, high = self.given[0], self.given[-1]
        match self.kind:
            case "uniform":
                return self.tidy(low + u * (high - low))
            case "loguniform":
                return self.tidy(low * (high / low) ** u)
            case "int":
                return min(low + int(u * (high - low + 1)), high)
        return self.given[min(int(u * len(self.given)), len(self.given) - 1)]

    def unit(self, value: Any) -> float:
        """Where a value lies in [0, 1], for pictures: ``draw(unit(value)) == value``.

        A number outside the range lies outside [0, 1], and what is none of the choices at NaN: a recipe's own value
        may be either.
        """
        low, high = self.given[0], self.given[-1]
        if self.kind in RANGES and (isinstance(value, bool) or not isinstance(value, int | float)):
            return math.nan
        match self.kind:
            case "uniform":
                return (value - low) / (high - low)
            case "loguniform":
                return math.log(value / low) / math.log(high / low) if value > 0 else -math.inf
            case "int":
                return (value - low + 0.5) / (high - low + 1)
        place = self.index(value)
        return math.nan if place is None else (place + 0.5) / len(self.given)

    def index(self, value: Any) -> int | None:
        """The place of a value among :attr:`given`, ``None`` if it is none of them."""
        wanted = canonical(value)
        return next((place for place, each in enumerate(self.given) if canonical(each) == wanted), None)

    def tidy(self, value: Any) -> Any:
        """A value brought into the range, a number with no more digits than it needs: 3 in a range of one decade."""
        low, high = self.given[0], self.given[-1]
        match self.kind:
            case "uniform":
                value = round(value, DIGITS - math.ceil(math.log10(high - low)))
            case "loguniform":
                decades = math.log10(high / low)
                value = float(f"{value:.{DIGITS + max(0, -math.floor(math.log10(decades)))}g}")
            case "int":
                value = round(value)
            case _:
                return value
        return min(max(value, low), high)


def _check_range(kind: str, given: list[Any]) -> None:
    number = int if kind == "int" else (int, float)
    if len(given) != 2 or not all(isinstance(end, number) and not isinstance(end, bool) for end in given):
        wanted = "two whole numbers" if kind == "int" else "two numbers"
        raise RecipeError(f".{kind}: found {given!r}; give {wanted}, [low, high].")
    low, high = given
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise RecipeError(f".{kind}: found {given!r}; low must be less than high, and both finite.")
    if kind == "loguniform" and low <= 0:
        raise RecipeError(f".{kind}: found {given!r}; both ends must be above 0. Use uniform, or a small low end.")


def _check_choices(kind: str, given: list[Any]) -> None:
    seen: set[str] = set()
    for each in given:
        try:
            text = canonical(each)
        except (TypeError, ValueError):  # a date, a set; not-a-number
            text = ""
        if not text or isinstance(each, Mapping):
            raise RecipeError(
                f".{kind}: found {each!r}; give finite numbers, words, true, false, null, or lists of them."
            )
        if text in seen:
            raise RecipeError(f".{kind}: found {each!r} twice; name every value once.")
        seen.add(text)


def canonical(value: Any) -> str:
    """What tells two values of a key apart: 1 is ``1.0``, for a recipe makes them so, but not ``True``."""

    def plain(each: Any) -> Any:
        if isinstance(each, list | tuple):
            return [plain(part) for part in each]
        return int(each) if isinstance(each, float) and each.is_integer() else each

    return json.dumps(plain(value), allow_nan=False, sort_keys=True)
