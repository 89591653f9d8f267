"""What does the product cost on top of a loop written by hand? Step times of both, one thread, in the same run.

    python -m benchmarks.step_time [--recipe NAME] [--ray | --loop | --pythae] [--images N] [--rounds 3] [--json FILE]

On one side a recipe of params.yaml, trained by the product; on the other the same networks, optimizers (fused),
precision and batch in a plain PyTorch loop: rows of a resident uint8 tensor by ``index_select``, the recipe's space,
the model's updates as one would write them for that model alone, averaged weights where the recipe asks for them, a
running sum of the loss; denormal numbers are flushed to zero on both sides. ``factor`` has no networks; its loop does
the same EM step and likelihood. Two comparisons:

--ray    ``pipelines.train`` with one Ray Train worker, tracked in an embedded MLflow, with the recipe's reports and
         checkpoints, against the loop in a fresh process; they take turns, once each a round. *Steps* is the median
         over report windows, and leaves out what happens between windows: the report, the checkpoint. *All* is from
         the first report to the last but one, everything between them included. Its CPU time is the worker's, all
         threads (from /proc, so to 10 ms); the first window warms both sides up and is not counted.
         The claim is that *all* costs at most 3 % more than the loop.
--loop   ``gen.train.loop.fit`` in this process, which after every window hands over to the plain loop for as many
         steps; a report is included. The claim is at least 0.97 of the plain loop's steps per second.

--pythae the same loop against pythae's trainer (pip install pythae) with the same VAE, in turns of one epoch. The
         claim is at least its steps per second.

The first two without flags. Validation and pictures wait until the end of the run and are in neither side's time.
Every figure is given as wall-clock time and as CPU time; on a machine that others use as well, only the second means
anything.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.step_time.in_process import against_pythae, loop
from benchmarks.step_time.through_ray import ray
from gen.shards.write import write_shards
from gen.sources.digits import digits
from pipelines.params import load

RAY_RECIPES = ("dcgan-digits", "vae-digits")
LOOP_RECIPES = ("vae-digits", "rbm-digits", "factor-digits", "dcgan-digits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", help="of params.yaml; default: all that are claimed")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ray", action="store_true", help="only the comparison through Ray Train")
    which.add_argument("--loop", action="store_true", help="only the comparison in this process")
    which.add_argument("--pythae", action="store_true", help="the VAE against pythae's trainer")
    parser.add_argument("--images", type=int, help="budget of a run; default: 12 (20 with --loop) reports")
    parser.add_argument("--rounds", type=int, default=3, help="runs through Ray Train")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipes = load().recipes
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        write_shards(digits(), shards)
        if arguments.pythae:
            results.append(against_pythae(recipes[arguments.recipe or "vae-digits"], shards, arguments.images))
            _show(results[-1])
        if not (arguments.ray or arguments.pythae):
            for name in [arguments.recipe] if arguments.recipe else LOOP_RECIPES:
                results.append(loop(recipes[name], shards, arguments.images))
                _show(results[-1])
        if not (arguments.loop or arguments.pythae):
            for name in [arguments.recipe] if arguments.recipe else RAY_RECIPES:
                results.append(ray(recipes[name], shards, arguments.images, arguments.rounds))
                _show(results[-1])
    if arguments.json:
        command = " ".join(["python -m benchmarks.step_time", *sys.argv[1:]])
        found = {"command": command, "torch": torch.__version__, "threads": 1, "cores": os.cpu_count()}
        arguments.json.write_text(json.dumps({**found, "results": results}, indent=1) + "\n")


def _show(result: dict[str, object]) -> None:
    ratio = result.get("time_ratio") or result["steps_per_second_ratio"]
    print(f"{result['comparison']:5}{result['recipe']:16}", end="")
    for clock in ("wall", "cpu"):
        a, b = result["product_ms"][clock], result["plain_ms"][clock]
        print(f"{clock}: {a:7.2f} ms against {b:7.2f}, ratio {ratio[clock]:.3f}   ", end="")
    print(f"claim {result['claim']}: {'holds' if result['holds'] else 'DOES NOT HOLD'}", flush=True)


if __name__ == "__main__":
    main()
