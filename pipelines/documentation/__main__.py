"""Records what was measured, or writes the pages that show it.

python -m pipelines.documentation --record               # every recipe and study that was run, into docs/measured
python -m pipelines.documentation --record vae-digits    # or some
python -m pipelines.documentation                        # the generated pages; `make docs` does it and builds
python -m pipelines.documentation --readme               # the README's table and picture, from docs/measured
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.documentation.pages import write
from pipelines.documentation.readme import update
from pipelines.documentation.record import record, trained
from pipelines.documentation.studies import record_study, studied
from pipelines.layout import Layout
from pipelines.params import load
from pipelines.stage import explain


def main() -> int:
    """Record or write."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.documentation", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "recipes", nargs="*", metavar="RECIPE", help="what to record (default: all that was trained, and all studies)"
    )
    parser.add_argument("--record", action="store_true", help="write docs/measured from models/ and scores/")
    parser.add_argument("--readme", action="store_true", help="write README.md's table and docs/samples.png")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the project (default: here)")
    arguments = parser.parse_args()
    root: Path = arguments.root.resolve()

    def work() -> None:
        if arguments.readme:
            update(root)
            return
        if not arguments.record:
            write(root / "docs", root)
            return
        params, layout = load(root / "params.yaml"), Layout(root)
        for name in arguments.recipes or [name for name in params.recipes if trained(layout, name)]:
            print(record(root, params.recipe(name).name).relative_to(root))
        for name in [] if arguments.recipes else studied(root):
            print(record_study(root, name).relative_to(root))

    return explain(work)


if __name__ == "__main__":
    sys.exit(main())
