"""Stage ``shard``: write a pulled data set as WebDataset tars with a manifest and indices.

Shards are written by several processes, or by the tasks of the Ray cluster that ``RAY_ADDRESS`` names; what they hold
depends on neither. After an interruption the same command goes on behind the shards that are finished.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from gen.data.images import Prepare
from gen.errors import RecipeError
from gen.files import digest
from gen.shards.adopt import adopt_tars
from gen.shards.write import Format, write_shards
from gen.sources.pull import receipt_digest, reopen
from gen.sources.tars import TarSet
from pipelines.datasets import Dataset
from pipelines.layout import Layout, writing_digest
from pipelines.lifeline import sole_writer
from pipelines.params import load
from pipelines.progress import Bar
from pipelines.stage import stage
from pipelines.writers import writers


def shard(name: str, layout: Layout, *, processes: int | None = None) -> None:
    """Shard a data set of params.yaml.

    Args:
        name: of the data set.
        layout: where things lie.
        processes: that write; by default one for each core.
    """
    dataset = load(layout.root / "params.yaml").dataset(name)
    with sole_writer(layout.run("shard", name)):
        with Bar(f"check {name}", unit="bytes") as bar:
            collection = reopen(name, dataset.origin, layout.raw(name), base=layout.root, progress=bar.update)
        if isinstance(collection, TarSet):
            _adopt(name, collection, dataset, layout, processes)
            return
        plan = {**asdict(dataset), "pulled": receipt_digest(layout.raw(name)), "code": writing_digest()}
        with Bar(f"shard {name}", unit="samples") as bar, writers(processes) as run:
            write_shards(
                collection,
                layout.shards(name),
                prepare=dataset.prepare,
                splits=dataset.splits,
                form=dataset.shards,
                damaged=dataset.damaged,
                run=run,
                resume=digest(plan)[:10],
                progress=bar.update,
            )


def _adopt(name: str, tars: TarSet, dataset: Dataset, layout: Layout, processes: int | None) -> None:
    """Index tars as they are."""
    if dataset.prepare != Prepare() or dataset.splits or dataset.shards != Format():
        raise RecipeError(
            f"datasets.{name}: tars are used as they are; remove prepare, splits and shards, or unpack the tars and "
            "use another source."
        )
    with Bar(f"index {name}", unit="tars") as bar, writers(processes) as run:
        adopt_tars(
            tars.source,
            tars.places,
            layout.shards(name),
            classes=tars.classes,
            attributes=tars.attributes,
            damaged=dataset.damaged,
            run=run,
            progress=bar.update,
        )


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", shard, names="DATASET"))
