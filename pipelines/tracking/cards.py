"""What the model card of a version says: what it is, how good, how to use it, what it cannot do, what it was made of.

It is gathered once, when the version is registered, from what the stages left on disk, and becomes a file of the
version, under its seal like the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from gen.files import read_json
from gen.recipe import Recipe, Training
from gen.registry import entry as registered_model
from gen.serve import TASKS
from pipelines.layout import Layout
from pipelines.reporting.card import Card, Section
from pipelines.reporting.entry import Entry, gather, is_formula
from pipelines.reporting.page import caveat, datasets, facts_of, measured, sentence, verdict
from pipelines.reporting.tables import Column
from pipelines.tracking.record import FILE

HEADLINES = ("fid", "kid", "precision", "recall", "coverage")  # scores that the description shows
INTERVALS = ("report", "validate", "pictures", "checkpoint")  # of a recipe: when to look, not what comes out
CLAIMS = {
    "exact": "They are exact.",
    "lower bound": "They come from a lower bound on log p: the true negative log-likelihood is at most what is shown.",
    "estimate": "They are an estimate, which may err either way.",
}


def model_card(layout: Layout, recipe: str, run_dir: Path) -> Card:
    """The card of a trained and evaluated model, from what the stages left on disk.

    Args:
        layout: where that is.
        recipe: its recipe, and the name it is registered as.
        run_dir: of its training.
    """
    entry = gather(layout.root, recipe)
    if entry.manifest is not None and entry.manifest.digest != entry.meta["data"]:
        entry = replace(entry, manifest=None)  # the shards were written again since: others than it was trained on
    origin = read_json(run_dir / FILE)["description"]["tags"] if (run_dir / FILE).exists() else {}
    picture = entry.emblem
    seen = f"{entry.meta['images']:,} images, not selected"
    return Card(
        title=entry.chapter.title,
        summary=sentence(entry.chapter.summary),
        facts={**facts_of(entry), **_origin(entry, origin)},
        picture=picture and replace(picture, caption=f"Samples after {seen}" if entry.samples else picture.caption),
        sections=[
            section
            for section in (
                _scores(entry),
                _gate(entry),
                _use(recipe, entry),
                _limits(entry),
                _data(entry),
                _recipe(entry),
                _idea(entry),
                _published(entry),
            )
            if section is not None
        ],
    )


def _origin(entry: Entry, tags: Mapping[str, str]) -> dict[str, str]:
    """What the model was trained with, as far as it is known: its own record, and the tags of its run."""
    commit = tags.get("git.commit", "")[:10]
    changed = " with uncommitted changes" if tags.get("git.dirty") == "true" else ""
    software = [
        f"{package} {version}"
        for package, version in (("torch", entry.meta.get("torch")), ("gen", tags.get("version.gen")))
        if version
    ]
    return {
        **({"Steps": f"{entry.meta['steps']:,}"} if "steps" in entry.meta else {}),
        **({"Software": ", ".join(software)} if software else {}),
        **({"Commit": commit + changed} if commit else {}),
    }


def _scores(entry: Entry) -> Section | None:
    rows = measured(entry)
    if not rows:
        return None
    names = [*("" for _ in entry.likelihoods), *entry.scores]
    wanted = {"", *HEADLINES, *(gate["score"] for gate in entry.gates)}
    told = [row for name, row in zip(names, rows, strict=True) if name in wanted]
    marks = [
        Column(title, itemgetter(key))
        for key, title in (("floor", "Real images"), ("independent", "Independent pixels"))
        if any(row[key] for row in rows)
    ]
    return Section(
        title="Scores",
        columns=[
            Column("Score", itemgetter("name"), numeric=False),
            Column("Value", itemgetter("value")),
            *marks,
            Column("Protocol", itemgetter("protocol"), numeric=False),
        ],
        rows=_without_repeats(rows),
        brief=_without_repeats(told),
    )


def _without_repeats(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows, where a protocol is that of the row above without it."""
    above = [None, *(row["protocol"] for row in rows)]
    return [
        {**row, "protocol": "as above"} if row["protocol"] == before else row
        for row, before in zip(rows, above, strict=False)
    ]


def _gate(entry: Entry) -> Section | None:
    if not entry.gates:
        return None
    return Section(
        title="Gate",
        columns=[
            Column("Score", itemgetter("name"), numeric=False),
            Column("Value", itemgetter("value")),
            Column("Bar", itemgetter("bar"), numeric=False),
            Column("Verdict", lambda row: "passed" if row["passed"] else "failed", numeric=False),
        ],
        rows=[verdict(gate) for gate in entry.gates],
    )


