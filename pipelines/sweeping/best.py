"""``sweeps/<recipe>/best.yaml``: the best trial of a sweep, and all that is needed to judge and to adopt it.

recipe: dcgan-digits
values: {optim.generator.lr: 0.00147, training.ema: 5000}      # what `gen adopt` puts into the recipe
objective: {minimize: eval/fid}                                # on the validation split
value: 5.87
trial: 7
images: 50000                                                  # of this trial, and its seconds
seconds: 61.2
sweep: 3f0a91c27e                                              # runs/sweeps/dcgan-digits-3f0a91c27e
data: ...                                                      # digest of the manifest of the shards
code: ...                                                      # digest of the code that trained
space: {optim.generator.lr: {loguniform: [0.0005, 0.005]}, ...}
base: {...}                                                    # the recipe that was varied, in full
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gen.errors import RecipeError
from gen.files import write_bytes
from gen.recipe import Recipe
from pipelines.checking import Checker
from pipelines.sweeping.ledger import identity
from pipelines.sweeping.trial import Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """What the file holds; see module."""

    recipe: str
    values: Mapping[str, Any]
    objective: Mapping[str, str]
    value: float
    trial: int
    images: int
    seconds: float
    sweep: str
    data: str
    code: str
    space: Mapping[str, Mapping[str, list[Any]]]
    base: Mapping[str, Any]

    def __post_init__(self) -> None:
        Recipe.from_dict(self.base)
        if not math.isfinite(self.value):
            raise RecipeError(f"value: found {self.value}; it must be finite.")

    @classmethod
    def of(cls, facts: Mapping[str, Any], trial: Trial) -> Best:
        """The file for a trial of the sweep that has these facts (``sweep.json``)."""
        return cls(
            **{key: facts[key] for key in ("recipe", "objective", "data", "code", "space", "base")},
            values=trial.values,
            value=trial.value,
            trial=trial.number,
            images=trial.images,
            seconds=round(trial.seconds, 1),
            sweep=identity(facts),
        )


def write_best(path: Path, best: Best) -> None:
    """Write the file, at once."""
    yaml = YAML()
    yaml.width = 120
    content = io.StringIO()
    content.write(
        f"# What `gen sweep {best.recipe}` found; `gen adopt {best.recipe}` puts `values` into params.yaml.\n"
    )
    fields = {key: value for key, value in asdict(best).items() if key not in ("space", "base")}
    yaml.dump(fields, content)
    content.write("# what was searched, and the recipe it started from\n")
    yaml.dump({"space": asdict(best)["space"], "base": asdict(best)["base"]}, content)
    write_bytes(path, content.getvalue().encode())


def read_best(path: Path) -> Best:
    """Read the file. Raises :class:`RecipeError`, which names it, what is wrong and what to do."""
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such file. Run `gen sweep {path.parent.name}` first.") from None
    except (YAMLError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path}: is not valid YAML: {problem}") from None
    checker = Checker(path)
    return checker.check(Best, checker.mapping(found, "top level"), "best")
