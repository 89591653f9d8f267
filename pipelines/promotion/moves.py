"""Moves: nominate, promote, roll back.

The gate measures for minutes, so it runs before the lock is taken. Under the lock the version and the champion must
still be those that were measured; otherwise it measures again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gen.errors import RecipeError, StoreError
from pipelines.lifeline import BusyError
from pipelines.promotion.audit import Action
from pipelines.promotion.desk import Desk, desk, registered
from pipelines.promotion.standing import (
    CANDIDATE,
    CHALLENGER,
    CHAMPION,
    GUARDED,
    PREVIOUS,
    WEIGHTS,
    fingerprint,
    shown,
)
from pipelines.promotion.verdicts import Verdict
from pipelines.tracking.sealed import find
from pipelines.tracking.shelf import Shelf, Version

ATTEMPTS = 3  # to measure against a champion that keeps changing
LONGEST_WHY = 1_000  # characters, as JSON in ASCII: the log keeps an entry in one tag

Gate = Callable[[Version, Version | None], Sequence[Verdict]]
"""Measures a version against the champion, ``None`` if there is none yet."""


def nominate(shelf: Shelf, name: str, version: str) -> None:
    """Make a version the candidate, and write that down; nothing happens if it is."""
    with desk(shelf, name) as at:
        found = find(shelf, name, version)
        if at.standing.aliases.get(CANDIDATE) == at.model.aliases.get(CANDIDATE) == version:
            return
        at.carry_out("register", found, {CANDIDATE: version})


# ---- promote ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contest:
    """What a gate measures: a version, and the champion of that moment."""

    version: Version
    champion: Version | None

    def still(self, shelf: Shelf, at: Desk) -> bool:
        """Whether both are what they were."""
        was = None if self.champion is None else self.champion.version
        return at.there().get(CHAMPION) == was and all(
            (found := shelf.version(at.name, each.version)) is not None and fingerprint(found) == fingerprint(each)
            for each in (self.version, self.champion)
            if each is not None
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a promotion.

    Attributes:
        version: that was to be promoted.
        verdicts: of the gate; empty if it was not asked, because the alias is there already.
        aliases: now.
        moved: whether anything did.
        forced: whether that was in spite of the gate, or of aliases that somebody moved by hand.
    """

    version: str
    verdicts: Sequence[Verdict]
    aliases: Mapping[str, str]
    moved: bool
    forced: bool = False

    @property
    def refused(self) -> bool:
        """Whether the gate kept it from moving."""
        return not self.moved and any(not verdict.passed for verdict in self.verdicts)


def promote(
    shelf: Shelf,
    name: str,
    *,
    gate: Gate,
    source: str = CANDIDATE,
    to: str = CHAMPION,
    force: bool = False,
    why: str | None = None,
    break_lease: bool = False,
) -> Outcome:
    """Move an alias to a version that passes the gate.

    Args:
        shelf: the registry.
        name: of the registered model.
        gate: what it must pass.
        source: an alias, or the number of a version.
        to: ``champion``, whose version becomes ``previous``; or ``challenger``.
        force: move it although the gate failed, or although somebody moved aliases by hand, which puts them back where
            the log left them. Does not help against verdicts that are binding.
        why: needed to force.
        break_lease: see :func:`pipelines.promotion.lock.only_mover`.

    Raises:
        RecipeError: there is no such model or version, or force without a reason.
        StoreError: the log is damaged, or aliases were moved by hand.
        BusyError: somebody else is moving this model's aliases, or keeps doing so.
    """
    _check_why(why, needed=force)
    with desk(shelf, name, break_lease=break_lease) as at:
        contest = enter(at, source, to, force=force)
        if contest is None:
            return Outcome(find(shelf, name, source).version, (), at.model.aliases, moved=False)
    for _ in range(ATTEMPTS):
        verdicts = list(gate(contest.version, contest.champion))
        failed = [verdict for verdict in verdicts if not verdict.passed]
        if any(verdict.binding or not force for verdict in failed):
            return Outcome(contest.version.version, verdicts, registered(shelf, name).aliases, moved=False)
        with desk(shelf, name) as at:
            again = enter(at, contest.version.version, to, force=force)
            if again is None:  # somebody else did the same
                return Outcome(contest.version.version, verdicts, at.model.aliases, moved=False)
            if contest.still(shelf, at):
                forced = bool(failed) or bool(at.standing.drift(at.model))
                action: Action = "force" if forced else "promote"
                after = promoted(at.there(), contest.version.version, to)
                at.carry_out(action, contest.version, after, gate=verdicts, why=why)
                return Outcome(contest.version.version, verdicts, at.model.aliases, moved=True, forced=forced)
            contest = again
    raise BusyError(
        f"{name}: the champion changed {ATTEMPTS} times while version {contest.version.version} was measured against "
        "it; nothing was moved. Run the same command again."
    )


