"""Command lines in texts: what a page or a manifest tells people to type must be what `gen` understands."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

from pipelines.cli import _parser

BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```|((?:^(?: {4}|\t).*\n)+)", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")


def in_blocks(markdown: str) -> Iterator[str]:
    """Lines of code blocks, fenced or indented, that call `gen`."""
    for fenced, indented in BLOCK.findall(markdown):
        yield from in_script(fenced or indented)


def in_script(text: str) -> Iterator[str]:
    """Lines that call `gen`, with continued ones joined."""
    for line in text.replace("\\\n", " ").splitlines():
        if (stripped := line.strip().removeprefix("$ ")).startswith("gen "):
            yield stripped


def inline(markdown: str) -> Iterator[str]:
    """Code within sentences that calls `gen`; it may leave out arguments."""
    text = BLOCK.sub("", markdown)
    return (code for code in INLINE.findall(text) if code.startswith("gen "))


def words_of(line: str) -> list[str]:
    """The arguments of `gen` in a line of a shell: up to a comment, a pipe or a redirection."""
    words = shlex.split(line, comments=True)[1:]
    ends = [k for k, word in enumerate(words) if word in ("|", ">", "&&", ";", "&")]
    return words[: min(ends, default=None)]


def understood(line: str) -> bool:
    """Whether `gen` takes exactly this."""
    try:
        _parser().parse_args(words_of(line))
    except SystemExit as ending:
        return ending.code == 0
    return True


def hinted(code: str) -> bool:
    """Whether `gen` has this command, at any depth, and these options of it."""
    parser = _parser()
    words = words_of(code)
    while words and not words[0].startswith("-"):
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not below:
            break
        if words[0] not in below[0].choices:
            return False
        parser = below[0].choices[words.pop(0)]
    options = {option for action in parser._actions for option in action.option_strings}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return given <= options
