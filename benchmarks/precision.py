"""Does bf16 autocast keep quality? A recipe in float32 and in bf16, same seeds, same run: FID ratio and speed.

    python -m benchmarks.precision [--recipe dcgan-digits] [--seeds 3] [--json]

Needs the shards and the judge (`dvc repro judge@digits`). FID is measured on the validation split, since it decides
about a default; "ratio" is FID over that of independent pixels. CPU seconds are this process's own, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from gen.data.reader import everything
from gen.evaluate.card import evaluate
from gen.evaluate.judge import load_judge
from gen.store import load_model
from gen.train.context import ProcessContext
from gen.train.loop import fit
from pipelines.layout import Layout
from pipelines.params import load


def measure(name: str, seeds: int) -> list[dict[str, float | str]]:
    layout = Layout(Path().resolve())
    recipe = load(layout.root / "params.yaml").recipe(name)
    shards, judge = layout.shards(recipe.dataset), load_judge(layout.judge(recipe.dataset))
    splits = {"train": everything(shards, "train"), "test": everything(shards, "validation")}
    rows: list[dict[str, float | str]] = []
    for seed in range(seeds):
        for precision in ("float32", "bf16"):
            training = replace(recipe.training, precision=precision, seed=seed)
            with tempfile.TemporaryDirectory() as folder:
                began = time.process_time()
                final = fit(
                    replace(recipe, training=training), data=shards, directory=Path(folder), context=ProcessContext()
                )
                seconds = time.process_time() - began
                card, _ = evaluate(load_model(final).model, judge=judge, splits=splits, num_samples=1_000)
            ratio = card["scores"]["fid_ratio"]["value"]
            smallest = card["scores"]["min_class_share"]["value"]
            row = {"precision": precision, "seed": seed, "fid_ratio": ratio, "min_class_share": smallest}
            rows.append({**row, "cpu_seconds": seconds})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="dcgan-digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print all rows as one JSON document at the end")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.recipe, arguments.seeds)
    if arguments.json:
        print(json.dumps({"recipe": arguments.recipe, "rows": rows}, indent=2))
    for key in ("fid_ratio", "cpu_seconds"):
        means = [statistics.mean(float(r[key]) for r in rows if r["precision"] == p) for p in ("float32", "bf16")]
        print(f"{key}: float32 {means[0]:.4g}, bf16 {means[1]:.4g}, bf16 / float32 {means[1] / means[0]:.3f}")


if __name__ == "__main__":
    main()