def rehearse(shelf: Shelf, name: str, *, gate: Gate, source: str = CANDIDATE, to: str = CHAMPION) -> Outcome:
    """What :func:`promote` would find, without moving anything."""
    with desk(shelf, name) as at:
        contest = enter(at, source, to, force=False)
        version, aliases = find(shelf, name, source).version, at.model.aliases
    verdicts = () if contest is None else gate(contest.version, contest.champion)
    return Outcome(version, verdicts, aliases, moved=False)


def enter(at: Desk, source: str, to: str, *, force: bool) -> Contest | None:
    """What is to be measured for a promotion; ``None`` if there is nothing to do."""
    version = find(at.shelf, at.name, source)
    drift = at.standing.drift(at.model)
    if drift and not force:
        raise StoreError(
            f"{at.name}: somebody moved aliases by hand. {shown(drift)}. Put them back where the log left them, or let "
            f"`gen promote {at.name}@VERSION --force --why ...` do so."
        )
    champion = at.standing.aliases.get(CHAMPION)
    if to == CHALLENGER and version.version == champion:
        raise RecipeError(f"{at.name}: version {champion} is the champion; it cannot challenge itself.")
    if at.standing.aliases.get(to) == version.version and not drift:
        return None
    return Contest(version, None if champion is None else at.shelf.version(at.name, champion))


def promoted(aliases: Mapping[str, str], version: str, to: str) -> dict[str, str | None]:
    """Where the guarded aliases belong after a promotion, from where the log left them."""
    after: dict[str, str | None] = {alias: aliases.get(alias) for alias in GUARDED}
    if to == CHAMPION and after[CHAMPION] != version:
        before = after[CHAMPION] or after[PREVIOUS]  # the champion may have been deleted
        after[PREVIOUS] = None if before == version else before
        after[CHALLENGER] = None if after[CHALLENGER] == version else after[CHALLENGER]
    after[to] = version
    return after


def _check_why(why: str | None, *, needed: bool) -> None:
    if needed and not (why or "").strip():
        raise RecipeError("--force: give the reason as well, for the log: --why TEXT.")
    if (length := len(json.dumps(why))) > LONGEST_WHY:
        raise RecipeError(f"--why: takes {length} characters in the log, which keeps up to {LONGEST_WHY}. Shorten it.")


# ---- roll back -------------------------------------------------------------------------------------------------------


def rollback(shelf: Shelf, name: str, *, why: str | None = None) -> Mapping[str, str]:
    """Swap ``champion`` and ``previous``; the aliases now. No gate: that version has passed one.

    Raises:
        RecipeError: there is no previous champion.
        StoreError: it is not the version any more that was approved, or aliases were moved by hand.
        BusyError: somebody else is moving this model's aliases.
    """
    _check_why(why, needed=False)
    with desk(shelf, name) as at:
        if drift := at.standing.drift(at.model):
            raise StoreError(
                f"{name}: somebody moved aliases by hand. {shown(drift)}. `gen promote {name}@VERSION --force "
                "--why ...` puts them where they belong."
            )
        champion, previous = (at.standing.aliases.get(alias) for alias in (CHAMPION, PREVIOUS))
        if champion is None or previous is None:
            raise RecipeError(
                f"{name}: there is no previous champion to go back to. `gen history {name}` shows what there was."
            )
        back = at.shelf.version(name, previous)
        approved = at.standing.approved.get(previous)
        if back is None:
            raise StoreError(f"{name}: version {previous}, the previous champion, is gone from the registry.")
        if not back.tags.get(WEIGHTS) or fingerprint(back) != approved:
            raise StoreError(
                f"{name}: version {previous} is not what was approved: the checksums in its tags are missing or were "
                f"changed. `gen history {name} --verify` shows it; `gen promote` can approve another version."
            )
        after: dict[str, str | None] = {CHAMPION: previous, PREVIOUS: champion}
        if at.standing.aliases.get(CHALLENGER) == previous:
            after[CHALLENGER] = None
        at.carry_out("rollback", back, after, why=why)
        return at.model.aliases