def _use(name: str, entry: Entry) -> Section:
    able = _abilities(entry)
    request = "{'count': [16]}" if able[0] == "sample" else f"[{{'task': '{able[0]}', 'image': rows_of_pixels}}]"
    return Section(
        title="Use",
        text=[
            f"It can {'; '.join(TASKS[task].summary for task in able)}. `gen serve` first compares every file with the "
            "seal in the registry; loaded by MLflow alone, only weights and configuration are compared with what was "
            "saved."
        ],
        listing=(
            f"gen serve {name}@champion    # over HTTP; with a version number: {name}/1\n\n"
            "import os, mlflow            # in Python\n"
            'os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"\n'
            f'model = mlflow.pyfunc.load_model("models:/{name}@champion")\n'
            f"model.predict({request}, params={{'seed': 1}})"
        ),
    )


def _abilities(entry: Entry) -> list[str]:
    """What the model can be asked."""
    cls = registered_model(entry.meta["model"]).cls
    return [name for name, task in TASKS.items() if issubclass(cls, task.capability)]


def _limits(entry: Entry) -> Section:
    cls, recipe, able = registered_model(entry.meta["model"]).cls, entry.meta["recipe"], _abilities(entry)
    _, height, width = entry.meta["spec"]["shape"]
    trained = f"{entry.manifest.splits['train'].samples:,} images" if entry.manifest else "images"
    points = [
        f"It was trained on {trained} of `{recipe['dataset']}`, {height} × {width} pixels, and knows nothing else.",
        f"It is one run with one seed ({recipe['training']['seed']}): how scores vary from seed to seed is not known.",
    ]
    if fid := entry.scores.get("fid"):
        points.append(
            f"FID and what else is measured in the features of `{fid.protocol['extractor']}`, a small classifier of "
            "this data set, compare only under that judge and at that number of images, never with FIDs of Inception "
            "features."
        )
    if entry.likelihoods:
        quoted = entry.likelihoods[-1]
        points.append(f"Nats compare only within the space `{quoted.space}`. {CLAIMS[quoted.kind]}")
    if "score" not in able:
        points.append("It has no likelihood: how probable an image is cannot be asked.")
    if cannot := [TASKS[task].summary for task in TASKS if task not in able and task != "score"]:
        points.append(f"It cannot {'; '.join(cannot)}.")
    if "sample" in able and not cls.conditional:
        points.append("It takes no labels: which class it draws cannot be chosen.")
    return Section(title="Limits", points=points)


def _data(entry: Entry) -> Section:
    name, identity = entry.meta["recipe"]["dataset"], f"Digest of the manifest: `{entry.meta['data']}`."
    if entry.manifest is None:
        here = "The shards it was trained on were not there when it was registered, so this is all that is known."
        return Section(title="Data", text=[f"`{name}`. {identity} {here}"])
    (data,) = datasets([entry])
    counts = ", ".join(
        f"{count} {split}" for count, split in zip(data["counts"], ("train", "validation", "test"), strict=True)
    )
    classes = f", {data['classes']} classes" if data["classes"] else ""
    told = " ".join(f"{data[key]}." for key in ("origin", "licence", "citation") if data[key])
    return Section(title="Data", text=[f"`{name}`: images of {data['shape']}{classes}; {counts}. {told} {identity}"])


def _recipe(entry: Entry) -> Section:
    """What of the recipe differs from the defaults."""
    recipe = entry.meta["recipe"]
    usual = Recipe(name="", model="", dataset="", space="", training=Training(images=1)).as_dict()["training"]
    own = {
        **{key: value for key, value in recipe["training"].items() if key not in INTERVALS and value != usual.get(key)},
        **{f"hyper.{key}": value for key, value in recipe["hyper"].items()},
        **{f"optim.{group}.{key}": value for group, fields in recipe["optim"].items() for key, value in fields.items()},
    }
    told = ", ".join(f"`{key}` {value:,}" if type(value) is int else f"`{key}` {value}" for key, value in own.items())
    return Section(title="Recipe", text=[f"What differs from the defaults of `{recipe['model']}`: {told}."])


def _idea(entry: Entry) -> Section | None:
    first = next((text for text in entry.chapter.idea if not is_formula(text)), None)
    if first is None:
        return None
    references = [f"[{mark}] {text}" for mark, text in entry.chapter.references]
    return Section(title="Idea", text=[re.sub(r":\w+:(?=`)", "", first)], points=references)  # no roles of Sphinx


def _published(entry: Entry) -> Section | None:
    known = yaml.safe_load((Path(__file__).parents[1] / "published.yaml").read_text(encoding="utf-8"))
    if not (rows := known.get(entry.model, [])):
        return None
    return Section(
        title="Published",
        columns=[
            Column("Source", itemgetter("source"), numeric=False),
            Column("Number", lambda row: f"{row['number']} {row['unit']}"),
            Column("Data", itemgetter("data"), numeric=False),
            Column("Note", itemgetter("note"), numeric=False),
        ],
        rows=rows,
        text=[caveat([entry])],
    )
