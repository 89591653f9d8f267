"""How near do the models come to the published numbers? Trained on whole data sets, measured on all test images.

    python -m benchmarks.published RECIPE ... --data DIR --work DIR [--threads 1] [--samples 5000]

``DIR`` of ``--data`` holds ``MNIST/raw`` (the idx files), ``binarized_mnist`` (Larochelle's text files) and
``cifar-10-batches-py``. Recipes are those of ``benchmarks/published/params.yaml``; their budgets of images are what a
session on one or two CPU cores can spend, and far from what the papers spent: the record says how many images were
seen, in how many minutes, on what. The same command goes on after an interruption. A GPU is used if there is one.

Every estimator of the model is run on all test images. Models with a posterior to sample from get one estimate more, by
importance sampling with ``--samples`` codes for each image, which is how their numbers were published [1]. The result
is written to ``benchmarks/results/published.json``, beside those of other recipes; of recipes that validate in bits per
dimension as they go, with the curve and its continuation (:mod:`benchmarks.published.curves`), which is also drawn.

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
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.published import curves
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
RESULTS = HERE.parent / "results" / "published.json"
BATCH = 50  # test images at a time: bounds the memory of the estimators
MORE = 10  # times the images to which curves are continued
NICKNAMES = {  # of data sets in spaces, as pipelines/published.yaml has them
    ("mnist", "binary_dynamic"): "MNIST, dynamic binarisation",
    ("mnist-fixed", "binary_fixed"): "MNIST, fixed binarisation",
    ("cifar10", "levels(256)"): "CIFAR-10, 8 bits",
}


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
        bits = model.spec.space.bits_per_dim(float(log_p.mean()), model.spec.dims)
        print(f"  {name:20} {lines[-1]['nats']:9.2f} nats, {bits:.3f} bits/dim", flush=True)
    return lines


def run(params: Params, recipe: Recipe, data: Path, work: Path, samples: int) -> dict[str, Any]:
    """Train a recipe to the end of its budget and measure it."""
    place, context = shards(params, recipe.dataset, data, work), ProcessContext()
    with stop_on_signal(context.stop):
        stored = load_model(fit(recipe, data=place, directory=work / recipe.name, context=context))
    meta = stored.meta
    print(f"{recipe.name}: {meta['images']:,} images in {meta['seconds'] / 60:.1f} min", flush=True)
    likelihoods, spec = measure(stored, place, samples), stored.model.spec
    grey = spec.space.levels == 2  # whose numbers are nats of an image; of colours, they are bits of a value
    quoted = likelihoods[-1]
    bits = round(spec.space.bits_per_dim(-quoted["nats"], spec.dims), 4)
    scale = spec.dims * math.log(2) if grey else 1.0
    steady = all(fields.get("decay") == "constant" for fields in recipe.as_dict()["optim"].values())
    curve = [(n, round(scale * value, 4)) for n, value in curves.validation(work / recipe.name)]
    return {
        "recipe": recipe.name,
        "model": meta["model"],
        "data": NICKNAMES[recipe.dataset, recipe.space],
        "estimator": quoted["estimator"],
        "kind": quoted["kind"],
        "unit": "nats" if grey else "bits/dim",
        "value": quoted["nats"] if grey else bits,
        "images": meta["images"],
        "minutes": round(meta["seconds"] / 60, 1),
        "device": _device(meta),
        "hyper": recipe.as_dict()["hyper"],
        "parameters": sum(p.numel() for p in stored.model.parameters()),
        "likelihoods": likelihoods,
        "curve": curve,
        "continued": curves.continued(curve, MORE * meta["images"]) if curve and steady else None,
    }


def draw(record: dict[str, Any], out: Path) -> None:
    """A picture of the curves for each kind of data, beside the record."""
    others = yaml.safe_load(files("pipelines").joinpath("published.yaml").read_text(encoding="utf-8"))
    for data in NICKNAMES.values():
        runs = [run for run in record["runs"] if run["data"] == data and run.get("curve")]
        published = {
            run["recipe"]: float(other["number"])
            for run in runs
            for other in others.get(run["model"].rpartition("/")[2], [])
            if other["data"] == data
        }
        if runs:
            name = data.lower().replace(",", "").replace(" ", "-")
            out.with_name(f"{out.stem}-{name}.png").write_bytes(curves.picture(runs, published))


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
            "command": "python -m benchmarks.published RECIPE --data DIR --work DIR",
            "torch": torch.__version__,
            "processor": platform.machine(),
            "runs": sorted([*others, found], key=lambda each: each["recipe"]),
        }
        write_json(arguments.out, record)
        draw(record, arguments.out)


if __name__ == "__main__":
    main()
