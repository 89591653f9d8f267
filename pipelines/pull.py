"""Stage ``pull``: bring a data set into ``data/raw/<data set>``, in an ordinary layout, from its source."""

from __future__ import annotations

import sys

from gen.data.sources import pull as pull_source
from pipelines.layout import Layout
from pipelines.params import load
from pipelines.stage import stage


def pull(name: str, layout: Layout) -> None:
    """Pull a data set of params.yaml."""
    pull_source(load(layout.root / "params.yaml").dataset(name).source, layout.raw(name))


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", pull, names="DATASET"))
