"""``gen data inspect``: what a data set holds, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gen.data.manifest import read_manifest
from gen.data.quarantine import Bad
from gen.data.reader import open_split
from gen.shards.summary import Range, Summary, summarize
from pipelines.data.pictures import describe, draw_pictures
from pipelines.data.places import usual_split
from pipelines.data.tables import human_bytes, printable, table
from pipelines.progress import Bar

SHOWN = 20  # classes and quarantined samples in the text; all are in the JSON


def inspect(name: str, root: Path, out: Path, *, split: str | None = None, seed: int = 0) -> tuple[dict[str, Any], str]:
    """Look at a data set and draw it.

    Args:
        name: what the user calls it.
        root: of its shards.
        out: directory for the pictures.
        split: that is drawn; by default ``train``, or the first.
        seed: of the samples that are drawn.

    Returns:
        For machines, and for people.
    """
    summary, manifest = summarize(root), read_manifest(root)
    split = usual_split(manifest, split, root)
    reader = open_split(root, split, resident_bytes=0)
    with Bar(f"read {name}", unit="samples") as bar:
        pictures = draw_pictures(reader, split, out, seed=seed, progress=bar.update)
    facts = {
        "name": name,
        "root": str(root),
        **asdict(summary),
        "splits": {key: _plain(asdict(each)) for key, each in summary.splits.items()},
        "unreadable": {split: [bad._asdict() for bad in reader.quarantined]},
        "pictures": {key: str(path) for key, path in pictures.items()},
    }
    return facts, _text(summary, describe(manifest), {split: reader.quarantined}, pictures)


def _plain(split: dict[str, Any]) -> dict[str, Any]:
    return {**split, "quarantined": [Bad(*bad)._asdict() for bad in split["quarantined"]]}


def _text(summary: Summary, images: str, unreadable: dict[str, Sequence[Bad]], pictures: Mapping[str, Path]) -> str:
    splits = summary.splits
    stored = "; ".join(f"{name} as {' or '.join(field.extensions)}" for name, field in summary.fields.items())
    tars, size = sum(each.shards for each in splits.values()), sum(each.bytes for each in splits.values())
    facts = [
        ("name", summary.source.name),
        ("origin", summary.source.origin),
        ("licence", summary.source.licence),
        ("cite", summary.source.citation),
        ("images", images),
        ("stored", stored),
        ("size", f"{human_bytes(size)} in {tars} tar{'s' if tars != 1 else ''}"),
        ("digest", summary.digest),
    ]
    rows = [["", *splits], ["samples", *(f"{each.samples:,}" for each in splits.values())]]
    rows += [
        [key, *(" ".join(f"{value:.4f}" for value in getattr(each, key)) for each in splits.values())]
        for key in ("mean", "std")
    ]
    first = next(iter(splits.values()))
    rows += [[name, *(_span(each.attributes[name]) for each in splits.values())] for name in first.attributes]
    if first.caption_bytes:
        rows.append(["caption bytes", *(_span(each.caption_bytes) for each in splits.values() if each.caption_bytes)])
    classes = list(first.class_counts)
    rows += [
        [f"class {name}", *(f"{each.class_counts[name]:,}" for each in splits.values())] for name in classes[:SHOWN]
    ]
    parts = [table([[key, value] for key, value in facts]), table(rows, right=True)]
    if len(classes) > SHOWN:
        parts[-1] += f"\n{len(classes) - SHOWN:,} more classes: --json lists them"
    for key, each in splits.items():
        parts += _bad(f"{key}: left out when the shards were written", each.quarantined)
    for key, found in unreadable.items():
        parts += _bad(f"{key}: damaged since, and left out by readers", found)
    parts.append(table([[f"{key}:", str(path)] for key, path in pictures.items()]))
    return "\n\n".join(parts)


def _span(values: Range) -> str:
    return f"{values.least:.6g} ... {values.greatest:.6g}"


def _bad(title: str, bad: Sequence[Bad]) -> list[str]:
    if not bad:
        return []
    more = [f"  {len(bad) - SHOWN:,} more: --json lists them"] if len(bad) > SHOWN else []
    return ["\n".join([f"{title}:", *(f"  {printable(str(each))}" for each in bad[:SHOWN]), *more])]
