"""What to do about a sample that cannot be read: stop, or leave it out, up to a limit and never in silence.

fail                 any damaged sample is an error
quarantine(0.01)     damaged samples are left out and listed, as long as they are at most 1 % of their split
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gen.errors import DataError, RecipeError

_SHOWN = 5


class Bad(NamedTuple):
    """A sample that cannot be read.

    Attributes:
        key: its name in the shards.
        origin: what the source calls it.
        reason: why it cannot be read.
    """

    key: str
    origin: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key} ({self.origin}): {self.reason}" if self.origin else f"{self.key}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Policy:
    """One of the policies above. Build it with :meth:`parse`.

    Attributes:
        fraction: the largest share of damaged samples that is left out; 0 means none.
    """

    fraction: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Policy:
        """``"fail"`` or ``"quarantine(0.01)"``. Raises :class:`RecipeError` for anything else."""
        if text.strip() == "fail":
            return cls()
        match = re.fullmatch(r"quarantine\(([0-9.eE+-]+)\)", text.strip())
        try:
            fraction = float(match[1]) if match else 0.0
        except ValueError:
            fraction = 0.0
        if not 0.0 < fraction < 1.0:
            raise RecipeError(
                f"damaged: found '{text}', allowed are fail, and quarantine(F) with a fraction F between 0 and 1."
            )
        return cls(fraction)

    def check(self, where: str, bad: Sequence[Bad], total: int) -> None:
        """Raise :class:`DataError`, which names the first of them, if there are more than the policy allows."""
        if len(bad) <= self.fraction * total:
            return
        shown = "".join(f"\n  {each}" for each in bad[:_SHOWN])
        more = f"\n  and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        limit = f"more than the {self.fraction:.3%} that `damaged` allows" if self.fraction else "and `damaged` is fail"
        raise DataError(
            f"{where}: {len(bad):,} of {total:,} samples cannot be read, {limit}:{shown}{more}\n"
            "Mend or remove them at the source, or set `damaged: quarantine(F)` for the data set in params.yaml."
        )
