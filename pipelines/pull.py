"""Stage ``pull``: fetch a data set if it has to be, and write a receipt of what it is made of."""

from __future__ import annotations

import sys

from gen.sources.pull import pull as pull_origin
from pipelines.layout import Layout
from pipelines.lifeline import sole_writer
from pipelines.params import load
from pipelines.progress import Bar
from pipelines.stage import stage


def pull(name: str, layout: Layout) -> None:
    """Pull a data set of params.yaml."""
    dataset = load(layout.root / "params.yaml").dataset(name)
    with sole_writer(layout.run("pull", name)), Bar(f"pull {name}", unit="bytes") as bar:
        pull_origin(name, dataset.origin, layout.raw(name), base=layout.root, progress=bar.update)


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", pull, names="DATASET"))
