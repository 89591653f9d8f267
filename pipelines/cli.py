"""The ``gen`` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from gen import __version__
from gen.errors import RecipeError
from pipelines.command import Work, adder
from pipelines.data.commands import add_data_commands
from pipelines.layout import Layout
from pipelines.promotion.commands import add_promotion_commands
from pipelines.runs import add_runs_commands
from pipelines.serving.commands import add_serving_commands
from pipelines.stage import explain
from pipelines.sweeping.commands import add_sweeping_commands

EPILOG = """\
the usual way:
  dvc repro tour               one model of each kind on 5,000 real digits, minutes on two cores
  gen ui                       look at the runs, the sample grids and the registered models in MLflow
  gen train vae-digits         train one recipe of params.yaml; run it again to resume
  gen sample vae-digits        draw a grid of images from a trained model
  gen study chains             a demonstration of the lecture on trained models, as figures
  gen sweep dcgan-digits       search for a better recipe; `gen adopt` puts it into params.yaml
  gen promote vae-digits       make a registered model the champion, if it passes its gate; `gen serve` serves it

exit codes:
  0 done   2 the command or params.yaml is wrong   3 data missing or damaged   4 a gate failed
  5 a stored model is damaged   6 training failed   75 busy, try again   143 stopped; a checkpoint was saved
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    layout = Layout(arguments.root.resolve())
    work: Work = arguments.work
    return explain(lambda: work(arguments, layout))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gen",
        description="Classic deep generative models, trained for real by one reproducible pipeline.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gen {__version__}")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the project (default: here)")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = adder(commands)
    add_data_commands(
        commands.add_parser(
            "data",
            help="pull, shard, check, look at, browse and repair data sets",
            description="Data sets and their shards.",
        )
    )

    doctor = command("doctor", _doctor, "check this machine", "Every finding that matters comes with its remedy.")
    doctor.add_argument("--json", action="store_true", help="print JSON")

    models = command("models", _models, "list the models", "The table of contents, or one model in full.")
    models.add_argument("model", nargs="?", metavar="MODEL", help="show its chapter and hyper-parameters")
    models.add_argument("--json", action="store_true", help="print JSON")

    train = command("train", _train, "train a recipe", "Goes on from the newest checkpoint if it was interrupted.")
    train.add_argument("recipe", metavar="RECIPE", help="a name under `recipes` in params.yaml")
    train.add_argument(
        "--workers",
        type=_workers,
        metavar="N|LO,HI",
        help="0: in this process, without Ray; N: Ray Train; LO,HI: elastic (default: params.yaml)",
    )

    sample = command("sample", _sample, "draw images from a trained model")
    sample.add_argument("recipe", metavar="RECIPE")
    sample.add_argument("--count", type=int, default=64, help="number of images (default: 64)")
    sample.add_argument("--seed", type=int, default=0, help="equal seeds give equal images (default: 0)")
    sample.add_argument("--out", type=Path, help="PNG to write (default: samples-RECIPE.png)")

    evaluate = command(
        "evaluate", _evaluate, "evaluate a trained model on the test split", "Exits with 4 if its gate fails."
    )
    evaluate.add_argument("recipe", metavar="RECIPE")
    evaluate.add_argument("--json", action="store_true", help="print the scores as JSON")

    study = command(
        "study",
        _study,
        "run a demonstration of the lecture on trained models",
        "Writes figures and numbers to studies/STUDY, which the report shows. Without a name, lists the studies.",
    )
    study.add_argument("study", nargs="?", metavar="STUDY", help="a name under `studies` in params.yaml")
    study.add_argument("--json", action="store_true", help="print JSON")

    add_sweeping_commands(command)
    add_promotion_commands(command)
    add_serving_commands(command)
    add_runs_commands(command)

    ui = command("ui", _ui, "open MLflow's pages on the tracked runs and models")
    ui.add_argument("--port", type=int, default=5000, help="port on this machine (default: 5000)")
    return parser


def _workers(text: str) -> int | tuple[int, int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"found '{text}'; give a number, or LO,HI") from None
    match numbers:
        case [n]:
            return n
        case [low, high]:
            return (low, high)
    raise argparse.ArgumentTypeError(f"found '{text}'; give a number, or LO,HI")


