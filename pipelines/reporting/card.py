"""A model card: one content, shown twice.

In full it is a page that fetches nothing. Shortened it is the description of a version in MLflow, where a picture of
the version's files can be shown, and tables, but neither styles nor more than :data:`LONGEST` characters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.reporting.entry import Picture
from pipelines.reporting.page import render
from pipelines.reporting.tables import Column, markdown

CARD, PICTURE = "card.html", "card.png"  # files of a version
LONGEST = 5000  # characters of a description, in databases that count them
GAP = "&emsp;"  # MLflow sets tables without space between columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a card: a table, paragraphs, points or a listing, in this order. Text in backticks is code.

    Attributes:
        title: its head.
        columns: of the table.
        rows: of the table.
        brief: those rows that the description shows, if not all.
        text: paragraphs.
        points: of a list.
        listing: lines to be typed.
    """

    title: str
    columns: Sequence[Column] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    brief: Sequence[Mapping[str, Any]] = ()
    text: Sequence[str] = ()
    points: Sequence[str] = ()
    listing: str = ""

    def markdown(self) -> str:
        """As a part of a description."""
        spaced = [_spaced(column) for column in self.columns]
        rows = self.brief or self.rows
        table = f"{markdown(rows, spaced)}\n{GAP}" if rows else ""  # a line of space: what follows would stick to it
        text = [_escaped(paragraph) for paragraph in self.text]
        points = "\n".join(f"- {_escaped(point)}" for point in self.points)
        listing = f"```\n{self.listing}\n```" if self.listing else ""
        return "\n\n".join(filter(None, [f"### {self.title}", table, *text, points, listing]))


def _escaped(text: str) -> str:
    """Text in which Markdown finds no HTML."""
    return text.replace("<", "&lt;")


def _spaced(column: Column) -> Column:
    """A column with space to its right."""

    def cell(row: Mapping[str, Any], inner: Callable[[Mapping[str, Any]], str] = column.cell) -> str:
        return inner(row) + GAP

    return replace(column, title=column.title + GAP, cell=cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model card.

    Attributes:
        title: what the model is called.
        summary: what it is, in a sentence.
        facts: how it was made, in words.
        picture: its samples, or what it has to show instead.
        sections: the rest, the most important first: what does not fit into a description is left out from the end.
    """

    title: str
    summary: str
    facts: Mapping[str, str]
    picture: Picture | None
    sections: Sequence[Section]

    def page(self) -> str:
        """The whole card as HTML that fetches nothing."""
        return render("card.html.j2", card=self)

    def description(self, *, picture: str, files: str) -> str:
        """The card as Markdown for a version's page, in at most :data:`LONGEST` characters.

        Args:
            picture: address of :data:`PICTURE` on the tracking server.
            files: address of the page on the version's files, :data:`CARD` among them.
        """
        shown = [f"![{self.picture.caption}]({picture})", f"*{self.picture.caption}*"] if self.picture else []
        made = " · ".join(f"{name} **{value}**" for name, value in self.facts.items())
        parts = [f"**{self.title}**: {self.summary}", *shown, made]
        last = f"The whole card is [{CARD}]({files}), among the files of this version."
        for section in self.sections:
            part = section.markdown()
            if len("\n\n".join([*parts, part, last])) <= LONGEST:
                parts.append(part)
        return "\n\n".join([*parts, last])
