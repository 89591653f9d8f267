"""Report: what was trained on what, how well it went, and where published numbers stand.

    python -m pipelines.report                     # everything in params.yaml, into report/all
    python -m pipelines.report --tour              # the recipes of the tour, into report/tour

:func:`gather` reads what the other stages left on disk, :func:`write_report` turns it into files; neither computes a
score. The page is one file without scripts and without anything fetched, so it can be mailed, archived and printed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import gen
from gen.errors import GenError
from gen.files import atomic_directory, write_bytes, write_json
from pipelines.lifeline import tie_to_parent
from pipelines.params import load
from pipelines.reporting.entry import Entry, gather
from pipelines.reporting.page import caveat, page
from pipelines.reporting.sheet import sheet
from pipelines.reporting.studies import Shown, file_of, gather_studies
from pipelines.reporting.tables import COLUMNS, markdown, references, to_row
from pipelines.stage import explain

TITLE = "Deep generative models, trained and measured"


class ImplausibleError(GenError):
    """A likelihood that nobody has reached: far more likely a leak than a discovery."""

    exit_code = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The best negative log-likelihood that is believable, well beyond what anybody has published.

    Attributes:
        data: a pattern in names of data sets.
        shape: of one image.
        space: a pattern of spaces.
        unit: ``nats`` or ``bits_per_dim``.
        least: in that unit.
    """

    data: str
    shape: tuple[int, int, int]
    space: str
    unit: str
    least: float


LIMITS = (
    Limit(data="mnist|digit", shape=(1, 28, 28), space=r"binary_\w+", unit="nats", least=75.0),
    Limit(data="cifar", shape=(3, 32, 32), space=r"levels\(256\)|dequantized|signed", unit="bits_per_dim", least=2.6),
)


def refuse_leaks(entry: Entry) -> None:
    """Raise :class:`ImplausibleError` if a likelihood is better than any model could have earned."""
    dataset, shape = entry.meta["recipe"]["dataset"], tuple(entry.meta["spec"]["shape"])
    if "frames" in entry.meta["spec"]:
        return  # given the frames before it, an image costs next to nothing
    for limit in LIMITS:
        if shape != limit.shape or not re.search(limit.data, dataset, re.IGNORECASE):
            continue
        for nll in entry.likelihoods:
            found = getattr(nll, limit.unit)
            if re.fullmatch(limit.space, nll.space) and found < limit.least:
                raise ImplausibleError(
                    f"{entry.recipe}: '{nll.estimator}' says {found:.2f} {limit.unit} on '{dataset}' in {nll.space}, "
                    f"but nothing under {limit.least} is believable. Look for a leak: test images among the training "
                    "images, a network that sees the pixel it predicts, a wrong space. No report was written."
                )


def write_report(
    destination: Path, entries: Sequence[Entry], facts: Mapping[str, Any], *, studies: Sequence[Shown] = ()
) -> None:
    """Write ``report.html``, ``report.md``, ``report.json`` and pictures; ``destination`` is replaced as a whole.

    Args:
        destination: a directory.
        entries: the models, in the order in which they are shown; at least one.
        facts: ``title``; ``published``, as in published.yaml; ``provenance``, for the foot of the page.
        studies: shown after the models.

    Raises:
        ImplausibleError: see :func:`refuse_leaks`; nothing is written.
    """
    for entry in entries:
        refuse_leaks(entry)
    rows = [to_row(entry, facts["published"]) for entry in entries]
    marks = references(rows)
    table = markdown([*rows, *marks], COLUMNS)
    with atomic_directory(destination) as staging:
        told = {"title": facts["title"], "models": rows, "references": marks, "studies": [s.as_row() for s in studies]}
        write_json(staging / "report.json", told)
        parts = [f"# {facts['title']}", f"{table}\n{caveat(entries)}", *(["## Studies"] if studies else [])]
        text = "\n\n".join([*parts, *(study.markdown() for study in studies)])
        (staging / "report.md").write_text(f"{text}\n", encoding="utf-8")
        for study in studies:
            for figure in study.figures:
                write_bytes(staging / file_of(study, figure), figure.png)
        if picture := sheet(entries):
            (staging / "samples.png").write_bytes(picture)
        (staging / "report.html").write_text(page(entries, rows, marks, facts, studies), encoding="utf-8")


def main() -> int:
    """Gather, check, write."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="what to report on (default: all of params.yaml)")
    parser.add_argument("--tour", action="store_true", help="report on the tour of params.yaml")
    parser.add_argument("--out", type=Path, help="directory to write (default: report/tour or report/all)")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the project (default: here)")
    arguments = parser.parse_args()
    tie_to_parent()
    root: Path = arguments.root.resolve()
    destination = root / (arguments.out or Path("report", "tour" if arguments.tour else "all"))

    def work() -> None:
        params = load(root / "params.yaml")
        recipes = arguments.recipes or (params.tour if arguments.tour else params.recipes)
        facts = {
            "title": TITLE,
            "published": yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")),
            "provenance": {"Written by": f"gen {gen.__version__}"},
        }
        entries = [gather(root, params.recipe(name).name) for name in recipes]
        write_report(destination, entries, facts, studies=gather_studies(root, params.studies, recipes))
        print(destination / "report.html")

    return explain(work)


if __name__ == "__main__":
    sys.exit(main())
