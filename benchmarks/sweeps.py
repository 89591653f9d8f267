"""What does stopping trials early save? ASHA against random search, from the same seed, on 5,000 real digits.

    python -m benchmarks.sweeps [--recipes vae-digits dcgan-digits] [--trials 12] [--seed 0] [--out FILE]

Both searches propose the very same trials, trial 0 being the recipe as it stands; random search gives each the whole
budget, ASHA stops those that fall behind. Then the recipe that ASHA found is adopted, trained and held to its gate on
the test split. Everything runs in a directory of its own, by the commands a user would type. Compared are the objective
on the validation split and the images that were spent, which do not depend on the machine; seconds are wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipelines.sweeping.ledger import Ledger
from pipelines.sweeping.pictures import history
from pipelines.sweeping.spaces import Objective

ROOT = Path(__file__).parents[1]
SEARCHES = {"ASHA": "asha", "random": "none"}


def run(root: Path, *words: str, expect: tuple[int, ...] = (0,)) -> str:
    """A command of this interpreter on the project at ``root``; what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", *words[:1], *(("--root", str(root)) if words[0] == "pipelines.cli" else ())]
    tail = words[1:] if words[0] == "pipelines.cli" else (*words[1:], "--root", str(root))
    done = subprocess.run([*command, *tail], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in expect:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}")
    return done.stdout


def compare(root: Path, recipe: str, *, trials: int, seed: int) -> dict[str, Any]:
    """Both searches of a recipe, and what became of what ASHA found."""
    found: dict[str, Any] = {}
    for name, scheduler in reversed(SEARCHES.items()):
        words = ["sweep", recipe, "--trials", str(trials), "--seed", str(seed), "--scheduler", scheduler, "--json"]
        found[name] = json.loads(run(root, "pipelines.cli", *words))
    objective = Objective(**dict(zip(("direction", "score"), _objective(found["ASHA"]), strict=True)))
    overlaid = {name: list(Ledger(Path(each["directory"])).trials.values()) for name, each in found.items()}
    history(root / f"{recipe}.png", recipe, overlaid, objective)
    print(run(root, "pipelines.cli", "adopt", recipe))  # ASHA ran last: its best.yaml is the one that is there
    run(root, "pipelines.cli", "train", recipe)
    gate = json.loads(run(root, "pipelines.cli", "evaluate", recipe, "--json", expect=(0, 4)))
    verdicts = json.loads((root / "scores" / recipe / "gate.json").read_text())
    keys = ("best", "default", "trials", "images", "seconds", "objective")
    return {
        "trials": trials,
        "seed": seed,
        **{name: {key: each[key] for key in keys} for name, each in found.items()},
        "images_ratio": found["ASHA"]["images"] / found["random"]["images"],
        "adopted": {"gate": verdicts, "passed": all(v["passed"] for v in verdicts), "test": gate.get(objective.score)},
    }


def _objective(result: dict[str, Any]) -> tuple[str, str]:
    ((direction, name),) = result["objective"].items()
    return direction, name.removeprefix("eval/")


def show(recipe: str, result: dict[str, Any]) -> str:
    """One recipe in words."""
    direction, score = _objective(result["ASHA"])
    lines = [f"{recipe}: eval/{score} on the validation split ({direction}), {result['trials']} trials"]
    lines.append(f"  {'the recipe as it stands':24} {result['random']['default']:10.4g}")
    for name in SEARCHES:
        each = result[name]
        lines.append(
            f"  {name:24} {each['best']['value']:10.4g}  {each['images']:>10,} images  {each['seconds']:6.0f} s"
            f"  trial {each['best']['trial']}"
        )
    adopted = result["adopted"]
    lines.append(f"  ASHA spent {result['images_ratio']:.2f} of the images of random search")
    lines.append(f"  adopted and trained: its gate {'passed' if adopted['passed'] else 'failed'} on the test split")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["vae-digits", "dcgan-digits"])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the results; pictures go beside it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        shutil.copy2(ROOT / "params.yaml", root)
        for stage in ("pull", "shard", "judge"):
            run(root, f"pipelines.{stage}", "digits")
        results = {}
        for recipe in arguments.recipes:
            results[recipe] = compare(root, recipe, trials=arguments.trials, seed=arguments.seed)
            print(show(recipe, results[recipe]), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps({"command": sys.argv[1:], "results": results}, indent=2) + "\n")
                shutil.copy2(root / f"{recipe}.png", arguments.out.with_name(f"{arguments.out.stem}-{recipe}.png"))


if __name__ == "__main__":
    main()
