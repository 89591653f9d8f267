"""``gen sweep`` and ``gen adopt``."""

from __future__ import annotations

import argparse
import json
import re

from pipelines.command import AddCommand
from pipelines.layout import Layout

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SCHEDULERS = ("asha", "median", "pbt", "none")
SEARCHES = ("random", "grid", "optuna")


def add_sweeping_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
    sweep = command(
        "sweep",
        _sweep,
        "search for a better recipe",
        "Varies a recipe as its entry under `sweeps` in params.yaml says, on this machine or on a Ray cluster.",
    )
    sweep.add_argument("recipe", metavar="RECIPE", help="a name under `recipes` and `sweeps` in params.yaml")
    sweep.add_argument("--trials", type=_count, metavar="N", default=12, help="trials in all (default: 12)")
    sweep.add_argument("--concurrent", type=_count, metavar="N", help="trials at a time (default: what fits)")
    sweep.add_argument("--workers-per-trial", type=_count, metavar="N", default=1, help="2 and more: through Ray Train")
    sweep.add_argument("--gpus-per-trial", type=_share, metavar="G", default=0.0, help="0.5: two trials share one")
    sweep.add_argument("--scheduler", choices=SCHEDULERS, default="asha", help="who stops trials early (default: asha)")
    sweep.add_argument("--search", choices=SEARCHES, default="random", help="who proposes them (default: random)")
    sweep.add_argument("--time-budget", type=_duration, metavar="TIME", help="stop after this time, e.g. 90m or 2h")
    sweep.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster (default: params.yaml's)")
    sweep.add_argument("--seed", type=int, default=0, help="of the search; another seed is another sweep (default: 0)")
    sweep.add_argument("--resume", action="store_true", help="go on with a sweep that was stopped, or add trials to it")
    sweep.add_argument("--json", action="store_true", help="print the result as JSON")

    adopt = command(
        "adopt",
        _adopt,
        "put the best recipe of a sweep into params.yaml",
        "Keeps comments and order, and shows the difference; the next `dvc repro` trains it.",
    )
    adopt.add_argument("recipe", metavar="RECIPE")
    adopt.add_argument("--force", action="store_true", help="also if the recipe changed since it was swept")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found '{text}'; give a whole number from 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if share < 0 or (share > 1 and share != int(share)):
        raise argparse.ArgumentTypeError(f"found '{text}'; give 0, a part of one GPU, or a whole number")
    return share


def _duration(text: str) -> float:
    """Seconds, from ``90``, ``90s``, ``5m``, ``1.5h`` or ``1d``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"found '{text}'; give a time such as 90s, 30m, 1.5h")
    return float(found[1]) * UNITS[found[2] or "s"]


def _sweep(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.sweeping.sweep import Options, sweep

    options = Options(
        trials=arguments.trials,
        concurrent=arguments.concurrent,
        workers=arguments.workers_per_trial,
        gpus=arguments.gpus_per_trial,
        scheduler=arguments.scheduler,
        search=arguments.search,
        seed=arguments.seed,
        seconds=arguments.time_budget,
        address=arguments.address,
        resume=arguments.resume,
    )
    result = sweep(arguments.recipe, layout, options)
    print(json.dumps(result, indent=2) if arguments.json else result["text"])


def _adopt(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.sweeping.adopt import adopt_best

    print(adopt_best(arguments.recipe, layout, force=arguments.force))
