"""The pages of the site: one for every registered model and every study, and the catalogue for the front page.

They are made anew at every build, from the chapters, the constructors, params.yaml, published.yaml and the records of
:mod:`pipelines.documentation.record`. No page holds a number that none of these holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape as html
from ruamel.yaml import YAML

from gen.files import read_json
from gen.model import Samples
from gen.registry import Entry as Registered
from gen.registry import entry, list_models
from pipelines.documentation.anatomy import capabilities, chapter_doc, code_begins, family, hyper_parameters
from pipelines.documentation.chapter import body, escape, inline, reference
from pipelines.documentation.record import recorded
from pipelines.documentation.studies import STUDIES, shown
from pipelines.params import Params, load
from pipelines.reporting.entry import Chapter, Entry
from pipelines.reporting.page import facts_of, measured, verdict
from pipelines.reporting.page import sentence as with_full_stop
from pipelines.reporting.tables import MARKS, nats, significant

MODELS = "models"
FULL_SCALE = Path("benchmarks", "results", "published.json")
RUN = {  # what is told of a run at full scale, and the heads of the columns
    "recipe": "Recipe",
    "value": "Measured, test images",
    "continued": "With more images",
    "estimator": "Estimator",
    "data": "Data",
    "images": "Images seen",
    "minutes": "Minutes",
    "device": "Device",
}


def write(docs: Path, root: Path) -> list[Path]:
    """Write all generated pages below ``docs``; pages of models that are gone are removed.

    Args:
        docs: the source of the site.
        root: of the project.

    Returns:
        The files.
    """
    models = models_of(root)
    render = _environment()
    texts = {docs / MODELS / f"{model['name']}.md": render("model.md.j2", **model) for model in models}
    by_family = itertools.groupby(models, key=lambda model: model["family"])
    families = [{"title": title, "text": text, "models": list(each)} for (title, text), each in by_family]
    texts[docs / MODELS / "_catalogue.md"] = render("catalogue.md.j2", families=families)
    studies = shown(root)
    texts |= {docs / STUDIES / f"{study['name']}.md": render("study.md.j2", **study) for study in studies}
    texts[docs / STUDIES / "_catalogue.md"] = render("studies.md.j2", studies=studies)
    for folder in (docs / MODELS, docs / STUDIES):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in set(folder.glob("*.md")) - set(texts):
            stale.unlink()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # Sphinx reads again only what changed
            path.write_text(text, encoding="utf-8")
    return list(texts)


def models_of(root: Path) -> list[dict[str, Any]]:
    """What there is to show of every registered model, in the order of the table of contents."""
    known = _Known.read(root)
    return [_model(entry(name), known) for name in list_models()]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the pages are made of, beside the code.

    Attributes:
        params: params.yaml.
        quoted: its recipes as they stand there.
        records: what was measured, by recipe.
        published: what others measured, by model.
        full_scale: our runs on whole data sets, by model.
    """

    params: Params
    quoted: Mapping[str, str]
    records: Mapping[str, Entry]
    published: Mapping[str, Sequence[Mapping[str, Any]]]
    full_scale: Mapping[str, Sequence[Mapping[str, Any]]]

    @classmethod
    def read(cls, root: Path) -> _Known:
        """All of it, below the root of a project."""
        path = root / "params.yaml"
        published = yaml.safe_load(files("pipelines").joinpath("published.yaml").read_text(encoding="utf-8"))
        return cls(load(path), quoted(path), recorded(root), published, _full_scale(root / FULL_SCALE))