def _doctor(arguments: argparse.Namespace, layout: Layout) -> int:
    from pipelines.doctor import examine, show

    findings = examine(layout)
    print(json.dumps([f.as_dict() for f in findings], indent=2) if arguments.json else show(findings))
    return 0 if all(f.ok for f in findings) else 1


def _models(arguments: argparse.Namespace, layout: Layout) -> None:
    import inspect

    from gen.registry import entry, list_models

    if arguments.model:
        found = entry(arguments.model)
        hyper = {name: repr(p.default) for name, p in found.hyper.items()}
        facts = {"name": found.name, "model": found.chapter, "spaces": list(found.cls.spaces), "hyper": hyper}
        if arguments.json:
            print(json.dumps({**facts, "summary": found.summary}, indent=2))
        else:
            print(inspect.getdoc(inspect.getmodule(found.cls)))
            print(f"\nin a recipe:  model: {found.chapter}\nspaces:       {', '.join(found.cls.spaces)}\nhyper:")
            print("\n".join(f"  {name} = {default}" for name, default in hyper.items()))
        return
    entries = [entry(name) for name in list_models()]
    if arguments.json:
        print(json.dumps([{"name": e.name, "model": e.chapter, "summary": e.summary} for e in entries], indent=2))
    else:
        print("\n".join(f"{e.chapter:28} {e.summary}" for e in entries))


def _train(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.train import train

    train(arguments.recipe, layout, workers=arguments.workers)


def _sample(arguments: argparse.Namespace, layout: Layout) -> None:
    import torch

    from gen.evaluate.grids import save_png
    from gen.model import Samples
    from gen.store import load_model

    if arguments.count < 1:
        raise RecipeError(f"--count: found {arguments.count}; it must be at least 1.")
    model = load_model(layout.weights(arguments.recipe)).model
    if not isinstance(model, Samples):
        raise RecipeError(f"{arguments.recipe}: this model does not draw images. `gen models` says what it is.")
    torch.manual_seed(arguments.seed)
    with torch.no_grad():
        images = model.spec.space.decode(model.sample(arguments.count))
    path = arguments.out or Path(f"samples-{arguments.recipe}.png")
    save_png(path, images)
    print(path)


def _evaluate(arguments: argparse.Namespace, layout: Layout) -> int:
    from pipelines.evaluate import GATE_FAILED, evaluate, passed, scores

    evaluate(arguments.recipe, layout)
    values = scores(arguments.recipe, layout)
    if arguments.json:
        print(json.dumps(values, indent=2))
    else:
        print(_scores_table(values))
    return 0 if passed(arguments.recipe, layout) else GATE_FAILED


def _study(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.study import listing, outcome, study

    if arguments.study:
        study(arguments.study, layout)
        found = outcome(arguments.study, layout)
        print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else "\n".join(found["sentences"]))
        print(layout.study(arguments.study), file=sys.stderr)
        return
    studies = listing(layout)
    if arguments.json:
        print(json.dumps(studies, indent=2, ensure_ascii=False))
        return
    for each in studies:
        needs = f"  (to be trained: {', '.join(each['missing'])})" if each["missing"] else ""
        print(f"{each['study']:14} {each['state']:14} {each['title']}: {each['question']}{needs}")


def _scores_table(values: dict[str, float]) -> str:
    """One line per score; distances beside those of real images and of independent pixels."""
    suffixes = ("", "_floor", "_independent")
    names = [name for name in values if not name.endswith(suffixes[1:])]
    lines = [f"{'':24}{'this model':>12}{'real images':>14}{'indep. pixels':>15}"]
    for name in names:
        cells = [f"{values[name + s]:.5g}" if name + s in values else "" for s in suffixes]
        lines.append(f"{name:24}{cells[0]:>12}{cells[1]:>14}{cells[2]:>15}".rstrip())
    return "\n".join(lines)


def _ui(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.tracking.server import server_command

    command, environment = server_command(layout.root, port=arguments.port)
    hint = "choose 'Model training' at the top left; Ctrl+C ends it"  # MLflow opens on its pages for language models
    print(f"http://127.0.0.1:{arguments.port}  ({hint})", file=sys.stderr, flush=True)
    os.execvpe(command[0], command, {**os.environ, **environment})


if __name__ == "__main__":
    sys.exit(main())
