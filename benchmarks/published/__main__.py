"""How near do the models come to the published numbers? Trained on all of MNIST, measured on its 10,000 test images.

    python -m benchmarks.mnist RECIPE ... --data DIR --work DIR [--threads 1] [--samples 5000]

``DIR`` of ``--data`` holds ``MNIST/raw`` (the idx files) and ``binarized_mnist`` (Larochelle's text files). Recipes are
those of ``benchmarks/mnist/params.yaml``; their budgets of images are what a session on one or two CPU cores can spend,
and far from what the papers spent: the record says how many images were seen, in how many minutes, on what. The same
command goes on after an interruption. A GPU is used if there is one.

Every estimator of the model is run on all test images. Models with a posterior to sample from get one estimate more, by
importance sampling with ``--samples`` codes for each image, which is how their numbers were published [1]. The result
is written to ``benchmarks/results/mnist.json``, beside those of other recipes.

[1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2016.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gen.data.reader import everything
from gen.evaluate.bench import in_space
from gen.evaluate.likelihood import estimators, log_probs
from gen.files import write_json
from gen.inference.importance import iwae
from gen.model import Likelihood
from gen.recipe import Recipe
from gen.shards.write import write_shards
from gen.sources.pull import pull
from gen.store import Stored, load_model
from gen.train.context import ProcessContext, stop_on_signal
from gen.train.loop import fit
from pipelines.params import Params, load

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "mnist.json"
BATCH = 50  # test images at a time: bounds the memory of the estimators
NICKNAMES = {"binary_dynamic": "MNIST, dynamic binarisation", "binary_fixed": "MNIST, fixed binarisation"}


def shards(params: Params, name: str, data: Path, work: Path) -> Path:
    """The shards of a data set, written if they are not there."""
    place = work / "shards" / name
    if not (place / "manifest.json").exists():
        dataset = params.datasets[name]
        collection = pull(name, dataset.origin, work / "raw" / name, base=data)
        write_shards(collection, place, splits=dataset.splits)
    return place


def measure(stored: Stored, place: Path, samples: int) -> list[dict[str, Any]]:
    """Every estimator on the whole test split, the one to quote last."""
    model = stored.model.eval()
    images, _ = everything(place, "test")
    x = in_space(images, model.spec.space, seed=1).to(next(model.parameters()).device)
    found = estimators(model, seed=0)
    if hasattr(model, "log_weights"):
        found[f"iwae_{samples}"] = Likelihood("lower bound", partial(iwae, model.log_weights, samples=samples))
    lines = []
    for name, likelihood in found.items():
        began = time.perf_counter()
        log_p = log_probs(name, likelihood, x, batch_size=BATCH)
        lines.append(
            {
                "estimator": name,
                "kind": likelihood.kind,
                "nats": round(-float(log_p.mean()), 3),
                "standard_error": round(float(log_p.std()) / math.sqrt(len(log_p)), 3),
                "images": len(log_p),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
        print(f"  {name:20} {lines[-1]['nats']:9.2f} nats", flush=True)
    return lines


def run(params: Params, recipe: Recipe, data: Path, work: Path, samples: int) -> dict[str, Any]:
    """Train a recipe to the end of its budget and measure it."""
    place, context = shards(params, recipe.dataset, data, work), ProcessContext()
    with stop_on_signal(context.stop):
        stored = load_model(fit(recipe, data=place, directory=work / recipe.name, context=context))
    meta = stored.meta
    print(f"{recipe.name}: {meta['images']:,} images in {meta['seconds'] / 60:.1f} min", flush=True)
    likelihoods = measure(stored, place, samples)
    return {
        "recipe": recipe.name,
        "model": meta["model"],
        "data": NICKNAMES.get(recipe.space, f"{recipe.dataset}, {recipe.space}"),
        "estimator": likelihoods[-1]["estimator"],
        "kind": likelihoods[-1]["kind"],
        "nats": likelihoods[-1]["nats"],
        "images": meta["images"],
        "minutes": round(meta["seconds"] / 60, 1),
        "device": _device(meta),
        "hyper": recipe.as_dict()["hyper"],
        "parameters": sum(p.numel() for p in stored.model.parameters()),
        "likelihoods": likelihoods,
    }


def _device(meta: dict[str, Any]) -> str:
    if meta["device"].startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"CPU, {meta['threads']} thread{'s' if meta['threads'] > 1 else ''} of {os.cpu_count()} cores"


def main() -> None:
    """Entry point."""
    params = load(HERE / "params.yaml")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", choices=list(params.recipes), metavar="RECIPE")
    parser.add_argument("--data", type=Path, required=True, help="directory of the real data sets")
    parser.add_argument("--work", type=Path, required=True, help="directory for shards, checkpoints and models")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--samples", type=int, default=5000, help="codes for each image (default: 5000)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file the results are added to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.recipes:
        found = run(params, params.recipes[name], arguments.data.resolve(), arguments.work, arguments.samples)
        record = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"runs": []}
        others = [each for each in record["runs"] if each["recipe"] != name]
        record |= {
            "command": "python -m benchmarks.mnist RECIPE --data DIR --work DIR",
            "torch": torch.__version__,
            "processor": platform.machine(),
            "runs": sorted([*others, found], key=lambda each: each["recipe"]),
        }
        write_json(arguments.out, record)


if __name__ == "__main__":
    main()
