"""One mover at a time: on one machine by a file lock, on several by a lease that only its own machine takes over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from pipelines.lifeline import BusyError
from pipelines.promotion import lock
from pipelines.promotion.history import verify
from pipelines.promotion.journal import log_path
from pipelines.promotion.lock import RESERVED, only_mover
from pipelines.promotion.moves import promote
from pipelines.tracking.server import server_command
from pipelines.tracking.shelf import Shelf
from tests.project import wait_for
from tests.promotion.registry import Killed, add_model, add_version, cheap_gate


class SharedShelf(Shelf):
    """The embedded database, taken for a server that other machines use."""

    database = None


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Become another machine: its user's folder is another."""

    def become(which: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / which))

    become("ours")
    return become


@pytest.fixture
def shared(root):
    return SharedShelf(root)


def leases(shelf: Shelf, name: str) -> bool:
    return shelf.model(RESERVED + name) is not None


@pytest.mark.parametrize("kind", [Shelf, SharedShelf])
def test_one_at_a_time(root, name, machine, kind):
    shelf = kind(root)
    with only_mover(shelf, name), pytest.raises(BusyError) as busy, only_mover(shelf, name, wait=0.1):
        pass
    assert busy.value.exit_code == 75
    with only_mover(shelf, name):
        pass


def test_the_lease_is_given_back_however_the_block_ends(shared, name, machine):
    with suppress(Killed), only_mover(shared, name):
        assert leases(shared, name)
        raise Killed
    assert not leases(shared, name)


def test_a_lease_that_a_killed_process_left_is_taken_over_by_its_own_machine_alone(shared, name, machine, monkeypatch):
    leave_behind(shared, name, monkeypatch)
    machine("theirs")
    with pytest.raises(BusyError, match=r"being moved by .*@.*, pid \d+, since 20"), only_mover(shared, name, wait=0.3):
        pass
    machine("ours")
    with only_mover(shared, name, wait=0):
        assert leases(shared, name)
    assert not leases(shared, name)


def leave_behind(shelf, name, monkeypatch) -> None:
    """A lease whose holder is gone: the kernel gave back its file lock, and nobody removed the lease."""
    with monkeypatch.context() as patch:
        patch.setattr(shelf, "delete", lambda _: None)
        with only_mover(shelf, name):
            pass
    assert leases(shelf, name)


def test_a_foreign_lease_is_waited_for(shared, root, name, machine, monkeypatch):
    leave_behind(shared, name, monkeypatch)
    machine("theirs")
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            shared.delete(RESERVED + name)

    monkeypatch.setattr("pipelines.promotion.lock.time.sleep", sleep)
    with only_mover(shared, name):
        pass
    assert len(waited) == 3


def test_breaking_a_lease_is_recorded(shared, root, name, machine, monkeypatch):
    version = add_version(root, name)
    leave_behind(shared, name, monkeypatch)
    machine("theirs")
    outcome = promote(shared, name, gate=cheap_gate, source=version, break_lease=True)
    assert outcome.moved
    first = json.loads(log_path(root, name).read_text().splitlines()[0])
    assert first["action"] == "unlock"
    assert "broke the lock of" in first["why"]
    assert not leases(shared, name)
    assert not verify(shared, name).findings


def test_who_lost_its_lease_moves_nothing_more(shared, root, name, machine):
    """Broken by somebody while it was held: noticed before the next step, and the other's lease is left alone."""
    version = add_version(root, name)

    class Interrupted(SharedShelf):
        def set_tag(self, *words: str) -> None:
            super().set_tag(*words)
            self.delete(RESERVED + name)
            assert self.create(RESERVED + name, {"gen.lock.token": "theirs", "gen.lock.holder": "them"})

    with pytest.raises(BusyError, match="somebody else broke our lock"):
        promote(Interrupted(root), name, gate=cheap_gate, source=version)
    found, lease = shared.model(name), shared.model(RESERVED + name)
    assert found is not None
    assert "champion" not in found.aliases
    assert lease is not None
    assert lease.tags["gen.lock.holder"] == "them"
    shared.delete(RESERVED + name)
    with pytest.raises(Exception, match="no such alias"):
        promote(shared, name, gate=cheap_gate)  # there is no candidate; but what was begun is finished
    assert shared.model(name).aliases == {"champion": version}


def test_the_embedded_registry_has_no_leases_to_break(shelf, root, name):
    assert promote(shelf, name, gate=cheap_gate, source=add_version(root, name), break_lease=True).moved
    assert "unlock" not in log_path(root, name).read_text()


@pytest.mark.slow
def test_two_machines_and_a_server(tmp_path, monkeypatch):
    """Over HTTP, each with files and locks of its own: all promotions happen, one after the other, in one log."""
    machines = [tmp_path / which for which in ("ours", "theirs")]
    add_model(tmp_path, "m")
    versions = [[add_version(tmp_path, "m", score=1 - k / 10) for k in range(3)] for _ in machines]
    command, environment = server_command(tmp_path, port=(port := free_port()))
    server = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: answers(port))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(lock, "meeting_place", lambda: machines[int(threading.current_thread().name)] / "locks")

        def work(k: int) -> list[bool]:
            threading.current_thread().name = str(k)
            shelf = Shelf(machines[k])
            assert shelf.database is None
            return [promote(shelf, "m", gate=cheap_gate, source=version).moved for version in versions[k]]

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(work, range(2))) == [[True] * 3] * 2
        monkeypatch.setattr(lock, "meeting_place", lambda: machines[0] / "locks")
        shelf = Shelf(machines[0])
        report = verify(shelf, "m")
        assert (report.entries, report.findings) == (12, [])
        assert not leases(shelf, "m")
        assert set(shelf.model("m").aliases) == {"champion", "previous"}
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as reply:
        return reply.status == 200
    return False
