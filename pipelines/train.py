"""Stage ``train``: a recipe and its shards become a trained model and the record of its training.

Running it again resumes; a run that is complete is not run again.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

from gen.data.manifest import manifest_digest
from gen.errors import DataError
from gen.files import atomic_directory, read_json, write_json
from gen.train.events import read, series
from pipelines import cluster
from pipelines.layout import Layout, code_digest, run_identity
from pipelines.lifeline import sole_writer
from pipelines.params import load, with_workers
from pipelines.progress import RunProgress
from pipelines.stage import stage
from pipelines.tracking.tracker import track_training


def train(name: str, layout: Layout, *, workers: int | tuple[int, int] | None = None) -> None:
    """Train a recipe of params.yaml into ``models/<name>``.

    Args:
        name: of the recipe.
        layout: where things lie.
        workers: overrides ``resources.workers``.
    """
    params = load(layout.root / "params.yaml")
    recipe = params.recipe(name)
    resources = with_workers(params.resources_of(name), workers)
    data = layout.shards(recipe.dataset)
    if not (data / "manifest.json").exists():
        raise DataError(f"{data}: there are no shards. Run `dvc repro shard@{recipe.dataset}` first.")
    digest, code = manifest_digest(data), code_digest(recipe.model)
    run = layout.run(name, run_identity(recipe, data=digest, code=code))
    with sole_writer(run):
        write_json(run / "recipe.json", recipe.as_dict())
        with (
            track_training(layout, run, recipe, data=digest, code=code) as tracker,
            RunProgress(name, run / "events.jsonl", recipe.training.images),
        ):
            cluster.launch(cluster.Job(recipe, data, run, code, resources.reading), resources)
        if tracker.problem:
            print(f"{name}: warning: {tracker.problem} `gen sync` sends what is missing.", file=sys.stderr)
        publish(run, layout.model(name))


def publish(run: Path, destination: Path) -> None:
    """Put a complete run's results in place, all at once: DVC removed the old ones before the stage."""
    events, _ = read(run / "events.jsonl")
    curves = series(events)
    with atomic_directory(destination) as staging:
        shutil.copytree(run / "final", staging / "weights")
        shutil.copy2(run / "events.jsonl", staging / "events.jsonl")
        shutil.copytree(run / "pictures", staging / "pictures") if (run / "pictures").exists() else (
            staging / "pictures"
        ).mkdir()
        _write_curves(staging / "curves.csv", curves)
        meta = read_json(run / "final" / "model.json")
        write_json(
            staging / "train.json",
            {
                "images": meta["images"],
                "steps": meta["steps"],
                "seconds": meta["seconds"],
                **{name: points[-1][1] for name, points in sorted(curves.items())},
            },
        )


def _write_curves(path: Path, curves: dict[str, list[tuple[int, float]]]) -> None:
    """One row per point on the clock, one column per curve, for ``dvc plots``."""
    names = sorted(curves)
    rows: dict[int, dict[str, float]] = {}
    for name in names:
        for images, value in curves[name]:
            rows.setdefault(images, {})[name] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["images", *names])
        writer.writeheader()
        writer.writerows({"images": images, **rows[images]} for images in sorted(rows))


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", train, names="RECIPE"))
