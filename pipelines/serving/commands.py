"""The commands of pipelines.serving."""

from __future__ import annotations

import argparse
import os
from functools import partial

from gen.errors import RecipeError
from pipelines.command import AddCommand
from pipelines.layout import Layout

LOOK_S = 5.0


def add_serving_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
    serve = command(
        "serve",
        _serve,
        "answer requests to a registered model over HTTP",
        "With MLflow's scoring protocol: POST /invocations. What it can be asked: GET /schema, or a browser on GET /.",
    )
    serve.add_argument(
        "model", nargs="?", metavar="MODEL[@ALIAS|/VERSION]", help="a registered model (default: @champion)"
    )
    serve.add_argument("--recipe", metavar="RECIPE", help="serve the model last trained from a recipe instead")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default: 127.0.0.1)")
    serve.add_argument(
        "--port", type=partial(_number, least=0), default=5001, help="0 takes a free one (default: 5001)"
    )
    serve.add_argument(
        "--follow",
        type=partial(_number, least=0.1),
        nargs="?",
        const=LOOK_S,
        metavar="SECONDS",
        help=f"look so often whether the alias has moved, and serve what it names (default: {LOOK_S:g}; SIGHUP: now)",
    )
    serve.add_argument(
        "--queue", type=partial(_number, least=1), default=64, help="requests at a time; others get 503 (default: 64)"
    )
    serve.add_argument(
        "--timeout",
        type=partial(_number, least=1),
        default=120.0,
        metavar="SECONDS",
        help="of a request (default: 120)",
    )


def _number(text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < 1e9:
        raise argparse.ArgumentTypeError(f"found '{text}'; give a number from {least:g}")
    return value


def _serve(arguments: argparse.Namespace, layout: Layout) -> None:
    if (arguments.model is None) == (arguments.recipe is None):
        raise RecipeError("gen serve: give a registered MODEL, or --recipe RECIPE; one of them.")

    from pipelines.serving.app import Limits
    from pipelines.serving.server import serve
    from pipelines.serving.sources import Local, registered

    device = os.environ.get("MLFLOW_DEFAULT_PREDICTION_DEVICE", "cpu")
    source = (
        Local(layout, arguments.recipe, device)
        if arguments.recipe is not None
        else registered(layout.root, arguments.model, device)
    )
    serve(
        source,
        host=arguments.host,
        port=int(arguments.port),
        limits=Limits(queue=int(arguments.queue), seconds=arguments.timeout),
        follow=arguments.follow,
    )
