"""Stage ``evaluate``: measure a trained model on the test split, and hold it to its gate."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from gen.data.reader import everything
from gen.evaluate.card import evaluate as measure
from gen.evaluate.card import flatten
from gen.evaluate.grids import save_png
from gen.evaluate.judge import load_judge
from gen.files import atomic_directory, read_json, write_json
from gen.store import load_model
from pipelines.layout import Layout
from pipelines.params import Bar, load
from pipelines.progress import timed
from pipelines.stage import stage

THREADS = 1  # part of the identity of what comes out: another number rounds differently
GATE_FAILED = 4  # exit code


def evaluate(name: str, layout: Layout) -> None:
    """Write ``scores/<name>``: the card, its numbers, the verdicts of the gate and pictures."""
    params = load(layout.root / "params.yaml")
    recipe = params.recipe(name)
    torch.set_num_threads(THREADS)
    model = load_model(layout.weights(name)).model
    drawn = params.evaluation.samples
    classes = torch.arange(drawn) % model.spec.num_classes if model.conditional else None
    with timed(f"evaluation of {name}"):
        card, pictures = measure(
            model,
            judge=load_judge(layout.judge(recipe.dataset)),
            splits={split: everything(layout.shards(recipe.dataset), split) for split in ("train", "test")},
            seed=params.evaluation.seed,
            num_samples=drawn,
            conditions=classes,
        )
    values = flatten(card)
    with atomic_directory(layout.scores(name)) as staging:
        write_json(staging / "card.json", card)
        write_json(staging / "metrics.json", values)
        write_json(staging / "gate.json", verdicts(params.gates.get(name, {}), values))
        (staging / "pictures").mkdir()
        for picture, images in pictures.items():
            save_png(staging / "pictures" / f"{picture}.png", images)


def verdicts(gate: Mapping[str, Bar], values: Mapping[str, float]) -> list[dict[str, Any]]:
    """One entry per bar. A score that was not measured fails its bar: silence is not a pass."""
    result = []
    for score, bar in gate.items():
        value = values.get(score)
        passed = value is not None and (
            (bar.at_least is None or value >= bar.at_least) and (bar.at_most is None or value <= bar.at_most)
        )
        bars = {kind: limit for kind in ("at_least", "at_most") if (limit := getattr(bar, kind)) is not None}
        result.append({"score": score, "value": value, **bars, "passed": passed})
    return result


def passed(name: str, layout: Layout) -> bool:
    """Whether an evaluated model passed all bars of its gate."""
    return all(verdict["passed"] for verdict in read_json(layout.scores(name) / "gate.json"))


def scores(name: str, layout: Layout) -> dict[str, float]:
    """The numbers of an evaluated model."""
    values: dict[str, float] = read_json(layout.scores(name) / "metrics.json")
    return values


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", evaluate, names="RECIPE"))
