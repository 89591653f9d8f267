"""Stage ``register``: put a trained and evaluated model into MLflow's registry, as candidate."""

from __future__ import annotations

import sys

from gen.files import read_json, write_json
from pipelines.evaluate import scores
from pipelines.layout import Layout, run_of
from pipelines.progress import timed
from pipelines.stage import stage
from pipelines.tracking import log_evaluation
from pipelines.tracking import register as register_model


def register(name: str, layout: Layout) -> None:
    """Attach the evaluation of a model to its MLflow run, register it, and write ``registered/<name>.json``."""
    with timed(f"registration of {name}"):
        run, values = run_of(layout, name), scores(name, layout)
        pictures = {path.stem: path for path in sorted((layout.scores(name) / "pictures").glob("*.png"))}
        log_evaluation(layout.root, run, values, pictures, layout.scores(name) / "card.json")
        verdicts = read_json(layout.scores(name) / "gate.json")
        failed = [verdict["score"] for verdict in verdicts if not verdict["passed"]]
        card = f"Gate: {'failed on ' + ', '.join(failed) if failed else f'passed ({len(verdicts)} bars)'}."
        version = register_model(
            layout.root, run_dir=run, model_dir=layout.weights(name), name=name, metrics=values, card=card
        )
        write_json(layout.registered(name), version)


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", register, names="RECIPE"))
