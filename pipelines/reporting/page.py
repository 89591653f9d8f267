"""The page: everything known about some models, as one HTML file that fetches nothing."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipelines.reporting import figures
from pipelines.reporting.entry import Entry, is_formula
from pipelines.reporting.studies import Shown, natural
from pipelines.reporting.tables import COLUMNS, MARKS, Row, duration, fixed, nats, significant

CAPTIONS = {
    "neighbours": "Samples closest to the training images, each followed by the training image it is closest to",
    "reconstructions": "Test images, each followed by what is left of it after encoding and decoding",
    "completions": "Test images, each followed by what the model makes of its upper half",
    "predictions": "Test videos, each above two ways to go on that the model draws, blank where frames were given",
}
WORDS = {
    "nats": "log p, nats",
    "fid": "FID",
    "kid": "KID",
    "mse": "MSE",
    "psnr": "PSNR",
    "kl": "KL",
    "auth": "authentic",
    "pct": "%",
}


def page(
    entries: Sequence[Entry],
    rows: Sequence[Row],
    references: Sequence[Row],
    facts: Mapping[str, Any],
    studies: Sequence[Shown] = (),
) -> str:
    """The HTML.

    Args:
        entries: the models, in the order in which they are shown.
        rows: of the table, one for each entry; see :func:`pipelines.reporting.tables.to_row`.
        references: rows at the foot of that table.
        facts: ``title`` and ``provenance``, the latter for the foot of the page.
        studies: what is shown after the models.
    """
    return render(
        "report.html.j2",
        title=facts["title"],
        lead=_lead(entries),
        caveat=caveat(entries),
        columns=COLUMNS,
        rows=rows,
        references=references,
        charts=_overview(rows),
        datasets=datasets(entries),
        models=[_model(entry, row) for entry, row in zip(entries, rows, strict=True)],
        studies=studies,
        provenance=facts["provenance"],
    )


def render(template: str, **facts: Any) -> str:
    """A page from a template of ours: styles and pictures are inline, nothing is fetched.

    Args:
        template: its file.
        facts: what it shows; ``style`` if it is not the report's.
    """
    environment = Environment(
        loader=PackageLoader("pipelines"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "sentence": sentence, "formula": _formula, "natural": natural}
    environment.tests |= {"formula": is_formula}
    return environment.get_template(template).render({"style": inline("report.css"), **facts})


def inline(name: str) -> Markup:
    """A style or script of the templates, to stand in a page."""
    return Markup(files("pipelines").joinpath(f"templates/{name}").read_text())


def caveat(entries: Sequence[Entry]) -> str:
    """Why the published numbers stand beside ours and not against them."""
    seen = sorted({entry.manifest.splits["train"].samples for entry in entries if entry.manifest})
    ours = " or ".join(f"{count:,}" for count in seen) or "far fewer"
    return (
        f"Ours were trained on {ours} images; the published numbers come from full data sets of 50,000 images or more, "
        "other kinds of binarisation and larger networks. They say where such a model can get to, and do not compare "
        "with ours one to one."
    )


def _lead(entries: Sequence[Entry]) -> str:
    """What was trained on what, in a sentence."""
    data = sorted({entry.meta["recipe"]["dataset"] for entry in entries})
    devices = sorted({entry.meta["device"].partition(":")[0] for entry in entries})
    seconds = sum(entry.meta["seconds"] for entry in entries)
    return (
        f"{_count(len(entries), 'model')} trained on {' and '.join(data)}, in {duration(seconds)} on "
        f"{' and '.join(name.upper() for name in devices)}, and measured on test images that none of them has seen."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def datasets(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What the models were trained on, in words: name, shape, counts, digest, origin, licence, citation."""
    manifests = {entry.manifest.digest: entry.manifest for entry in entries if entry.manifest}
    return [
        {
            "name": manifest.source.name,
            "shape": " × ".join(map(str, manifest.shape)),
            "classes": len(manifest.classes),
            "counts": [
                f"{manifest.splits[name].samples:,}" if name in manifest.splits else "–"
                for name in ("train", "validation", "test")
            ],
            "digest": digest,
            **{key: getattr(manifest.source, key).rstrip(".") for key in ("origin", "licence", "citation")},
        }
        for digest, manifest in manifests.items()
    ]


