"""History: the log for people, and whether it, its copy and the aliases bear each other out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.promotion.audit import Entry
from pipelines.promotion.desk import Desk, registered
from pipelines.promotion.journal import log_path
from pipelines.promotion.lock import only_mover
from pipelines.promotion.standing import GUARDED, fingerprint, shown
from pipelines.tracking.shelf import Model, Shelf


def told(model: Model, entries: Sequence[Entry]) -> str:
    """One line per move, oldest first, and where the aliases are."""
    ends = {entry.of: entry for entry in entries if entry.of is not None}
    rows = [
        (
            str(entry.seq),
            entry.time[:19].replace("T", " "),
            entry.actor,
            entry.action,
            _said(entry, ends.get(entry.seq)),
        )
        for entry in entries
        if entry.of is None
    ]
    table = [("entry", "time (UTC)", "who", "what", ""), *rows]
    widths = [max(len(row[k]) for row in table) for k in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in table
    ]
    aliases = ", ".join(f"{alias} {version}" for alias, version in sorted(model.aliases.items()))
    return "\n".join([*lines, f"aliases: {aliases or 'none'}"])


def _said(entry: Entry, end: Entry | None) -> str:
    """What moved, what the gate said, how it ended and why."""
    words = [
        " ".join([alias, *([change.before] if change.before else []), "->", change.after or "none"])
        for alias, change in entry.changes.items()
    ]
    if entry.gate is not None:
        words.append(f"gate {entry.gate['passed']}/{entry.gate['passed'] + entry.gate['failed']}")
    if entry.phase == "intent" and end is None:
        words.append("NOT FINISHED")
    elif end is not None and end.action == "recover":
        words.append(f"{'finished' if end.phase == 'done' else 'taken back'} later by {end.actor}")
    if entry.why:
        words.append(f'"{entry.why}"')
    return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Report:
    """What :func:`verify` found.

    Attributes:
        name: of the model.
        entries: of the log that hold.
        findings: what is wrong.
        notes: what is unfinished, and will be finished by the next command.
    """

    name: str
    entries: int
    findings: Sequence[str]
    notes: Sequence[str]

    def told(self) -> str:
        """In words."""
        lines = [f"{self.name}: {self.entries} entries hold"]
        lines += [f"  WRONG  {finding}" for finding in self.findings]
        lines += [f"  note   {note}" for note in self.notes]
        return "\n".join(lines if self.findings else [*lines, f"{self.name}: the log, its copy and the aliases agree"])


def verify(shelf: Shelf, name: str) -> Report:
    """Check both copies of the log, and the aliases and versions against it. Changes nothing.

    Raises:
        BusyError: somebody is moving this model's aliases.
    """
    registered(shelf, name)
    with only_mover(shelf, name) as held:
        at = Desk(shelf, name, held)
        if at.log.findings:
            note = "aliases and versions were not checked: there is no log to check them against"
            return Report(name, len(at.entries), at.log.findings, [note])
        return Report(name, len(at.entries), [*_astray(at), *_changed(at)], list(_unfinished(at)))


def _astray(at: Desk) -> Iterator[str]:
    """Aliases that are not where the log left them, or on versions that it did not approve."""
    for alias, change in at.standing.drift(at.model).items():
        yield f"alias {shown({alias: change})}"
    for alias in GUARDED:
        version = at.model.aliases.get(alias)
        if version is not None and version not in at.standing.approved:
            yield f"alias {alias}: on version {version}, which the log never approved"


def _changed(at: Desk) -> Iterator[str]:
    """Approved versions that are not any more what was approved."""
    for number, approved in at.standing.approved.items():
        version = at.shelf.version(at.name, number)
        if version is None:
            continue  # versions may be deleted; an alias on one would be astray
        now = fingerprint(version)
        for what, was, there in (("weights", approved.weights, now.weights), ("seal", approved.seal, now.seal)):
            if was != there:
                yield f"version {number}: its {what} digest is {_short(there)}, {_short(was)} was approved"


def _short(digest: str | None) -> str:
    return "missing" if digest is None else f"{digest[:12]}..."


def _unfinished(at: Desk) -> Iterator[str]:
    if at.log.missing or at.log.torn:
        path = log_path(at.shelf.root, at.name)
        yield f"{path.name} lacks {len(at.log.missing)} entries that the registry has: a crash, or another machine's"
    if at.standing.open is not None:
        yield f"entry {at.standing.open.seq} was begun by {at.standing.open.actor} and not finished"
