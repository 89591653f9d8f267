"""Studies in the report: what ``studies/<name>/`` holds, beside the text of the study."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.files import read_json
from gen.studies.canvas import DPI
from gen.studies.study import entry
from pipelines.layout import Layout
from pipelines.reporting.entry import Chapter, Picture
from pipelines.roles import Cast

CSS_DPI = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One study that was run.

    Attributes:
        name: as in ``gen study NAME``.
        chapter: what its file says.
        file: that file, below the root of the project.
        sentences: the two that say what was found.
        figures: in the order in which they are shown.
        numbers: what was measured.
        of: recipes by role.
        seed: of all that was drawn.
        provenance: what identifies the models and the judge.
    """

    name: str
    chapter: Chapter
    file: str
    sentences: Sequence[str]
    figures: Sequence[Picture]
    numbers: Mapping[str, Any]
    of: Mapping[str, str]
    seed: int
    provenance: Mapping[str, Any]

    @property
    def recipes(self) -> dict[str, str]:
        """Recipes, and the first twelve digits of the sha256 of their weights."""
        return {name: model["weights"][:12] for name, model in self.provenance["models"].items()}

    @property
    def data(self) -> list[str]:
        """Data sets, and the spaces in which the models saw them."""
        return sorted({f"{each['dataset']} in {each['space']}" for each in self.provenance["models"].values()})

    def as_row(self) -> dict[str, Any]:
        """What is known about it, JSON-able; the figures by the names of their files in the report."""
        return {
            "study": self.name,
            "title": self.chapter.title,
            "question": self.chapter.summary,
            "sentences": list(self.sentences),
            "figures": [{"file": file_of(self, each), "caption": each.caption} for each in self.figures],
            "numbers": dict(self.numbers),
            "of": dict(self.of),
            "seed": self.seed,
            "provenance": dict(self.provenance),
        }

    def markdown(self) -> str:
        """As a part of ``report.md``."""
        made = "; ".join(f"{role}: {recipe}" for role, recipe in self.of.items())
        figures = [f"![{_escaped(each.caption)}]({file_of(self, each)})" for each in self.figures]
        question = self.chapter.summary[:1].upper() + self.chapter.summary[1:]
        head = f"### {_escaped(self.chapter.title)}\n\n*{_escaped(question)}*"
        found = _escaped(" ".join(self.sentences))
        return "\n\n".join([head, found, *figures, f"From {made}; `{self.file}`, seed {self.seed}."])


def gather_studies(root: Path, studies: Mapping[str, Cast], recipes: Collection[str]) -> list[Shown]:
    """The studies that were run and whose recipes are all among ``recipes``, in the order of params.yaml.

    Raises:
        StoreError: what a study left is damaged.
    """
    found = []
    for name, cast in studies.items():
        directory = Layout(root).study(name)
        if set(cast.of.values()) <= set(recipes) and (directory / "study.json").exists():
            found.append(_gather(name, directory))
    return found


def _gather(name: str, directory: Path) -> Shown:
    facts = read_json(directory / "study.json")
    return Shown(
        name=name,
        chapter=Chapter.parse(facts["text"]),
        file=f"gen/studies/{entry(name).file}",
        sentences=facts["sentences"],
        figures=[
            Picture(figure, caption, (directory / f"{figure}.png").read_bytes())
            for figure, caption in facts["figures"].items()
        ],
        **{key: facts[key] for key in ("numbers", "of", "seed", "provenance")},
    )


def file_of(study: Shown, figure: Picture) -> str:
    """Where a figure lies in the directory of the report."""
    return f"studies/{study.name}-{figure.name}.png"


def natural(figure: Picture) -> tuple[int, int]:
    """Width and height in a browser's pixels: figures are drawn finer than that."""
    width, height = figure.size
    return round(width * CSS_DPI / DPI), round(height * CSS_DPI / DPI)


def _escaped(text: str) -> str:
    """Text in which Markdown finds no markup of ours to end, and no HTML."""
    for mark in "\\[]*`":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("<", "&lt;")
