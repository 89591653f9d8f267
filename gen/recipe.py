"""A recipe: everything that decides what comes out of a training run, and nothing else.

Two runs with equal recipes (and equal code and data) give equal weights, bit for bit, on one kind of machine. What
does not change the result - the number of workers, the device, where logs go - is not part of a recipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gen.data.augment import Augment
from gen.data.draws import Draw
from gen.errors import RecipeError

LATER = {"compile": False}  # of Training, with their defaults


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How to train. Every interval is in images, like everything on the clock.

    Attributes:
        images: the budget: training ends once this many images have been drawn.
        batch: images in one global batch.
        slices: parts a global batch is cut into. Each has its own random stream and batch statistics, and the
            gradient is their mean, so the result depends on the slices and not on how many workers share them.
        seed: seed of initial weights, data order and noise.
        draw: which sample comes when: ``shuffle``, ``blocks(K)`` for streamed shards, ``balanced`` over the classes, or
            ``weighted(NAME)`` by an attribute (see :mod:`gen.data.draws`).
        augment: random changes to every batch, e.g. ``[flip, shift(2)]`` (see :mod:`gen.data.augment`).
        ema: half-life of the averaged weights that are kept as the result; ``None`` keeps the raw weights.
        precision: ``bf16`` runs the forward pass under autocast; master weights stay in float32.
        channels_last: memory format of images and convolutions.
        compile: run the networks of a training step through ``torch.compile`` (see :mod:`gen.train.compiled`).
        nonfinite: what to do when a gradient is not finite: ``stop`` with an error, ``skip`` the update, or
            ``rollback`` to the last good checkpoint and go on with fresh noise.
        report: interval of reports (losses). The intervals below take effect at a report.
        validate: interval of validation; also once at the end.
        pictures: interval of sample grids; also at the start and at the end.
        checkpoint: interval of checkpoints; also at the end and when asked to stop.
    """

    images: int
    batch: int = 64
    slices: int = 1
    seed: int = 0
    draw: str = "shuffle"
    augment: tuple[str, ...] = ()
    ema: int | None = None
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    report: int = 3_000
    validate: int = 15_000
    pictures: int = 30_000
    checkpoint: int = 15_000

    def __post_init__(self) -> None:
        for key in ("images", "batch", "slices", "report", "validate", "pictures", "checkpoint"):
            if getattr(self, key) < 1:
                raise RecipeError(f"training.{key}: found {getattr(self, key)}; it must be at least 1.")
        Draw.parse(self.draw)
        Augment.parse(self.augment)
        if self.batch % self.slices:
            raise RecipeError(
                f"training.slices: a batch of {self.batch} images cannot be cut into {self.slices} equal slices. "
                f"Choose a divisor of {self.batch}."
            )
        if self.ema is not None and self.ema < 1:
            raise RecipeError(f"training.ema: found {self.ema}; give a half-life in images, or leave it out.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A named training run.

    Attributes:
        name: what the run, its outputs and the registered model are called.
        model: name or chapter of a registered model.
        dataset: name of a data set.
        space: the space the model lives in, e.g. ``binary_dynamic``.
        hyper: hyper-parameters that differ from the constructor's defaults.
        optim: per group, fields that differ from the model's own optimizers.
        training: how to train.
    """

    name: str
    model: str
    dataset: str
    space: str
    training: Training
    hyper: Mapping[str, Any] = field(default_factory=dict)
    optim: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries as JSON would give them back (tuples are lists).

        Of fields that came later, defaults are left out: what was saved before goes on under the same identity.
        """
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for name, default in LATER.items():
            if plain["training"][name] == default:
                del plain["training"][name]
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Inverse of :meth:`as_dict`. Raises :class:`RecipeError` for missing or unknown keys."""
        try:
            training = {**values["training"]}
            training["augment"] = tuple(training.get("augment", ()))
            return cls(**{**values, "training": Training(**training)})
        except (KeyError, TypeError) as problem:
            raise RecipeError(f"recipe: {problem}. Expected what Recipe.as_dict() gives.") from None


def difference(saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Readable lines for every leaf on which two nested dictionaries differ."""
    lines: list[str] = []
    for key in sorted({*saved, *wanted}):
        old, new = saved.get(key), wanted.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += difference(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: saved {old!r}, wanted {new!r}")
    return lines
