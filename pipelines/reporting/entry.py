"""An entry of the report: one trained model, and everything the stages left on disk about it."""

from __future__ import annotations

import base64
import inspect
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.data.manifest import MANIFEST, Manifest, read_manifest
from gen.files import read_json
from gen.registry import entry
from gen.store import load_model
from gen.train import events
from pipelines.layout import Layout
from pipelines.reporting.figures import Series

STRIP = 6  # sample grids shown of a run
PROSE = 160  # characters; a shorter paragraph of a chapter only introduces a formula


@dataclass(frozen=True, slots=True, kw_only=True)
class NLL:
    """A negative log-likelihood, mean over images.

    Attributes:
        estimator: e.g. ``exact``, ``elbo``, ``iwae_500``, ``ais``.
        kind: what the estimate of log p can claim: ``exact``, ``lower bound`` or ``estimate``.
        space: nats are comparable within one.
        nats: minus the mean of log p, per image.
        bits_per_dim: of the stored 8-bit data where the space is a density.
        error: standard error of ``nats``, or ``None``.
        protocol: what it was measured on.
    """

    estimator: str
    kind: str
    space: str
    nats: float
    bits_per_dim: float
    error: float | None
    protocol: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Any other score.

    Attributes:
        name: e.g. ``fid``.
        value: the number.
        floor: what real images in place of samples score, or ``None``.
        independent: what independent pixels score, or ``None``.
        protocol: how it was measured.
    """

    name: str
    value: float
    floor: float | None
    independent: float | None
    protocol: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG and what it shows."""

    name: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """As a ``data:`` address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


@dataclass(frozen=True, slots=True)
class Chapter:
    """What the docstring of a model's file says.

    Attributes:
        title: what the model is called.
        summary: what it is, in a line.
        idea: paragraphs up to the first formula and some prose; a formula is a text that starts with a space.
        references: what ``[1]``, ``[2]``, ... stand for.
    """

    title: str
    summary: str
    idea: Sequence[str]
    references: Sequence[tuple[str, str]]

    @classmethod
    def parse(cls, doc: str) -> Chapter:
        """Read a docstring, as :func:`inspect.getdoc` returns it."""
        first, *paragraphs = re.split(r"\n\s*\n", doc.strip("\n"))
        title, _, summary = " ".join(first.split()).partition(":")
        idea: list[str] = []
        for text in paragraphs:
            if all(any(wanted(t) for t in idea) for wanted in (is_formula, _is_prose)) or _names_references(text):
                break
            idea.append(text.rstrip() if is_formula(text) else " ".join(text.split()))
        found = re.findall(r"^\s*\[(\d+)\] (.+?)(?=^\s*\[\d+\] |\Z)", "\n".join(paragraphs), re.MULTILINE | re.DOTALL)
        references = [(mark, " ".join(text.split("\n\n")[0].split())) for mark, text in found]
        return cls(title, summary.strip() or title, idea, references)


def is_formula(paragraph: str) -> bool:
    """Whether a paragraph of a docstring is set off by indentation."""
    return paragraph.startswith(" ")


def _is_prose(paragraph: str) -> bool:
    return not is_formula(paragraph) and len(paragraph) >= PROSE


def _names_references(paragraph: str) -> bool:
    return bool(re.match(r"\[\d+\] |References?:", paragraph))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One trained model and what is known about it. What was not measured or not kept is empty.

    Attributes:
        recipe: name of the recipe.
        model: registered name of the model.
        chapter: what the model's file says about it.
        family: the folder of that file.
        groups: number of parameters of each group, in the order of the algorithm.
        parameters: number of all parameters.
        meta: ``model.json``.
        likelihoods: negative log-likelihoods, the one to quote last.
        scores: all other scores by name.
        gates: verdicts on bars: score, value, at_least, at_most, passed.
        registered: name, version, run and address in the model registry.
        manifest: of the shards it was trained on.
        curves: metric -> line -> points (images, value).
        grids: samples over time, the latest last.
        pictures: from the evaluation.
    """

    recipe: str
    model: str
    chapter: Chapter
    family: str
    groups: Mapping[str, int]
    parameters: int
    meta: Mapping[str, Any]
    likelihoods: Sequence[NLL]
    scores: Mapping[str, Score]
    gates: Sequence[Mapping[str, Any]]
    registered: Mapping[str, Any]
    manifest: Manifest | None
    curves: Mapping[str, Mapping[str, Series]]
    grids: Sequence[Picture]
    pictures: Sequence[Picture]

    @property
    def samples(self) -> Picture | None:
        """The samples to show: the evaluation's, or else the last of training."""
        shown = [picture for picture in self.pictures if picture.name == "samples"] or self.grids[-1:]
        return shown[0] if shown else None

    @property
    def emblem(self) -> Picture | None:
        """What stands for the model in a row of models: its samples, or the first it has to show instead."""
        return self.samples or next(iter(self.pictures), None)


