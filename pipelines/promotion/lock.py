"""One process at a time moves the aliases of a model.

On one machine a file lock does that: the kernel lets go of it however its holder ends, so no lock is ever left behind.

A registry that several machines share needs more. MLflow has no lock, but one thing that it does in one step and for
one caller only: making a registered model of a given name. So whoever makes ``gen.lock.<model>`` has the lease, and
removing it gives it back. A holder that was killed leaves it. Its own machine knows: leases are taken with the file
lock of a folder held, and carry that folder's identity, so whoever holds that file lock and finds the folder's lease
knows that its holder is gone, and takes over. Another machine cannot know; it waits, then says whose the lease is, and
only ``--break-lock`` breaks it, which the log records. A holder whose lease was broken notices before its next step.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path

from gen.files import digest, writing
from pipelines.lifeline import BusyError, meeting_place, sole_writer
from pipelines.tracking.server import TrackingError
from pipelines.tracking.shelf import Model, Shelf

RESERVED = "gen.lock."
WAIT_S, POLL_S = 30.0, 0.2


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that is held.

    Attributes:
        confirm: raises :class:`BusyError` if it was broken meanwhile; to be asked before every step.
        broken: whose lease was broken to get it; ``None`` if none was.
    """

    confirm: Callable[[], None]
    broken: str | None = None


def actor() -> str:
    """Who does this: user@host."""
    try:
        user = getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def only_mover(shelf: Shelf, name: str, *, wait: float = WAIT_S, break_lease: bool = False) -> Iterator[Held]:
    """Hold the lock of a model.

    Args:
        shelf: the registry.
        name: of the registered model.
        wait: seconds to wait for another holder.
        break_lease: break the lease of another machine, if there is one.

    Raises:
        BusyError: another process holds it; the message says which.
    """
    if (database := shelf.database) is not None:
        with sole_writer(database.parent, wait=wait, name=f"promotion-{name}.lock"):
            yield Held(confirm=lambda: None)
        return
    folder = meeting_place()
    deadline = time.monotonic() + wait
    with sole_writer(folder, wait=wait, name=f"{digest([shelf.uri, name])[:16]}.lock"):
        lease = _Lease(shelf, name, f"{socket.gethostname()}/{_identity(folder)}")
        broken = lease.take(deadline, break_lease)
        try:
            yield Held(lease.confirm, broken)
        finally:
            with suppress(TrackingError):  # what was to be done is done or recorded; this machine takes it over later
                lease.give_back()


def _identity(folder: Path) -> str:
    """A name for a folder that no other has, given to it once."""
    path, staging = folder / "identity", folder / f".identity.{os.getpid()}.part"
    with writing(path):
        if not path.exists():
            staging.write_text(uuid.uuid4().hex)
            with suppress(FileExistsError):  # somebody else was first
                os.link(staging, path)
            staging.unlink()
        return path.read_text()


class _Lease:
    """The reserved registered model of one model. Its folder's file lock is held."""

    def __init__(self, shelf: Shelf, name: str, home: str) -> None:
        self.shelf, self.name, self.home = shelf, RESERVED + name, home
        self.token = uuid.uuid4().hex

    def take(self, deadline: float, break_lease: bool) -> str | None:
        """Make it, or wait; whose lease was broken for that."""
        broken = None
        tags = {"gen.lock.holder": f"{actor()}, pid {os.getpid()}, since {now()}"}
        tags |= {"gen.lock.home": self.home, "gen.lock.token": self.token}
        while not self.shelf.create(self.name, tags):
            held = self.shelf.model(self.name)
            if held is None:
                continue  # given back just now
            if held.tags.get("gen.lock.home") == self.home:
                self.shelf.delete(self.name)  # its holder had the file lock that we have: it is gone
            elif break_lease:
                self.shelf.delete(self.name)
                broken, break_lease = _holder(held), False
            elif time.monotonic() >= deadline:
                raise BusyError(
                    f"{self.name.removeprefix(RESERVED)}: its aliases are being moved by {_holder(held)}. Wait for it, "
                    "then run the same command again. If you know that it is gone for good, "
                    "`gen promote --break-lock` takes over."
                )
            else:
                time.sleep(POLL_S)
        return broken

    def confirm(self) -> None:
        if not self._mine():
            raise BusyError(
                f"{self.name.removeprefix(RESERVED)}: somebody else broke our lock and moves its aliases now. "
                "`gen history` shows what became of this."
            )

    def give_back(self) -> None:
        if self._mine():
            self.shelf.delete(self.name)

    def _mine(self) -> bool:
        held = self.shelf.model(self.name)
        return held is not None and held.tags.get("gen.lock.token") == self.token


def _holder(held: Model) -> str:
    return held.tags.get("gen.lock.holder", "somebody unknown")
