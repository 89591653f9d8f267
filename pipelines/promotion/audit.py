"""The audit log: what was done to a model's aliases, by whom and why, as a chain of hashes.

Every entry holds the hash of the one before it, and its own over all that it says in canonical JSON. So an entry cannot
be edited, removed, inserted or moved without every later one telling. What a chain cannot show by itself - that its end
was cut off, or that all of it was written anew - shows against its second copy (see :mod:`pipelines.promotion.journal`)
and the versions the aliases are on; and the file among the copies is meant to be committed to git.

A move is two entries: an intent, written before the first alias moves, and what came of it. An intent names every alias
it moves, from which version to which, so whoever finds one without its end can finish it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

from gen.files import digest

Action = Literal["register", "promote", "force", "rollback", "recover", "unlock"]
Phase = Literal["intent", "done", "undone"]
START = "0" * 64
"""What stands for the hash before the first entry."""

LONGEST = 5_000  # characters of a tag that every database of MLflow keeps


class Change(NamedTuple):
    """Of one alias: version before and after; ``None`` where the alias was not, or will not be."""

    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        seq: 1, 2, 3, ...
        model: the registered model.
        created: when that was made, in milliseconds: tells the registries apart that have a model of this name.
        time: ISO 8601, UTC.
        actor: user@host.
        action: what was asked for; ``recover`` ends what somebody else did not, ``unlock`` broke a lease.
        phase: ``intent``, and then ``done`` or, where it could not be done any more, ``undone``.
        of: seq of the intent, where this is the end of one.
        version: that the action is about.
        changes: what becomes of each alias that moves.
        weights: sha256 of the version's weights.
        seal: digest of the seal of all files of the version.
        gate: digest and summary of the verdicts; ``None`` where no gate was asked.
        why: given by the actor.
        previous: hash of the entry before.
        hash: of all of the above.
    """

    seq: int
    model: str
    created: int
    time: str
    actor: str
    action: Action
    phase: Phase
    of: int | None = None
    version: str | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)
    weights: str | None = None
    seal: str | None = None
    gate: Mapping[str, Any] | None = None
    why: str | None = None
    previous: str = START
    hash: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """JSON-able, without the hash."""
        held = asdict(self)
        del held["hash"]
        return held

    def sealed(self) -> Entry:
        """The same with its hash."""
        return replace(self, hash=digest(self.content))

    def line(self) -> str:
        """Canonical JSON on one line: the same bytes in every copy."""
        return json.dumps({**self.content, "hash": self.hash}, sort_keys=True, separators=(",", ":"))


def parse(text: str) -> Entry:
    """An entry from its line. Raises :class:`ValueError` with what is wrong with it, other than its place."""
    held = json.loads(text)
    if not isinstance(held, dict) or held.keys() != {f.name for f in fields(Entry)}:
        raise ValueError("not an entry of this log")
    try:
        entry = Entry(**{**held, "changes": {alias: Change(*change) for alias, change in held["changes"].items()}})
    except (TypeError, AttributeError) as problem:
        raise ValueError("not an entry of this log") from problem
    if digest(entry.content) != entry.hash:
        raise ValueError("edited: it does not hash to what it says")
    if entry.line() != text:
        raise ValueError("edited: not as it was written")
    return entry


def check(place: str, lines: Iterable[tuple[int | None, str]]) -> tuple[list[Entry], list[str]]:
    """Check one copy of the log.

    Args:
        place: of the copy, for messages.
        lines: the number that an entry should have, ``None`` where the place gives none; and its line. In order.

    Returns:
        The entries up to the first that is wrong, and what is wrong.
    """
    entries: list[Entry] = []
    findings: list[str] = []
    last: Entry | None = None
    seen = 0
    for given, text in lines:
        number = given or seen + 1
        try:
            entry = parse(text)
            number = given or entry.seq
            if wrong := _misplaced(entry, number, seen, last):
                findings.append(f"{place}: entry {number}: {wrong}")
            last = entry
        except ValueError as problem:
            findings.append(f"{place}: entry {number}: {problem}")
            last = None
        if not findings and last is not None:
            entries.append(last)
        seen = number
    return entries, findings


def _misplaced(entry: Entry, number: int, seen: int, last: Entry | None) -> str | None:
    """What is wrong with the place of an entry, after entry number ``seen``, which is ``last`` if it can be read."""
    if entry.seq != number:
        return f"moved here: it is entry {entry.seq}"
    if number <= seen:
        return "out of order, or twice"
    if number > seen + 1:
        return f"the log has a hole before it: {seen + 1} to {number - 1} removed"
    if number == 1:
        return None if entry.previous == START else "it says that others came before it"
    if last is not None and entry.previous != last.hash:
        return f"it follows another entry {seen} than the one here, which was replaced, or it was inserted"
    return None
