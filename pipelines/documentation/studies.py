"""Studies on the site: what ``studies/<name>/`` holds is recorded as models are, and shown beside the study's text.

``study.json`` holds what :class:`gen.studies.study.Findings` says, the captions of the figures under ``figures``; each
figure is a PNG of that name beside it.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from gen.files import read_json, write_bytes, write_json
from pipelines.documentation.chapter import body
from pipelines.documentation.record import LARGEST, MEASURED
from pipelines.reporting.entry import Chapter

STUDIES = "studies"
COLOURS = 128  # of a figure whose file would be too large with all of them


def record_study(root: Path, name: str) -> Path:
    """Write the record of a study that was run.

    Args:
        root: of the project.
        name: of the study.

    Returns:
        The JSON file.

    Raises:
        StoreError: it was not run, or a file is damaged.
    """
    origin, folder = root / STUDIES / name, root / MEASURED / STUDIES
    facts = read_json(origin / "study.json")
    figures = []
    for figure, caption in facts["figures"].items():
        png = _few_bytes((origin / f"{figure}.png").read_bytes())
        write_bytes(folder / f"{name}-{figure}.png", png)
        width, _ = Image.open(io.BytesIO(png)).size
        figures.append({"file": f"{name}-{figure}.png", "caption": caption, "width": width})
    kept = {figure["file"] for figure in figures}
    for stale in folder.glob(f"{name}-*.png"):
        if stale.name not in kept:
            stale.unlink()
    found = {"name": name, "figures": figures, "sentences": facts["sentences"], "numbers": facts["numbers"]}
    write_json(folder / f"{name}.json", found)
    return folder / f"{name}.json"


def studied(root: Path) -> list[str]:
    """Names of the studies that were run."""
    return sorted(path.parent.name for path in (root / STUDIES).glob("*/study.json"))


def shown(root: Path) -> list[dict[str, Any]]:
    """The recorded studies, ready to be shown, in the order of their table of contents."""
    found = {path.stem: read_json(path) for path in (root / MEASURED / STUDIES).glob("*.json")}
    if not found:
        return []
    from gen.studies.study import entry, list_studies  # imports what draws, which takes a second

    return [_study(found[name], entry(name).function) for name in list_studies() if name in found]


def _study(facts: Mapping[str, Any], function: Any) -> dict[str, Any]:
    doc = inspect.getdoc(import_module(function.__module__)) or facts["name"]
    chapter = Chapter.parse(doc)
    anchor, marks = f"study-{facts['name']}", [mark for mark, _ in chapter.references]
    return {
        **facts,
        "anchor": anchor,
        "title": chapter.title,
        "summary": chapter.summary,
        "body": body(doc, anchor=anchor, marks=marks),
        "references": chapter.references,
        "file": function.__module__.replace(".", "/") + ".py",
    }


def _few_bytes(png: bytes) -> bytes:
    """The same figure; in fewer colours if it would be too large."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    if buffer.tell() > LARGEST:
        buffer = io.BytesIO()
        image.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
