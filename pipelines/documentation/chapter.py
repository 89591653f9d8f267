"""A chapter's docstring as Markdown: prose, formulas as they were written, and references that can be followed.

What is written stays as it is written. Formulas are plain text in indented blocks and are set in a fixed pitch; names
in backticks are code; ``Algorithm:`` or ``Logged, per patch:`` at the head of a sentence becomes a run-in heading;
``[1]`` leads to the reference. Everything else is escaped, so that no asterisk of a formula turns into emphasis.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator

WIDE = 96  # characters of a formula's line; longer ones set all of a chapter smaller
FENCE = "````"

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$~^&])")
_LIST = re.compile(r"(?:[-+*]|\d+[.)])\s")
_LABEL = re.compile(r"(?:^|(?<=\n)|(?<=[.;)] ))(?=[A-Z][A-Za-z-]*(?:, [^:.\n]{1,70})?:(?:\s|$))")
_LABELLED = re.compile(r"(?P<label>[A-Z][A-Za-z-]*)(?P<rest>(?:, [^:.\n]{1,70})?:)(?=\s|$)")
_TOKEN = re.compile(
    r":\w+:`(?P<role>[^`]+)`"
    r"|``(?P<literal>.+?)``"
    r"|`(?P<code>[^`]+)`"
    r"|(?<![\w*])\*(?P<emphasis>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])"
    r"|\[(?P<marks>\d+(?:, ?\d+)*)\]"
)


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(
        r"^(\d+)([.)] )|^([-+] )", r"\1\\\2\3" if text[:1].isdigit() else r"\\\3", _SPECIAL.sub(r"\\\1", text)
    )


def inline(text: str, *, anchor: str = "", marks: Collection[str] = ()) -> str:
    """A paragraph or a phrase of a docstring as Markdown on one line.

    Args:
        text: as it is written.
        anchor: what the names of references begin with; see :func:`reference`.
        marks: of the references there are; other numbers in brackets are intervals.
    """
    text = " ".join(text.split())
    parts: list[str] = []
    position = 0
    for token in _TOKEN.finditer(text):
        parts += [text[position : token.start()], _token(token, anchor, marks)]
        position = token.end()
    parts.append(text[position:])
    return "".join(part if k % 2 else escape(part) for k, part in enumerate(parts))


def _token(token: re.Match[str], anchor: str, marks: Collection[str]) -> str:
    if found := token["marks"]:
        named = re.split(r", ?", found)
        if not set(named) <= set(marks):
            return escape(token[0])
        return "\\[" + ", ".join(f"[{mark}](#{reference(anchor, mark)})" for mark in named) + "\\]"
    if found := token["emphasis"]:
        return f"*{escape(found)}*"
    return f"`{(token['role'] or token['literal'] or token['code']).lstrip('~')}`"


def reference(anchor: str, mark: str) -> str:
    """The name of a reference's place, the only one of that name in the site."""
    return f"{anchor.replace('_', '-')}-ref-{mark}"


def body(doc: str, *, anchor: str, marks: Collection[str]) -> str:
    """All of a docstring between its first paragraph and its references, as Markdown.

    Args:
        doc: as :func:`inspect.getdoc` returns it.
        anchor: see :func:`inline`.
        marks: see :func:`inline`.
    """
    parts: list[str] = []
    blocks = list(_blocks(doc))
    formulas = {block: textwrap.dedent(block).rstrip() for block in blocks if block.startswith(" ")}
    wide = any(len(line) > WIDE for formula in formulas.values() for line in formula.splitlines())
    for block in blocks:
        if block in formulas:
            style = "formula wide" if wide else "formula"
            parts.append(f"{FENCE}{{code-block}} text\n:class: {style}\n\n{formulas[block]}\n{FENCE}")
        elif _LIST.match(block):
            items = re.split(r"\n(?=(?:[-+*]|\d+[.)])\s)", block)
            parts.append("\n".join(_item(item, anchor, marks) for item in items))
        else:
            parts += [_run_in(sentence, anchor, marks) for sentence in _LABEL.split(block) if sentence.strip()]
    return "\n\n".join(parts)


def _blocks(doc: str) -> Iterator[str]:
    """Paragraphs, lists and indented blocks, without the first paragraph and without the references at the end."""
    paragraphs = re.split(r"\n\s*\n", doc.strip("\n"))[1:]
    while paragraphs and re.match(r"\[\d+\] |References?:", paragraphs[-1]):
        paragraphs.pop()
    for paragraph in paragraphs:
        lines = paragraph.splitlines()
        first = next((k for k, line in enumerate(lines) if k and line.startswith("    ")), 0)
        if first and not lines[0].startswith(" ") and lines[first - 1].rstrip().endswith(":"):
            yield "\n".join(lines[:first])  # a formula that follows its introduction without an empty line
            lines = lines[first:]
        yield "\n".join(lines)


def _item(text: str, anchor: str, marks: Collection[str]) -> str:
    mark, _, rest = text.partition(" ")
    return f"{mark} {inline(rest, anchor=anchor, marks=marks)}"


def _run_in(text: str, anchor: str, marks: Collection[str]) -> str:
    """A paragraph, its label in bold."""
    found = _LABELLED.match(text)
    if not found:
        return inline(text, anchor=anchor, marks=marks)
    label = found["label"].capitalize() if found["label"].isupper() else found["label"]
    head = f"**{label}:**" if found["rest"] == ":" else f"**{label}**{escape(found['rest'])}"
    return f"{head} {inline(text[found.end() :], anchor=anchor, marks=marks)}".rstrip()
