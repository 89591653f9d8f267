"""Aliases move all the way or not at all, to approved versions only, whoever comes, and wherever they are killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gen.errors import RecipeError, StoreError
from pipelines.lifeline import BusyError
from pipelines.promotion import journal
from pipelines.promotion.desk import desk
from pipelines.promotion.history import told, verify
from pipelines.promotion.journal import log_path
from pipelines.promotion.moves import ATTEMPTS, LONGEST_WHY, nominate, promote, rehearse, rollback
from pipelines.promotion.verdicts import Verdict
from pipelines.tracking.server import client
from pipelines.tracking.shelf import Shelf, Version
from tests.promotion.registry import BAR, Killed, MortalShelf, add_version, cheap_gate


def aliases(shelf: Shelf, name: str) -> dict[str, str]:
    found = shelf.model(name)
    assert found is not None
    return dict(found.aliases)


def champion(shelf: Shelf, name: str) -> str | None:
    return aliases(shelf, name).get("champion")


def promoted(shelf: Shelf, root: Path, name: str, *, score: float = 1.0) -> str:
    """A new version, nominated and promoted."""
    version = add_version(root, name, score=score)
    nominate(shelf, name, version)
    assert promote(shelf, name, gate=cheap_gate).moved
    return version


def assert_sound(shelf: Shelf, name: str) -> None:
    report = verify(shelf, name)
    assert not report.findings
    assert not report.notes
    found = shelf.model(name)
    assert found is not None
    tags = [found.tags[key] for key in sorted(found.tags) if key.startswith("gen.audit.")]
    assert log_path(shelf.root, name).read_text().splitlines() == tags, "two copies, one log"


# ---- the ordinary ways ---------------------------------------------------------------------------------------------


def test_nominate_promote_promote_rollback_and_back(shelf, root, name):
    first, second = add_version(root, name), add_version(root, name, score=0.9)
    nominate(shelf, name, first)
    assert aliases(shelf, name) == {"candidate": first}
    outcome = promote(shelf, name, gate=cheap_gate)
    assert (outcome.version, outcome.moved, outcome.forced) == (first, True, False)
    assert outcome.verdicts[0].why == "no champion"
    assert aliases(shelf, name) == {"candidate": first, "champion": first}
    nominate(shelf, name, second)
    assert promote(shelf, name, gate=cheap_gate, why="better eyes").verdicts[0].why == f"champion {first}"
    assert aliases(shelf, name) == {"candidate": second, "champion": second, "previous": first}
    rollback(shelf, name)
    assert aliases(shelf, name) == {"candidate": second, "champion": first, "previous": second}
    rollback(shelf, name)
    assert aliases(shelf, name) == {"candidate": second, "champion": second, "previous": first}
    assert_sound(shelf, name)
    with desk(shelf, name) as at:
        assert [(e.action, e.phase) for e in at.entries[::2]] == [
            (action, "intent") for action in ("register", "promote", "register", "promote", "rollback", "rollback")
        ]
        assert at.entries[6].gate["rows"] == ["bar score: 0.9"]
        assert at.entries[6].why == "better eyes"
        lines = told(at.model, at.entries).splitlines()
    assert lines[4].endswith(f'champion {first} -> {second}, previous -> {first}, gate 1/1, "better eyes"')
    assert len(lines) == 8, "a head, a line per move, and the aliases"


def test_nominating_again_writes_nothing(shelf, root, name):
    version = add_version(root, name)
    for _ in range(3):
        nominate(shelf, name, version)
    assert len(log_path(root, name).read_text().splitlines()) == 2


def test_promoting_the_champion_again_asks_no_gate(shelf, root, name):
    promoted(shelf, root, name)

    def gate(*_: object) -> Sequence[Verdict]:
        raise AssertionError

    outcome = promote(shelf, name, gate=gate)
    assert not outcome.moved
    assert not outcome.refused


def test_a_challenger_steps_down_when_it_becomes_champion(shelf, root, name):
    first = promoted(shelf, root, name)
    second = add_version(root, name, score=0.8)
    assert promote(shelf, name, gate=cheap_gate, source=second, to="challenger").moved
    assert aliases(shelf, name) == {"candidate": first, "champion": first, "challenger": second}
    with pytest.raises(RecipeError, match="cannot challenge itself"):
        promote(shelf, name, gate=cheap_gate, source=first, to="challenger")
    assert promote(shelf, name, gate=cheap_gate, source="challenger").moved
    assert aliases(shelf, name) == {"candidate": first, "champion": second, "previous": first}
    assert promote(shelf, name, gate=cheap_gate, source="previous", to="challenger").moved
    rollback(shelf, name)
    assert aliases(shelf, name) == {"candidate": first, "champion": first, "previous": second}
    assert_sound(shelf, name)


def test_a_refused_version_moves_nothing_and_leaves_no_entry(shelf, root, name):
    good = promoted(shelf, root, name)
    bad = add_version(root, name, score=BAR / 2)
    before = log_path(root, name).read_bytes()
    outcome = promote(shelf, name, gate=cheap_gate, source=bad)
    assert outcome.refused
    assert champion(shelf, name) == good
    assert log_path(root, name).read_bytes() == before
    assert rehearse(shelf, name, gate=cheap_gate, source=bad).refused
    assert not rehearse(shelf, name, gate=cheap_gate, source=add_version(root, name)).refused
    assert log_path(root, name).read_bytes() == before


def test_force_needs_a_reason_and_both_are_recorded(shelf, root, name):
    promoted(shelf, root, name)
    bad = add_version(root, name, score=BAR / 2)
    for why in (None, "", "  "):
        with pytest.raises(RecipeError, match="--why"):
            promote(shelf, name, gate=cheap_gate, source=bad, force=True, why=why)
    with pytest.raises(RecipeError, match=f"up to {LONGEST_WHY}"):
        promote(shelf, name, gate=cheap_gate, source=bad, force=True, why="x" * LONGEST_WHY)
    outcome = promote(shelf, name, gate=cheap_gate, source=bad, force=True, why="the fair is tomorrow")
    assert outcome.forced
    assert champion(shelf, name) == bad
    last = json.loads(log_path(root, name).read_text().splitlines()[-2])
    assert (last["action"], last["why"], last["gate"]["failed"]) == ("force", "the fair is tomorrow", 1)
    assert_sound(shelf, name)


def test_force_without_need_is_an_ordinary_promotion(shelf, root, name):
    nominate(shelf, name, add_version(root, name))
    assert not promote(shelf, name, gate=cheap_gate, force=True, why="to be sure").forced
    assert json.loads(log_path(root, name).read_text().splitlines()[-2])["action"] == "promote"


def test_not_even_force_helps_against_a_binding_verdict(shelf, root, name):
    good = promoted(shelf, root, name)

    def gate(version: Version, _: Version | None) -> Sequence[Verdict]:
        return [Verdict("checksum", "as registered", "another", False, binding=True)]

    outcome = promote(shelf, name, gate=gate, source=add_version(root, name), force=True, why="I want it")
    assert outcome.refused
    assert champion(shelf, name) == good


def test_the_longest_gate_and_reason_fit_into_a_tag(shelf, root, name):
    version = add_version(root, name)
    verdicts = [Verdict(f"bar {'ä' * 300}{k}", "r" * 300, "f" * 300, True, "w" * 900) for k in range(60)]
    assert promote(shelf, name, gate=lambda *_: verdicts, source=version, why="x" * (LONGEST_WHY - 2)).moved
    assert_sound(shelf, name)


# ---- what cannot be done ---------------------------------------------------------------------------------------------


def test_what_is_not_there_is_named(shelf, root, name):
    with pytest.raises(RecipeError, match="no registered model"):
        promote(shelf, "nobody", gate=cheap_gate)
    with pytest.raises(RecipeError, match="no such alias"):
        promote(shelf, name, gate=cheap_gate)
    version = add_version(root, name)
    nominate(shelf, name, version)
    with pytest.raises(RecipeError, match="no such version"):
        promote(shelf, name, gate=cheap_gate, source="77")
    with pytest.raises(RecipeError, match="no such alias"):
        promote(shelf, name, gate=cheap_gate, source="champion")
    with pytest.raises(RecipeError, match="no previous champion"):
        rollback(shelf, name)
    assert promote(shelf, name, gate=cheap_gate).moved
    with pytest.raises(RecipeError, match="no previous champion"):
        rollback(shelf, name)


@pytest.mark.parametrize(("tag", "value"), [("gen.weights", None), ("gen.weights", "0" * 64), ("gen.seal", "0" * 64)])
def test_no_rollback_to_a_version_that_is_not_the_approved_one(shelf, root, name, tag, value):
    first, second = promoted(shelf, root, name), promoted(shelf, root, name)
    if value is None:
        client(root).delete_model_version_tag(name, first, tag)
    else:
        shelf.set_version_tag(name, first, tag, value)
    with pytest.raises(StoreError, match="not what was approved"):
        rollback(shelf, name)
    assert champion(shelf, name) == second
    assert verify(shelf, name).findings


def test_aliases_moved_by_hand_stop_promotion_until_it_is_forced(shelf, root, name):
    first, second = promoted(shelf, root, name), promoted(shelf, root, name)
    bad = add_version(root, name, score=0.1)
    shelf.set_alias(name, "champion", bad)
    third = add_version(root, name, score=0.9)
    nominate(shelf, name, third)  # a stage of the pipeline has nothing to do with it
    for move in (lambda: promote(shelf, name, gate=cheap_gate), lambda: rollback(shelf, name)):
        with pytest.raises(StoreError, match=f"champion: the log left it on version {second}, it is on version {bad}"):
            move()
    (_, found) = verify(shelf, name).findings
    assert found == f"alias champion: on version {bad}, which the log never approved"
    outcome = promote(shelf, name, gate=cheap_gate, source=second, force=True, why="put back what a hand had moved")
    assert outcome.forced
    assert outcome.moved
    assert aliases(shelf, name) == {"candidate": third, "champion": second, "previous": first}
    assert_sound(shelf, name)


def test_a_deleted_champion_is_succeeded_by_force(shelf, root, name):
    first, second = promoted(shelf, root, name), promoted(shelf, root, name)
    client(root).delete_model_version(name, second)
    (finding,) = verify(shelf, name).findings
    assert finding == f"alias champion: the log left it on version {second}, it is on no version"
    for move in (lambda: promote(shelf, name, gate=cheap_gate, source=first), lambda: rollback(shelf, name)):
        with pytest.raises(StoreError, match="it is on no version"):
            move()
    outcome = promote(shelf, name, gate=cheap_gate, source=first, force=True, why="somebody deleted the champion")
    assert outcome.verdicts[0].why == "no champion"
    assert aliases(shelf, name) == {"champion": first}
    assert_sound(shelf, name)


def test_a_champion_from_before_there_was_a_log_must_be_approved_once(shelf, root, name):
    old, new = add_version(root, name), add_version(root, name, score=0.9)
    shelf.set_alias(name, "champion", old)
    with pytest.raises(StoreError, match="moved aliases by hand"):
        promote(shelf, name, gate=cheap_gate, source=new)
    promote(shelf, name, gate=cheap_gate, source=old, force=True, why="it has been champion for years")
    assert promote(shelf, name, gate=cheap_gate, source=new).moved
    assert aliases(shelf, name) == {"champion": new, "previous": old}
    assert_sound(shelf, name)


# ---- others --------------------------------------------------------------------------------------------------------


def test_a_champion_that_moves_while_it_is_measured_is_measured_again(shelf, root, name):
    first = promoted(shelf, root, name)
    second, third = add_version(root, name, score=0.9), add_version(root, name, score=0.8)
    seen = []

    def gate(version: Version, against: Version | None) -> Sequence[Verdict]:
        seen.append(against.version if against else None)
        if len(seen) == 1:
            promote(Shelf(root), name, gate=cheap_gate, source=second)
        return cheap_gate(version, against)

    assert promote(shelf, name, gate=gate, source=third).moved
    assert seen == [first, second]
    assert aliases(shelf, name) == {"candidate": first, "champion": third, "previous": second}
    assert_sound(shelf, name)


def test_a_champion_that_never_rests_is_given_up(shelf, root, name):
    promoted(shelf, root, name)
    asked = []

    def gate(version: Version, against: Version | None) -> Sequence[Verdict]:
        asked.append(against)
        promoted(Shelf(root), root, name, score=1 - len(asked) / 100)
        return cheap_gate(version, against)

    mine = add_version(root, name, score=0.6)
    with pytest.raises(BusyError, match="changed 3 times"):
        promote(shelf, name, gate=gate, source=mine)
    assert len(asked) == ATTEMPTS
    assert champion(shelf, name) != mine
    assert_sound(shelf, name)


def test_a_version_that_changes_while_it_is_measured_is_measured_again(shelf, root, name):
    version = add_version(root, name)
    asked = []

    def gate(found: Version, against: Version | None) -> Sequence[Verdict]:
        asked.append(found.tags["gen.seal"])
        if len(asked) == 1:
            shelf.set_version_tag(name, version, "gen.seal", "1" * 64)
        return cheap_gate(found, against)

    assert promote(shelf, name, gate=gate, source=version).moved
    assert asked[1] == "1" * 64
    assert_sound(shelf, name)


# ---- killed --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """One kind of move among three versions.

    Attributes:
        prepare: what must be so before it.
        move: it.
        after: the aliases that come of it, from those before.
        changes: of the registry that it takes.
    """

    prepare: Callable[[Shelf, str], object]
    move: Callable[[Shelf, str, dict[str, str]], object]
    after: Callable[[dict[str, str]], dict[str, str]]
    changes: int


def other(before: dict[str, str]) -> str:
    """The version that is neither champion nor previous."""
    return next(v for v in "123" if v not in (before["champion"], before["previous"]))


MOVES = {
    "nominate": Move(
        prepare=lambda shelf, name: None,
        move=lambda shelf, name, before: nominate(shelf, name, "1" if before.get("candidate") == "2" else "2"),
        after=lambda before: {**before, "candidate": "1" if before.get("candidate") == "2" else "2"},
        changes=3,
    ),
    "rollback": Move(
        prepare=lambda shelf, name: None,
        move=lambda shelf, name, before: rollback(shelf, name),
        after=lambda before: {**before, "champion": before["previous"], "previous": before["champion"]},
        changes=4,
    ),
    "promote": Move(
        prepare=lambda shelf, name: promote(
            shelf, name, gate=cheap_gate, source=other(aliases(shelf, name)), to="challenger"
        ),
        move=lambda shelf, name, before: promote(shelf, name, gate=cheap_gate, source="challenger"),
        after=lambda before: {"champion": before["challenger"], "previous": before["champion"]},
        changes=5,
    ),
}


@pytest.mark.parametrize("kind", MOVES)
def test_killed_between_any_two_steps_the_next_command_finishes_it(root, shelf, name, kind):
    """Before and after each change of the registry, and before and within each line of the file."""
    move = MOVES[kind]
    for _ in range(3):
        add_version(root, name)
    for version in "12":
        promote(shelf, name, gate=cheap_gate, source=version)
    for step in range(2 * move.changes + 4):
        move.prepare(shelf, name)
        before = aliases(shelf, name)
        after = move.after(before)
        mortal = MortalShelf(root, dies_at=step // 2 + 1, after=bool(step % 2))
        with pytest.MonkeyPatch.context() as patch:
            if step >= 2 * move.changes:
                line, within = divmod(step - 2 * move.changes, 2)
                mortal.dies_at = 0
                patch.setattr(journal, "_write", dying_write(line, within=bool(within)))
            with pytest.raises(Killed):
                move.move(mortal, name, before)
        between = aliases(shelf, name)
        assert between["champion"] in (before["champion"], after["champion"]), "never absent, never anything else"
        assert not verify(shelf, name).findings, "a crash explains it"
        with desk(shelf, name) as at:
            last = at.entries[-1].action
        assert_sound(shelf, name)
        nothing = step == 0  # killed before the intent was anywhere
        assert aliases(shelf, name) == (before if nothing else after), step
        assert (last == "recover") == (not nothing and not finished(step, move.changes)), step


def finished(step: int, changes: int) -> bool:
    """Whether the last entry was in the registry already: its tag was set, or only its line in the file is missing."""
    return step == 2 * changes - 1 or step >= 2 * changes + 2


def dying_write(line: int, *, within: bool) -> Callable[..., None]:
    """Writes ``line`` lines of the file, and then half of one or nothing."""
    written = []
    write = journal._write

    def dying(path: Path, text: str, *, at: int) -> None:
        if len(written) == line:
            if within:
                write(path, text[: len(text) // 2], at=at)
            raise Killed
        written.append(text)
        write(path, text, at=at)

    return dying


def test_an_intent_whose_version_is_gone_is_taken_back(shelf, root, name):
    first = promoted(shelf, root, name)
    second = add_version(root, name, score=0.9)
    with pytest.raises(Killed):
        promote(MortalShelf(root, dies_at=1, after=True), name, gate=cheap_gate, source=second)
    client(root).delete_model_version(name, second)
    with desk(shelf, name) as at:
        assert (at.entries[-1].action, at.entries[-1].phase) == ("recover", "undone")
    assert champion(shelf, name) == first
    assert "taken back later" in told(at.model, at.entries)
    assert_sound(shelf, name)


def test_an_intent_whose_version_was_exchanged_is_taken_back(shelf, root, name):
    first = promoted(shelf, root, name)
    second = add_version(root, name, score=0.9)
    with pytest.raises(Killed):
        promote(MortalShelf(root, dies_at=2, after=True), name, gate=cheap_gate, source=second)
    assert champion(shelf, name) == second
    shelf.set_version_tag(name, second, "gen.weights", "0" * 64)
    with desk(shelf, name) as at:
        assert at.entries[-1].phase == "undone"
    assert champion(shelf, name) == first
    assert "was approved" in verify(shelf, name).findings[0], "that it was exchanged stays visible"


def test_killed_while_it_recovers(root, name):
    """The one who cleans up may die as well."""
    steady = Shelf(root)
    promoted(steady, root, name)
    second = add_version(root, name, score=0.9)
    with pytest.raises(Killed):
        promote(MortalShelf(root, dies_at=1, after=True), name, gate=cheap_gate, source=second)
    for dies_at, after in ((1, False), (1, True), (2, True), (1, True)):
        with pytest.raises(Killed), desk(MortalShelf(root, dies_at=dies_at, after=after), name):
            raise Killed  # where nothing was left to be done
    with desk(steady, name):
        pass
    assert champion(steady, name) == second
    assert_sound(steady, name)
