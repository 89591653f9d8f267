"""Whatever is done to the log, to its copy or behind its back is found, and stops every move."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gen.errors import StoreError
from gen.files import digest
from pipelines import cli
from pipelines.promotion.audit import parse
from pipelines.promotion.desk import desk
from pipelines.promotion.history import verify
from pipelines.promotion.journal import TAG, log_path
from pipelines.promotion.moves import nominate, promote, rollback
from pipelines.tracking.server import client
from pipelines.tracking.shelf import Shelf
from tests.promotion.registry import add_model, add_version, cheap_gate

Log = tuple[str, dict[str, str], bytes]


@pytest.fixture(scope="module")
def pristine(root: Path) -> Log:
    """A model with a log of eight entries - champion 2, previous 1, candidate 2 - and both copies of it."""
    shelf, name = Shelf(root), "tampered-with"
    add_model(root, name)
    for score in (1.0, 0.9):
        nominate(shelf, name, add_version(root, name, score=score))
        promote(shelf, name, gate=cheap_gate)
    return name, dict(shelf.model(name).tags), log_path(root, name).read_bytes()


@pytest.fixture
def logged(shelf: Shelf, pristine: Log) -> Iterator[str]:
    """That model; whatever is done to it is undone."""
    name, tags, log = pristine
    yield name
    found = shelf.model(name)
    for key in found.tags.keys() - tags.keys():
        client(shelf.root).delete_registered_model_tag(name, key)
    for key, value in tags.items() - found.tags.items():
        shelf.set_tag(name, key, value)
    for alias, version in {"champion": "2", "previous": "1"}.items() - found.aliases.items():
        shelf.set_alias(name, alias, version)
    log_path(shelf.root, name).write_bytes(log)


def tag(shelf: Shelf, name: str, seq: int) -> str:
    found = shelf.model(name)
    assert found is not None
    return found.tags[f"{TAG}{seq:06}"]


def reseal(line: str, **changes: object) -> str:
    """An entry that says something else and hashes to that."""
    held = {**json.loads(line), **changes}
    del held["hash"]
    return json.dumps({**held, "hash": digest(held)}, sort_keys=True, separators=(",", ":"))


def edit_tag(shelf: Shelf, name: str, seq: int, text: str) -> None:
    shelf.set_tag(name, f"{TAG}{seq:06}", text)


def remove_tag(shelf: Shelf, name: str, seq: int) -> None:
    client(shelf.root).delete_registered_model_tag(name, f"{TAG}{seq:06}")


def swap_tags(shelf: Shelf, name: str) -> None:
    third, fourth = tag(shelf, name, 3), tag(shelf, name, 4)
    edit_tag(shelf, name, 3, fourth)
    edit_tag(shelf, name, 4, third)


def rewrite_tags(shelf: Shelf, name: str) -> None:
    """The whole chain anew, consistently: somebody else promoted version 1."""
    previous = "0" * 64
    for seq in range(1, 9):
        changed = reseal(tag(shelf, name, seq), previous=previous, actor="nobody@nowhere")
        edit_tag(shelf, name, seq, changed)
        previous = parse(changed).hash


IN_THE_REGISTRY = {
    "edited": (lambda s, n: edit_tag(s, n, 3, tag(s, n, 3).replace('"promote"', '"rollback"')), "entry 3: edited"),
    "edited and hashed again": (
        lambda s, n: edit_tag(s, n, 3, reseal(tag(s, n, 3), why="it was like that")),
        "entry 4: it follows another entry 3",
    ),
    "not an entry": (lambda s, n: edit_tag(s, n, 3, "[]"), "entry 3: not an entry"),
    "removed": (lambda s, n: remove_tag(s, n, 3), "the log has a hole before it: 3 to 3 removed"),
    "first removed": (lambda s, n: remove_tag(s, n, 1), "the log has a hole before it: 1 to 1 removed"),
    "end removed": (lambda s, n: [remove_tag(s, n, k) for k in (7, 8)], "entries 7 to 8 are in .* only: removed"),
    "all removed": (lambda s, n: [remove_tag(s, n, k) for k in range(1, 9)], "entries 1 to 8 are in .* only: removed"),
    "exchanged": (swap_tags, "entry 3: moved here: it is entry 4"),
    "another model's": (
        lambda s, n: edit_tag(s, n, 1, reseal(tag(s, n, 1), model="other")),
        "entry 1: it is of other",
    ),
    "all of it written anew": (rewrite_tags, "entry 1: the registry has .* by nobody@nowhere .*: one was written anew"),
}


@pytest.mark.parametrize("kind", IN_THE_REGISTRY)
def test_tampering_with_the_registry_is_found_and_stops_everything(shelf, logged, kind):
    tamper, finding = IN_THE_REGISTRY[kind]
    tamper(shelf, logged)
    assert_found(shelf, logged, finding)


def edit_line(lines: list[str], k: int, text: str) -> list[str]:
    return [*lines[:k], text, *lines[k + 1 :]]


IN_THE_FILE = {
    "edited": (lambda ls: edit_line(ls, 2, ls[2].replace('"promote"', '"rollback"')), "entry 3: edited"),
    "spaced": (lambda ls: edit_line(ls, 2, json.dumps(json.loads(ls[2]))), "entry 3: edited: not as it was written"),
    "edited and hashed again": (lambda ls: edit_line(ls, 2, reseal(ls[2], why="so")), "entry 4: it follows another"),
    "last edited and hashed again": (lambda ls: edit_line(ls, 7, reseal(ls[7], actor="x@y")), "one was written anew"),
    "removed": (lambda ls: [*ls[:2], *ls[3:]], "a hole before it: 3 to 3 removed"),
    "exchanged": (lambda ls: [*ls[:2], ls[3], ls[2], *ls[4:]], "a hole before it: 3 to 3 removed"),
    "twice": (lambda ls: [*ls[:3], ls[2], *ls[3:]], "entry 3: out of order, or twice"),
    "added": (
        lambda ls: [*ls, reseal(ls[7], seq=9, previous=parse(ls[7]).hash)],
        "entries 9 to 9 are in .* only: removed from the registry",
    ),
    "a conflict of git": (lambda ls: [*ls[:6], "<<<<<<< ours", *ls[6:]], "entry 7: "),
    "bytes": (lambda ls: edit_line(ls, 2, "\udcff\udcfe"), "entry 3: "),
    "half a line that nobody wrote": (lambda ls: [*ls, '{"actor":"me'], "half a line that the registry does not know"),
}


@pytest.mark.parametrize("kind", IN_THE_FILE)
def test_tampering_with_the_file_is_found_and_stops_everything(shelf, logged, kind):
    tamper, finding = IN_THE_FILE[kind]
    path = log_path(shelf.root, logged)
    text = "\n".join(tamper(path.read_text().splitlines())) + ("" if kind.startswith("half") else "\n")
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert_found(shelf, logged, finding)


def assert_found(shelf: Shelf, name: str, finding: str) -> None:
    """It is reported, and no command goes on."""
    before = log_path(shelf.root, name).read_bytes(), shelf.model(name)
    report = verify(shelf, name)
    assert any(re.search(finding, found) for found in report.findings), report.findings
    with pytest.raises(StoreError, match="damaged or was tampered with"), desk(shelf, name):
        pass
    assert (log_path(shelf.root, name).read_bytes(), shelf.model(name)) == before


def test_a_damaged_log_stops_every_command_with_exit_code_5(shelf, root, logged):
    edit_tag(shelf, logged, 3, "[]")
    before = log_path(root, logged).read_bytes(), shelf.model(logged)
    for move in (
        lambda: promote(shelf, logged, gate=cheap_gate, source="1"),
        lambda: promote(shelf, logged, gate=cheap_gate, source="1", force=True, why="now"),
        lambda: rollback(shelf, logged),
        lambda: nominate(shelf, logged, "1"),
    ):
        with pytest.raises(StoreError, match="damaged or was tampered with") as damaged:
            move()
        assert damaged.value.exit_code == 5
    assert cli.main(["--root", str(root), "history", logged, "--verify"]) == 5
    assert cli.main(["--root", str(root), "history", logged]) == 5
    assert cli.main(["--root", str(root), "rollback", logged]) == 5
    assert (log_path(root, logged).read_bytes(), shelf.model(logged)) == before


def test_an_alias_that_moved_behind_the_log_and_an_exchanged_version_are_found(shelf, root, logged):
    sealed = shelf.version(logged, "2").tags["gen.seal"]
    assert not verify(shelf, logged).findings
    shelf.set_alias(logged, "champion", "1")
    assert verify(shelf, logged).findings == ["alias champion: the log left it on version 2, it is on version 1"]
    shelf.delete_alias(logged, "champion")
    assert verify(shelf, logged).findings == ["alias champion: the log left it on version 2, it is on no version"]
    shelf.set_alias(logged, "champion", "2")
    shelf.set_version_tag(logged, "2", "gen.seal", "f" * 64)
    (finding,) = verify(shelf, logged).findings
    assert "version 2: its seal digest is ffffffffffff..." in finding
    assert cli.main(["--root", str(root), "history", logged, "--verify"]) == 5
    shelf.set_version_tag(logged, "2", "gen.seal", sealed)


def test_verifying_changes_nothing_and_says_what_is_unfinished(shelf, root, logged):
    path = log_path(root, logged)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    report = verify(shelf, logged)
    assert not report.findings
    assert report.notes == [f"{path.name} lacks 1 entries that the registry has: a crash, or another machine's"]
    assert path.read_bytes() == whole[:-100]
    assert cli.main(["--root", str(root), "history", logged, "--verify"]) == 0


@pytest.mark.parametrize("cut", [1, 100, 2000, None])
@pytest.mark.parametrize("zeros", [0, 512])
def test_a_file_that_is_behind_is_completed_from_the_registry(shelf, root, logged, cut, zeros, capfd):
    """Cut off anywhere - within the last line or lines before it - padded with zeros, or gone."""
    path = log_path(root, logged)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut] + b"\0" * zeros) if cut else path.unlink()
    with desk(shelf, logged) as at:
        assert len(at.entries) == 8
    assert path.read_bytes() == whole
    if cut == 100:
        assert "completing the half line" in capfd.readouterr().err


def test_another_machine_has_the_same_log_after_its_first_command(shelf, logged, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shelf.uri)
    with desk(Shelf(tmp_path), logged):
        pass
    assert log_path(tmp_path, logged).read_bytes() == log_path(shelf.root, logged).read_bytes()


def test_a_model_made_anew_begins_a_chain_of_its_own_behind_the_old_one(shelf, root, name):
    """As for a clone of the project with a fresh registry: one file serves several."""
    promote(shelf, name, gate=cheap_gate, source=add_version(root, name))
    nominate(shelf, name, "1")
    old = log_path(root, name).read_text().splitlines()
    client(root).delete_registered_model(name)
    client(root).create_registered_model(name)
    nominate(shelf, name, add_version(root, name))
    lines = log_path(root, name).read_text().splitlines()
    assert lines[:4] == old
    assert [parse(line).seq for line in lines[4:]] == [1, 2]
    assert not verify(shelf, name).findings
    log_path(root, name).write_text("\n".join([*lines[:2], *lines[3:], ""]))
    assert "a hole before it: 3 to 3 removed" in verify(shelf, name).findings[0], "the old one is checked as well"


def test_history_for_people_and_for_programs(root, logged, capsys):
    def history(*words: str) -> str:
        assert cli.main(["--root", str(root), "history", logged, *words]) == 0
        return capsys.readouterr().out

    shown = history().splitlines()
    assert [line.split()[4] for line in shown[1:5]] == ["register", "promote", "register", "promote"]
    assert shown[-1] == "aliases: candidate 2, champion 2, previous 1"
    entries = json.loads(history("--json"))
    assert [entry["seq"] for entry in entries] == list(range(1, 9))
    assert json.loads(history("--verify", "--json"))["findings"] == []
    assert "the log, its copy and the aliases agree" in history("--verify")
