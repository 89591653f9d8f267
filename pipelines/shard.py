"""Stage ``shard``: write a pulled data set as WebDataset tars with a manifest and indices."""

from __future__ import annotations

import sys

from gen.data.raw import Raw
from gen.data.shards import write_shards
from pipelines.layout import Layout
from pipelines.params import load
from pipelines.stage import stage


def shard(name: str, layout: Layout) -> None:
    """Shard a data set of params.yaml."""
    dataset = load(layout.root / "params.yaml").dataset(name)
    write_shards(Raw.load(layout.raw(name)), layout.shards(name), samples_per_shard=dataset.samples_per_shard)


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", shard, names="DATASET"))
