"""From a trial's number and values to its job, on whichever node runs the trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gen.data.reading import Reading
from gen.recipe import Recipe
from pipelines.cluster.job import Job
from pipelines.sweeping.objective import Examination
from pipelines.sweeping.spaces import Sweep, varied
from pipelines.sweeping.trial import place


@dataclass(frozen=True, kw_only=True, slots=True)
class Making:
    """Makes the jobs of a sweep.

    Attributes:
        sweep: what is varied and looked for.
        recipe: what is varied.
        data: directory of shards.
        directory: of the sweep.
        digest: of the manifest of the shards.
        code: digest of the code that trains.
        reading: how to read the shards.
        examination: what is measured.
    """

    sweep: Sweep
    recipe: Recipe
    data: Path
    directory: Path
    digest: str
    code: str
    reading: Reading
    examination: Examination

    def recipe_of(self, values: Mapping[str, Any]) -> Recipe:
        """What a trial trains: the recipe with its values, measured and saved where the sweep compares trials.

        Intervals change no result, so the recipe that is adopted trains to the very weights of its trial.
        """
        wanted = varied(self.recipe, values)
        every, budget = self.sweep.every, wanted.training.images
        training = replace(
            wanted.training,
            report=min(wanted.training.report, every),
            validate=every,
            checkpoint=every,
            pictures=budget,
        )
        return replace(wanted, training=training)

    def __call__(self, number: int, values: Mapping[str, Any]) -> Job:
        """The job of a trial."""
        return Job(
            self.recipe_of(values), self.data, place(self.directory, number), self.code, self.reading, self.examination
        )
