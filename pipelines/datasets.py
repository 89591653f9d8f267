"""The section ``datasets`` of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from gen.data.images import Prepare
from gen.data.quarantine import Policy
from gen.errors import RecipeError, nearest
from gen.shards.write import Format
from gen.sources.catalogue import options, source
from gen.sources.pull import Origin
from pipelines.checking import Checker, schema


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Where a data set comes from, and how it is stored.

    Attributes:
        origin: which data (its fields stand beside those below in params.yaml).
        prepare: what is done to the images, once.
        splits: further splits to take out of ``train``: a number of samples, or a share below 1.
        shards: how samples are stored.
        damaged: ``fail``, or ``quarantine(F)`` to leave out samples that cannot be read, up to that fraction.
    """

    origin: Origin
    prepare: Prepare = field(default_factory=Prepare)
    splits: Mapping[str, float] = field(default_factory=dict)
    shards: Format = field(default_factory=Format)
    damaged: str = "fail"


def parse_dataset(checker: Checker, name: str, value: Any) -> Dataset:
    """A data set. Raises :class:`RecipeError`, which names file and key."""
    where = f"datasets.{name}"
    given = checker.mapping(value, where)
    own = [each.name for each in fields(Dataset) if each.name != "origin"]
    allowed = [*(each.name for each in fields(Origin)), *own]
    for key in given:
        if key not in allowed:
            raise RecipeError(
                f"{checker.path}: {where}.{key}: unknown key. Allowed: {', '.join(allowed)}.{nearest(key, allowed)}"
            )
    if not isinstance(given.get("source"), str):
        raise RecipeError(f"{checker.path}: {where}.source: found {given.get('source')!r}; give the name of a source.")
    try:
        found = source(given["source"])
        Policy.parse(str(given.get("damaged", "fail")))
    except RecipeError as problem:
        raise RecipeError(f"{checker.path}: {where}.{problem}") from None
    chosen = checker.mapping(given.get("options"), f"{where}.options")
    option_schema = schema(given["source"], found, options(given["source"]))
    typed: Any = checker.check(option_schema, chosen, f"{where}.options")
    origin = {key: each for key, each in given.items() if key not in own}
    return Dataset(
        origin=replace(
            checker.check(Origin, {**origin, "options": {}}, where),
            options={key: getattr(typed, key) for key in chosen},
        ),
        prepare=checker.check(Prepare, checker.mapping(given.get("prepare"), f"{where}.prepare"), f"{where}.prepare"),
        splits=checker.numbers(given.get("splits"), f"{where}.splits"),
        shards=checker.check(Format, checker.mapping(given.get("shards"), f"{where}.shards"), f"{where}.shards"),
        damaged=str(given.get("damaged", "fail")),
    )
