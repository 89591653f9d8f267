"""Stage ``judge``: train the classifier whose features FID and its kin are measured in, on the train split."""

from __future__ import annotations

import sys

import torch

from gen.data.reader import everything
from gen.evaluate.judge import save_judge, train_judge
from pipelines.layout import Layout
from pipelines.params import load
from pipelines.progress import timed
from pipelines.stage import stage

THREADS = 1  # part of the identity of what comes out: another number rounds differently


def judge(name: str, layout: Layout) -> None:
    """Train the judge of a data set of params.yaml."""
    params = load(layout.root / "params.yaml")
    torch.set_num_threads(THREADS)
    with timed(f"judge of {name}"):
        train, validation = (everything(layout.shards(name), split) for split in ("train", "validation"))
        trained = train_judge(*train, validation, seed=params.judge.seed, images_budget=params.judge.images)
        save_judge(layout.judge(name), trained)


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", judge, names="DATASET"))
