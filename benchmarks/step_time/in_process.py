"""The loop in this process, in turns with another one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.step_time.by_hand import plain_loop
from benchmarks.step_time.pythae import pythae_epochs
from benchmarks.step_time.times import Times, median_ratio, milliseconds, timed
from gen.data.spaces import DataSpec, Space
from gen.recipe import Recipe
from gen.registry import build
from gen.train.context import ProcessContext
from gen.train.loop import fit

CLAIM = 0.97  # steps per second, of the plain loop's


class TakingTurns(ProcessContext):
    """After every window of steps of the product, its report included, some turns of another loop.

    Args:
        other: another loop; every ``next`` does ``steps_per_turn`` steps.
        window: steps of the product.
        turns: of the other loop after a window.
    """

    def __init__(self, other: Iterator[Tensor], window: int, *, turns: int, steps_per_turn: int = 1) -> None:
        super().__init__(device=torch.device("cpu"))
        self.other, self.window, self.turns, self.steps_per_turn = other, window, turns, steps_per_turn
        self.steps = 0
        self.product: Times = {"wall": [], "cpu": []}
        self.others: Times = {"wall": [], "cpu": []}

    def stopping(self) -> bool:
        """See base. The loop asks once a step, after everything else that is due."""
        self.steps += 1
        if self.steps % self.window == 0:
            now = time.perf_counter(), time.process_time()
            warm = self.steps > self.window  # the first window warms both up
            if warm:
                for clock, end, begin in zip(self.product, now, self.since, strict=True):
                    self.product[clock].append((end - begin) / self.window)
            seconds = timed(self.other, self.turns)
            if warm:
                for clock, spent in zip(self.others, seconds, strict=True):
                    self.others[clock].append(spent / (self.turns * self.steps_per_turn))
            self.since = time.perf_counter(), time.process_time()
        return False


def loop(recipe: Recipe, shards: Path, images: int | None) -> dict[str, object]:
    """The loop in this process against the one by hand."""
    window = recipe.training.report // recipe.training.batch
    found = _in_turns(recipe, shards, images, TakingTurns(plain_loop(recipe, shards), window, turns=window))
    return {"comparison": "loop", **found, "claim": CLAIM, "holds": found["steps_per_second_ratio"]["cpu"] >= CLAIM}


def against_pythae(recipe: Recipe, shards: Path, images: int | None) -> dict[str, object]:
    """The loop in this process against pythae's trainer on the same VAE."""
    spec = DataSpec((1, 28, 28), 10, Space.parse(recipe.space))
    model = build(recipe.model, spec, **recipe.hyper)
    with tempfile.TemporaryDirectory() as folder:
        epochs, steps = pythae_epochs(model, recipe, shards, Path(folder))
        window = recipe.training.report // recipe.training.batch
        found = _in_turns(recipe, shards, images, TakingTurns(epochs, window, turns=1, steps_per_turn=steps))
    return {"comparison": "pythae", **found, "claim": 1.0, "holds": found["steps_per_second_ratio"]["cpu"] >= 1.0}


def _in_turns(recipe: Recipe, shards: Path, images: int | None, context: TakingTurns) -> dict[str, Any]:
    training = recipe.training
    images = images or 20 * training.report
    quiet = replace(training, images=images, validate=images, pictures=images, checkpoint=images)
    with tempfile.TemporaryDirectory() as folder:
        fit(replace(recipe, training=quiet), data=shards, directory=Path(folder), context=context)
    ratios = {clock: median_ratio(context.others[clock], context.product[clock]) for clock in ("wall", "cpu")}
    return {
        "recipe": recipe.name,
        "windows": len(context.product["wall"]),
        "steps_per_window": training.report // training.batch,
        "plain_ms": milliseconds(context.others),
        "product_ms": milliseconds(context.product),
        "steps_per_second_ratio": ratios,
    }