def gather(root: Path, recipe: str) -> Entry:
    """Everything the stages wrote about a recipe below ``root``; only the model itself has to be there.

    Raises:
        StoreError: there is no trained model, or a file is not as it was saved.
        DataError: the manifest of its shards is damaged.
    """
    layout = Layout(root)
    trained, scored = layout.model(recipe), layout.scores(recipe)
    stored = load_model(layout.weights(recipe))
    found = entry(stored.meta["model"])
    shards = layout.shards(stored.meta["recipe"]["dataset"])
    card = _optional(scored / "card.json", {}).get("scores", {})
    return Entry(
        recipe=recipe,
        model=found.name,
        chapter=Chapter.parse(inspect.getdoc(inspect.getmodule(found.cls)) or found.name),
        family=found.chapter.partition("/")[0],
        groups={name: sum(p.numel() for p in group) for name, group in stored.model.groups().items()},
        parameters=sum(p.numel() for p in stored.model.parameters()),
        meta=_finite(stored.meta),
        likelihoods=_likelihoods(card),
        scores=_scores(card),
        gates=_optional(scored / "gate.json", []),
        registered=_optional(layout.registered(recipe), {}),
        manifest=read_manifest(shards) if (shards / MANIFEST).exists() else None,
        curves=_curves(trained / "events.jsonl"),
        grids=_grids(trained / "pictures" / "samples"),
        pictures=[
            Picture(path.stem, path.stem.replace("_", " ").capitalize(), path.read_bytes())
            for path in sorted((scored / "pictures").glob("*.png"))
        ],
    )


def _optional(path: Path, default: Any) -> Any:
    return _finite(read_json(path)) if path.exists() else default


def _finite(value: Any) -> Any:
    """The same JSON with ``None`` in place of NaN and infinities, which Python reads though JSON has none."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
    return value


def _likelihoods(card: Mapping[str, Any]) -> list[NLL]:
    """Every estimator's, the quoted one last. The card's numbers are means of log p, these are of minus log p."""
    quoted = card["nats"]["protocol"]["estimator"] if "nats" in card else ""
    found = []
    for name, score in card.items():
        if name.startswith("nats_") and score["value"] is not None:
            protocol = dict(score["protocol"])
            estimator = protocol.pop("estimator")
            found.append(
                NLL(
                    estimator=estimator,
                    kind=protocol.pop("kind"),
                    space=protocol.pop("space"),
                    nats=-score["value"],
                    bits_per_dim=card[f"bits_per_dim_{estimator}"]["value"],
                    error=protocol.pop("standard_error_nats", None),
                    protocol=protocol,
                )
            )
    return sorted(found, key=lambda nll: nll.estimator == quoted)


def _scores(card: Mapping[str, Any]) -> dict[str, Score]:
    """All but the likelihoods, each with what real images and independent pixels score."""
    values = {name: score["value"] for name, score in card.items() if score["value"] is not None}
    return {
        name: Score(
            name=name,
            value=value,
            floor=values.get(f"{name}_floor"),
            independent=values.get(f"{name}_independent"),
            protocol=card[name]["protocol"],
        )
        for name, value in values.items()
        if not name.startswith(("nats", "bits_per_dim")) and not name.endswith(("_floor", "_independent"))
    }


def _curves(path: Path) -> dict[str, dict[str, Series]]:
    """Metric -> ``training`` and ``validation`` -> points; metrics that have both come first."""
    found: dict[str, dict[str, Series]] = {}
    for name, points in events.series(events.read(path)[0]).items():
        origin, _, metric = name.partition("/")
        found.setdefault(metric, {})["validation" if origin == "val" else "training"] = points
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _grids(directory: Path) -> list[Picture]:
    """At most :data:`STRIP` sample grids of a run, evenly spread, the first and the last among them."""
    paths = sorted(directory.glob("*.png"))
    count = min(STRIP, len(paths))
    kept = [paths[round(i * (len(paths) - 1) / max(1, count - 1))] for i in range(count)]
    return [Picture("samples", f"{int(path.stem):,} images", path.read_bytes()) for path in kept]
