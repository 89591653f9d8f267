"""Records what was measured, so that the pages can show it: ``docs/measured/``, small and committed.

docs/measured/<recipe>.json           what it was trained on, for how long and where; every score with its protocol
docs/measured/<recipe>.png            its samples, or what it has to show instead
docs/measured/studies/<study>.json    what a study found
docs/measured/studies/<study>-*.png   its figures

A record is written from what the stages left on disk, is read back as the report's own :class:`Entry`, and holds no
path, address or name of the machine it was made on.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gen.errors import GenError
from gen.files import read_json, write_bytes, write_json
from gen.registry import entry as registered
from pipelines.documentation.anatomy import chapter_doc
from pipelines.layout import Layout
from pipelines.reporting.entry import NLL, Chapter, Entry, Picture, Score, gather
from pipelines.reporting.page import CAPTIONS

MEASURED = Path("docs", "measured")
LARGEST = 150_000  # bytes of a picture: a site of forty models stays small in git
META = ("recipe", "spec", "data", "images", "steps", "seconds", "device", "world", "threads", "torch")


def record(root: Path, recipe: str) -> Path:
    """Write the record of a trained recipe.

    Args:
        root: of the project.
        recipe: its name.

    Returns:
        The JSON file.

    Raises:
        StoreError: there is no trained model, or a file is not as it was saved.
        GenError: its picture is too large.
    """
    found = gather(root, recipe)
    path = root / MEASURED / f"{recipe}.json"
    shown = found.emblem
    facts = {
        "recipe": recipe,
        "model": found.model,
        "meta": {key: found.meta[key] for key in META if key in found.meta},
        "splits": {name: split.samples for name, split in found.manifest.splits.items()} if found.manifest else {},
        "groups": dict(found.groups),
        "parameters": found.parameters,
        "likelihoods": [asdict(nll) for nll in found.likelihoods],
        "scores": {name: asdict(score) for name, score in found.scores.items()},
        "gates": list(found.gates),
        "picture": {"name": shown.name, "caption": caption(shown)} if shown else None,
    }
    if shown:
        write_bytes(path.with_suffix(".png"), small(shown.png, path.stem))
    else:
        path.with_suffix(".png").unlink(missing_ok=True)
    write_json(path, facts)
    return path


def recorded(root: Path) -> dict[str, Entry]:
    """Every record below ``root``, by recipe."""
    found = {}
    for path in sorted((root / MEASURED).glob("*.json")):
        facts = read_json(path)
        found[facts["recipe"]] = restore(facts, path.with_suffix(".png"))
    return found


def restore(facts: Mapping[str, Any], picture: Path) -> Entry:
    """A record as an entry of the report, without what only the report shows."""
    chapter = registered(facts["model"])
    shown = facts["picture"]
    return Entry(
        recipe=facts["recipe"],
        model=facts["model"],
        chapter=Chapter.parse(chapter_doc(chapter)),
        family=chapter.chapter.partition("/")[0],
        groups=facts["groups"],
        parameters=facts["parameters"],
        meta={**facts["meta"], "splits": facts["splits"]},
        likelihoods=[NLL(**nll) for nll in facts["likelihoods"]],
        scores={name: Score(**score) for name, score in facts["scores"].items()},
        gates=facts["gates"],
        registered={},
        manifest=None,
        curves={},
        grids=[],
        pictures=[Picture(shown["name"], shown["caption"], picture.read_bytes())] if shown else [],
    )


def caption(picture: Picture) -> str:
    """What a picture shows, in a phrase."""
    return "Samples, not selected" if picture.name == "samples" else CAPTIONS.get(picture.name, picture.caption)


def small(png: bytes, name: str) -> bytes:
    """A picture as few bytes: no higher than wide, without enlargement, grey where it is grey. Every pixel is kept."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    pixels = reduced(pixels[: pixels.shape[1]])
    grey = bool((pixels == pixels[..., :1]).all())
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(buffer, "PNG", optimize=True)
    if buffer.tell() > LARGEST:
        raise GenError(
            f"{name}: its picture takes {buffer.tell():,} bytes, allowed are {LARGEST:,}. Draw fewer or smaller images."
        )
    return buffer.getvalue()


def reduced(pixels: np.ndarray) -> np.ndarray:
    """An image in which every pixel was repeated k times in both directions, without that."""
    height, width = pixels.shape[:2]
    for k in range(16, 1, -1):
        if height % k == 0 and width % k == 0:
            corner = pixels[::k, ::k]
            if (corner.repeat(k, 0).repeat(k, 1) == pixels).all():
                return corner
    return pixels


def trained(layout: Layout, recipe: str) -> bool:
    """Whether there is a model of this recipe to record."""
    return (layout.weights(recipe) / "model.json").exists()
