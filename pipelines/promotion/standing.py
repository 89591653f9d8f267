"""Standing: where the log says the aliases are, which versions it approved, and how the registry compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.promotion.audit import Change, Entry
from pipelines.tracking.shelf import Model, Version

CANDIDATE, CHALLENGER, CHAMPION, PREVIOUS = "candidate", "challenger", "champion", "previous"
GUARDED = (CHAMPION, PREVIOUS, CHALLENGER)
"""Aliases that may only be on approved versions, in the order they are moved: what is served comes first."""
ORDER = (*GUARDED, CANDIDATE)
WEIGHTS, SEAL = "gen.weights", "gen.seal"  # tags of a version


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes a version the one that was approved: its number may be given again after it was deleted."""

    version: str
    weights: str | None
    seal: str | None


def fingerprint(version: Version) -> Fingerprint:
    """Of a version as it is recorded now."""
    return Fingerprint(version.version, version.tags.get(WEIGHTS), version.tags.get(SEAL))


def recorded(entry: Entry) -> Fingerprint:
    """Of a version as an entry has it."""
    return Fingerprint(entry.version or "", entry.weights, entry.seal)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a log amounts to.

    Attributes:
        aliases: alias -> version, as far as moves were completed.
        open: an intent without its end: somebody is at it now, or was killed.
        approved: what passed its gate, or was forced, by version; the last time counts.
    """

    aliases: Mapping[str, str]
    open: Entry | None
    approved: Mapping[str, Fingerprint]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Standing:
        """Replay a log."""
        aliases: dict[str, str] = {}
        approved: dict[str, Fingerprint] = {}
        intents: dict[int, Entry] = {}
        for entry in entries:
            if entry.phase == "intent":
                intents[entry.seq] = entry
                if entry.action in ("promote", "force") and entry.version is not None:
                    approved[entry.version] = recorded(entry)
            elif entry.of is not None and (intent := intents.pop(entry.of, None)) is not None and entry.phase == "done":
                for alias, change in intent.changes.items():
                    aliases.pop(alias, None)
                    if change.after is not None:
                        aliases[alias] = change.after
        return cls(aliases, next(iter(intents.values()), None), approved)

    def drift(self, model: Model) -> dict[str, Change]:
        """Guarded aliases that are not where the log left them: where it did, and where they are."""
        found = {}
        for alias in GUARDED:
            wanted, actual = self.aliases.get(alias), model.aliases.get(alias)
            moving = self.open.changes.get(alias) if self.open else None
            if wanted != actual and (moving is None or actual not in moving):
                found[alias] = Change(wanted, actual)
        return found


def changes_to(
    after: Mapping[str, str | None], *, actual: Mapping[str, str], logged: Mapping[str, str]
) -> dict[str, Change]:
    """What must move, or be written down, for aliases to be so; those that are not named stay."""
    return {
        alias: Change(actual.get(alias), after[alias])
        for alias in ORDER
        if alias in after and not (actual.get(alias) == logged.get(alias) == after[alias])
    }


def shown(drift: Mapping[str, Change]) -> str:
    """In words."""
    return "; ".join(
        f"{alias}: the log left it on {_place(change.before)}, it is on {_place(change.after)}"
        for alias, change in drift.items()
    )


def _place(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"