def _environment() -> Callable[..., str]:
    """What renders a template by its name."""
    environment = Environment(
        loader=PackageLoader("pipelines.documentation"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": escape, "inline": inline, "html": html, "sentence": sentence, "number": number}
    environment.filters |= {"scaled": scaled, "reference": reference}
    return lambda template, **facts: environment.get_template(template).render(**facts)


def _model(model: Registered, known: _Known) -> dict[str, Any]:
    """What the page of one model shows."""
    doc = chapter_doc(model)
    chapter = Chapter.parse(doc)
    marks = [mark for mark, _ in chapter.references]
    records, published = known.records, known.published.get(model.name, [])
    place = {other["data"]: -i for i, other in enumerate(reversed(published))}  # ours in the order of theirs
    full_scale = sorted(known.full_scale.get(model.name, []), key=lambda run: place.get(run["data"], 1))
    mine = [recipe for recipe in known.params.recipes.values() if recipe.model == model.chapter]
    recipes = [
        {
            "name": recipe.name,
            "yaml": known.quoted[recipe.name],
            "record": _record(records[recipe.name], stale=records[recipe.name].meta["recipe"] != recipe.as_dict())
            if recipe.name in records
            else None,
        }
        for recipe in mine
    ]
    return {
        "name": model.name,
        "chapter": model.chapter,
        "family": family(model),
        "title": chapter.title,
        "summary": chapter.summary,
        "body": body(doc, anchor=model.name, marks=marks),
        "references": chapter.references,
        "marks": marks,
        "hyper": hyper_parameters(model),
        "spaces": model.cls.spaces,
        "conditional": model.cls.conditional,
        "capabilities": capabilities(model),
        "samples": issubclass(model.cls, Samples),
        "recipes": recipes,
        "hero": next((recipe["record"] for recipe in recipes if recipe["record"]), None),
        "published": published,
        "full_scale": full_scale,
        "run_columns": {key: head for key, head in RUN.items() if any(run[key] is not None for run in full_scale)},
        "code_begins": code_begins(model),
    }


def quoted(path: Path) -> dict[str, str]:
    """Every recipe as params.yaml has it, comments and all, without its name."""
    text = path.read_text(encoding="utf-8")
    lines, recipes = text.splitlines(), YAML(typ="rt").load(text)["recipes"]
    found = {}
    for name in recipes:
        rest = lines[recipes.lc.key(name)[0] + 1 :]
        taken = itertools.takewhile(lambda line: not line.strip() or line.startswith("    "), rest)
        found[name] = "\n".join(line.removeprefix("    ") for line in taken).strip()
    return found


def _record(found: Entry, *, stale: bool) -> dict[str, Any]:
    """What was measured, ready to be shown."""
    picture = next(iter(found.pictures), None)
    splits = found.meta["splits"]
    facts = {name: value for name, value in facts_of(found).items() if name != "Recipe"}
    lines = measured(found)
    if splits:
        facts["Data"] += ": " + ", ".join(f"{count:,} {name}" for name, count in splits.items())
    return {
        "recipe": found.recipe,
        "stale": stale,
        "facts": facts,
        "lines": lines,
        "marks": {mark: label for mark, label in MARKS.items() if any(line[mark] for line in lines)},
        "gates": [verdict(gate) for gate in found.gates],
        "headline": headline(found),
        "picture": {
            "file": f"{found.recipe}.png",
            "caption": picture.caption,
            "width": picture.size[0],
        }
        if picture
        else None,
    }


def headline(found: Entry) -> dict[str, str]:
    """The number to quote and what it takes to read it: a likelihood, else FID, else what the gate asks."""
    dataset = found.meta["recipe"]["dataset"]
    if found.likelihoods:
        nll = found.likelihoods[-1]
        value = nats({"kind": nll.kind, "nats": nll.nats})
        per = nll.protocol.get("per")  # frame, of models that predict; else it is the image
        unit, what = (f"nats per {per}", f"{per}s") if per else ("nats", "images")
        return {"value": value, "unit": unit, "note": f"{nll.estimator}, {nll.space}, test {what} of {dataset}"}
    if fid := found.scores.get("fid"):
        marks = [f"{label} {significant(value)}" for name, label in MARKS.items() if (value := getattr(fid, name))]
        return {"value": significant(fid.value), "unit": "FID", "note": ", ".join([*marks, dataset])}
    for gate in map(verdict, found.gates):
        return {"value": gate["value"], "unit": gate["name"], "note": f"test images of {dataset}"}
    return {"value": "", "unit": "", "note": "not yet evaluated"}


def _full_scale(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Runs on whole data sets, by registered name of the model, each with its number in words."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in read_json(path)["runs"] if path.exists() else []:
        value = nats({"kind": run["kind"], "nats": run["value"]})
        found.setdefault(entry(run["model"]).name, []).append({**run, "value": value, "continued": _continued(run)})
    return found


def _continued(run: Mapping[str, Any]) -> str | None:
    """Where a run would be after more images, in words; the two guesses in the order of their size."""
    if (guess := run["continued"]) is None:
        return None
    low, high = sorted((guess["by_power_law"], guess["by_last_doubling"]))
    return f"{significant(low)} to {significant(high)} after {guess['images']:,}, extrapolated"


def number(value: Any) -> str:
    """A value of a record in words: counts with commas, measurements with three digits."""
    match value:
        case None:
            return "–"
        case int():
            return f"{value:,}"
        case float():
            return significant(value)
    return str(value)


def sentence(text: str) -> str:
    """Capital first letter, and a full stop last unless it is a question."""
    return with_full_stop(text).replace("?.", "?")


def scaled(width: int, limit: int) -> int:
    """The width at which a picture is shown: a whole multiple of its own, so that pixels stay square."""
    return width * max(1, limit // width)
