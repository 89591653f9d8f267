"""A job: one training run, as every way to run it needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gen.data.reading import Reading
from gen.recipe import Recipe
from gen.train.context import Context
from gen.train.loop import Examine, fit


@dataclass(frozen=True, slots=True)
class Job:
    """One training run.

    Attributes:
        recipe: what to train.
        data: absolute path of the shards.
        directory: absolute path of the run, on storage all workers share.
        code: digest of the code that trains.
        reading: how to read the shards.
        examine: what else to measure at each validation.
    """

    recipe: Recipe
    data: Path
    directory: Path
    code: str
    reading: Reading = Reading()  # noqa: RUF009  # immutable
    examine: Examine | None = None

    def fit(self, context: Context) -> Path:
        """Train in this process; the directory of the trained model."""
        return fit(
            self.recipe,
            data=self.data,
            directory=self.directory,
            context=context,
            code=self.code,
            reading=self.reading,
            examine=self.examine,
        )