def _overview(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Dot charts: FID on each model's own scale, and likelihoods of one data set in one space."""
    scored = [(row, row["scores"]["fid"]) for row in rows if row["scores"].get("fid", {}).get("value", 0) > 0]
    fids = [
        figures.Dot(
            row["title"], fid["value"], significant(fid["value"]), row["space"], fid["floor"], fid["independent"]
        )
        for row, fid in sorted(scored, key=lambda item: item[1]["value"])
    ]
    charts = (
        [{"title": "FID", "svg": figures.dots("FID", fids, ends=("real images", "independent pixels"))}] if fids else []
    )
    for dataset, space in dict.fromkeys((row["dataset"], row["space"]) for row in rows):
        quoted = [
            (row["title"], nll)
            for row in rows
            for nll in row["likelihoods"][-1:]
            if (row["dataset"], row["space"]) == (dataset, space) and nll["nats"] > 0
        ]
        if len(quoted) > 1:
            likely = [
                figures.Dot(title, nll["nats"], nats(nll), nll["estimator"])
                for title, nll in sorted(quoted, key=lambda item: item[1]["nats"])
            ]
            title = f"Negative log-likelihood of {dataset} in {space}, nats"
            charts.append({"title": title, "svg": figures.dots(title, likely)})
    return charts


def _model(entry: Entry, row: Row) -> dict[str, Any]:
    """What the page shows of one model beside the entry itself."""
    headline = ""
    if row["likelihoods"]:
        headline = f"{nats(row['likelihoods'][-1])} nats"
    elif "fid" in entry.scores:
        headline = f"FID {significant(entry.scores['fid'].value)}"
    return {
        "entry": entry,
        "headline": headline,
        "facts": facts_of(entry),
        "curves": [
            {
                "title": name.replace("_", " "),
                "legend": list(zip(lines, ("first", "second"), strict=False)),
                "svg": figures.curve(f"{name} of {entry.chapter.title}", lines),
            }
            for name, lines in entry.curves.items()
        ],
        "pictures": [
            (picture, CAPTIONS.get(picture.name, picture.caption))
            for picture in entry.pictures
            if picture.name != "samples"
        ],
        "measured": measured(entry),
        "published": row["published"],
        "gates": [verdict(gate) for gate in entry.gates],
        "commands": {
            **({f"gen sample {entry.recipe}": "draw some more"} if entry.samples else {}),
            f"dvc repro train@{entry.recipe}": "train it again if its model, recipe or data changed",
            "gen ui": "look at its run in MLflow",
        },
    }


def facts_of(entry: Entry) -> dict[str, str]:
    """How a model was made, in words."""
    meta = entry.meta
    groups = [f"{name} {count:,}" for name, count in entry.groups.items()] if len(entry.groups) > 1 else []
    return {
        "Recipe": entry.recipe,
        "Data": f"{meta['recipe']['dataset']} in {meta['spec']['space']}",
        "Parameters": " + ".join(groups) or f"{entry.parameters:,}",
        "Images seen": f"{meta['images']:,} in batches of {meta['recipe']['training']['batch']:,}",
        "Time": duration(meta["seconds"]),
        "Machine": f"{meta['device']}, {_count(meta['world'], 'worker')}, {_count(meta['threads'], 'thread')}",
    }


def measured(entry: Entry) -> list[dict[str, Any]]:
    """All scores as lines of a table, the likelihoods first; lines in a row that share a protocol print it once."""
    lines: list[dict[str, Any]] = [
        {
            "name": f"NLL, {nll.estimator}",
            "value": f"{nats(asdict(nll))} nats",
            **dict.fromkeys(MARKS, ""),
            "protocol": _protocol(
                {
                    "kind": nll.kind,
                    "standard error": nll.error,
                    "bits/dim": fixed(3)(nll.bits_per_dim),
                    "space": nll.space,
                    **nll.protocol,
                }
            ),
        }
        for nll in reversed(entry.likelihoods)
    ]
    for score in entry.scores.values():
        marks = {mark: "" if (value := getattr(score, mark)) is None else significant(value) for mark in MARKS}
        lines.append(
            {
                "name": _name(score.name),
                "value": significant(score.value),
                **marks,
                "protocol": _protocol(score.protocol),
            }
        )
    for _, run in itertools.groupby(lines, key=lambda line: line["protocol"]):
        first, *rest = run
        first["span"] = 1 + len(rest)
    return lines


def verdict(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict of the gate in words: name, value, bar, passed."""
    bars = [f"{bar.replace('_', ' ')} {_plain(gate[bar])}" for bar in ("at_least", "at_most") if bar in gate]
    value = "not measured" if gate["value"] is None else significant(gate["value"])
    return {"name": _name(gate["score"]), "value": value, "bar": " and ".join(bars), "passed": gate["passed"]}


def _name(score: str) -> str:
    """A score's name in words."""
    words = " ".join(WORDS.get(word, word) for word in score.split("_"))
    return words[:1].upper() + words[1:]


def _protocol(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in facts.items() if value is not None)


def _plain(value: Any) -> str:
    """A JSON value in words."""
    match value:
        case None:
            return "–"
        case bool() | str():
            return str(value)
        case int() | float():
            return fixed(0)(value) if float(value).is_integer() else significant(value)
        case Mapping():
            return _protocol(value)
    return " ".join(map(_plain, value))


def _formula(text: str) -> str:
    """A formula without its indentation; what stood side by side stands below each other, to fit a narrow column."""
    return re.sub(r"(?<=\S) {4,}", "\n", textwrap.dedent(text))


def _prose(text: str) -> Markup:
    """A paragraph of a docstring: what stands in backticks is code, roles of Sphinx are dropped."""
    plain = re.sub(r":\w+:(?=`)", "", str(escape(text)))
    return Markup(re.sub(r"``(.+?)``|`(.+?)`", lambda found: f"<code>{found[1] or found[2]}</code>", plain))


def sentence(text: str) -> str:
    """Capital first letter, and a full stop last unless it is a question."""
    text = f"{text[:1].upper()}{text[1:].rstrip('.')}"
    return text if text.endswith("?") else f"{text}."
