"""Stage ``study``: run a demonstration of the lecture on trained models, and keep its figures and numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from gen.data.reader import everything
from gen.errors import RecipeError, StoreError, nearest
from gen.evaluate.judge import load_judge
from gen.evaluate.seeds import fixed_seed
from gen.files import atomic_directory, read_json, write_json
from gen.store import load_model
from gen.studies.study import Trained, lacking
from pipelines.layout import Layout
from pipelines.params import Params, load
from pipelines.progress import timed
from pipelines.roles import Cast
from pipelines.stage import stage

THREADS = 1  # part of the identity of what comes out: another number rounds differently


def study(name: str, layout: Layout) -> None:
    """Write ``studies/<name>``: ``study.json``, and ``<figure>.png`` for each of its figures.

    Raises:
        RecipeError: params.yaml has no such study.
        StoreError: a model that it needs is not trained, or not as it was saved.
    """
    params = load(layout.root / "params.yaml")
    cast = casting(params, name)
    entry = cast.entry
    torch.set_num_threads(THREADS)
    roles, provenance = _trained(cast, params, layout)
    judge = {}
    if entry.judged:
        loaded = load_judge(layout.judge(cast.datasets(params.recipes)[0]))
        judge, provenance["judge"] = {"judge": loaded}, loaded.hash
    with timed(f"study {name}"), fixed_seed(cast.seed):
        found = entry.function(**roles, **judge, **cast.options, seed=cast.seed)
    title, question = _head(cast)
    with atomic_directory(layout.study(name)) as staging:
        for figure, each in found.figures.items():
            (staging / f"{figure}.png").write_bytes(each.png)
        write_json(
            staging / "study.json",
            {
                "study": name,
                "title": title,
                "question": question,
                "text": entry.text,
                "sentences": list(found.sentences),
                "figures": {key: each.caption for key, each in found.figures.items()},
                "numbers": dict(found.numbers),
                "of": dict(cast.of),
                "options": dict(cast.options),
                "seed": cast.seed,
                "provenance": provenance,
            },
        )


def listing(layout: Layout) -> list[dict[str, Any]]:
    """The studies of params.yaml: what each one asks, the recipes of its roles, and which of these are not trained."""
    found = []
    for name, cast in load(layout.root / "params.yaml").studies.items():
        title, question = _head(cast)
        missing = [recipe for recipe in dict.fromkeys(cast.of.values()) if not layout.weights(recipe).exists()]
        state = "done" if (layout.study(name) / "study.json").exists() else "not ready" if missing else "ready"
        found.append(
            {
                "study": name,
                "title": title,
                "question": question,
                "of": dict(cast.of),
                "missing": missing,
                "state": state,
            }
        )
    return found


def _head(cast: Cast) -> tuple[str, str]:
    """Title and question."""
    title, _, question = cast.entry.text.partition("\n")[0].partition(": ")
    return title, question


def casting(params: Params, name: str) -> Cast:
    """The entry of a study in params.yaml. Raises :class:`RecipeError` if there is none."""
    if name not in params.studies:
        raise RecipeError(
            f"{params.path}: studies: there is no entry for '{name}'. Studies: {', '.join(params.studies) or 'none'}."
            f"{nearest(name, params.studies)}"
        )
    return params.studies[name]


def _trained(cast: Cast, params: Params, layout: Layout) -> tuple[dict[str, Trained], dict[str, Any]]:
    """The models by role, and what identifies them: data, images seen, checksum of the weights, by recipe."""
    missing = [name for name in dict.fromkeys(cast.of.values()) if not layout.weights(name).exists()]
    if missing:
        raise StoreError(
            f"study {cast.study}: {_and(missing)} {'is' if len(missing) == 1 else 'are'} not trained. Run "
            f"{_and([f'`gen train {name}`' for name in missing])}, or `dvc repro study@{cast.study}`, which trains "
            "what it needs."
        )
    roles, models = {}, {}
    for role, recipe in cast.of.items():
        stored = load_model(layout.weights(recipe))
        model, meta = stored.model, stored.meta
        if lack := lacking(model, cast.entry.roles[role]):
            raise RecipeError(f"study {cast.study}: {recipe} has no {_and(lack)}, which '{role}' asks for.")
        split = partial(everything, layout.shards(params.recipe(recipe).dataset))
        roles[role] = Trained(recipe, model, model.spec, split)
        models[recipe] = {
            "dataset": meta["recipe"]["dataset"],
            "data": meta["data"],
            "space": meta["spec"]["space"],
            "images": meta["images"],
            "weights": meta["files"]["model.safetensors"]["sha256"],
        }
    return roles, {"models": models}


def outcome(name: str, layout: Layout) -> Mapping[str, Any]:
    """The ``study.json`` of a study that was run."""
    found: Mapping[str, Any] = read_json(layout.study(name) / "study.json")
    return found


def _and(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


if __name__ == "__main__":
    sys.exit(stage(__doc__ or "", study, names="STUDY"))
