"""Stage ``register``: put a trained and evaluated model into MLflow's registry, as candidate."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from gen.files import atomic_directory, read_json, write_bytes, write_json
from pipelines.evaluate import scores
from pipelines.layout import Layout, run_of
from pipelines.lifeline import sole_writer
from pipelines.progress import timed
from pipelines.promotion.moves import nominate
from pipelines.stage import stage
from pipelines.tracking.cards import model_card
from pipelines.tracking.registry import register as register_model
from pipelines.tracking.shelf import Shelf
from pipelines.tracking.tracker import adopt, log_evaluation


def register(name: str, layout: Layout) -> None:
    """Attach a model's evaluation to its MLflow run, register it as candidate, and write ``registered/<name>.json``.

    Raises:
        StoreError: the audit log of its promotions is damaged (see :mod:`pipelines.promotion.journal`).
    """
    with timed(f"registration of {name}"):
        run, values = restored(name, layout), scores(name, layout)
        pictures = {path.stem: path for path in sorted((layout.scores(name) / "pictures").glob("*.png"))}
        log_evaluation(layout.root, run, values, pictures, layout.scores(name) / "card.json")
        card = model_card(layout, name, run)
        version = register_model(
            layout.root, run_dir=run, model_dir=layout.weights(name), name=name, metrics=values, card=card
        )
        nominate(Shelf(layout.root), name, version["version"])
        write_json(layout.registered(name), version)


def restored(name: str, layout: Layout) -> Path:
    """The run directory of a model; where training never ran (``dvc pull``), made from what training published."""
    run, published = run_of(layout, name), layout.model(name)
    with sole_writer(run):
        if not (run / "events.jsonl").exists() and (published / "events.jsonl").exists():
            meta = read_json(layout.weights(name) / "model.json")
            write_json(run / "recipe.json", meta["recipe"])
            with atomic_directory(run / "final") as staging:  # the run is complete: training it again must see that
                shutil.copytree(layout.weights(name), staging, dirs_exist_ok=True)
            shutil.copytree(published / "pictures", run / "pictures", dirs_exist_ok=True)
            adopt(layout, run, meta)
            write_bytes(run / "events.jsonl", (published / "events.jsonl").read_bytes())  # last: marks it as restored
    return run


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", register, names="RECIPE"))
