"""Train without Ray, MLflow or DVC: one process, or as many as ``torchrun`` starts.

    python -m gen.train recipe.json --data data/shards/digits --out run
    torchrun --nproc-per-node 2 -m gen.train recipe.json --data data/shards/digits --out run

``recipe.json`` is a recipe as :meth:`gen.recipe.Recipe.as_dict` gives it; every run directory has one. With several
processes, ``training.slices`` must be at least their number. The same command goes on from the newest checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from gen.errors import GenError, RecipeError
from gen.files import read_json
from gen.recipe import Recipe
from gen.train.context import stop_on_signal, torchrun
from gen.train.loop import fit


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="gen.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="JSON file")
    parser.add_argument("--data", type=Path, required=True, help="directory of shards")
    parser.add_argument("--out", type=Path, required=True, help="directory of the run, shared by all processes")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process (default: 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        recipe = Recipe.from_dict(read_json(arguments.recipe, error=RecipeError))
        with torchrun() as context, stop_on_signal(context.stop):
            final = fit(recipe, data=arguments.data, directory=arguments.out, context=context)
    except GenError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    if context.rank == 0:
        print(final)
    return 0


if __name__ == "__main__":
    sys.exit(main())
