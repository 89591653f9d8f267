"""The desk at which one process moves the aliases of one model and writes down what it does.

    lock                    pipelines.promotion.lock
    finish what was left    the file of the log is completed; an intent without an end is carried out, or dropped where
                            its version is gone or is not the same any more
    record the intent       from here on, whoever comes next finishes this
    move the aliases        `champion` first; each is one step of the registry, from an approved version to another
    record the end

A kill between any two steps leaves ``champion`` on an approved version, and the next at the desk with all it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from gen.errors import RecipeError
from pipelines.promotion.audit import START, Action, Change, Entry, Phase
from pipelines.promotion.journal import append, complete, log_path, read_log
from pipelines.promotion.lock import WAIT_S, Held, actor, now, only_mover
from pipelines.promotion.standing import ORDER, Standing, changes_to, fingerprint, recorded
from pipelines.promotion.verdicts import Verdict, summary
from pipelines.tracking.shelf import Model, Shelf, Version


class Desk:
    """One model's aliases and log, while this process alone may move them.

    Attributes:
        model: as it is now.
        entries: the log.
        standing: what it amounts to.
    """

    def __init__(self, shelf: Shelf, name: str, held: Held) -> None:
        self.shelf, self.name, self.held = shelf, name, held
        self.path = log_path(shelf.root, name)
        self.read()

    def read(self) -> None:
        """See what is there."""
        self.model = registered(self.shelf, self.name)
        self.log = read_log(self.model, self.path)
        self.entries = list(self.log.entries)
        self.standing = Standing.of(self.entries)

    def settle(self) -> None:
        """Finish what others left: half a line in the file, a lease that was broken, an intent without an end."""
        complete(self.log, self.path)
        if self.held.broken is not None:
            self._record("unlock", "done", why=f"broke the lock of {self.held.broken}")
        if (intent := self.standing.open) is None:
            return
        if self._same(intent):
            self._move({alias: change.after for alias, change in intent.changes.items()})
            self._record("recover", "done", of=intent)
        else:
            before = {alias: change.before for alias, change in intent.changes.items()}
            self._move({alias: version for alias, version in before.items() if self._exists(version)})
            self._record("recover", "undone", of=intent)
        self.read()

    def _same(self, intent: Entry) -> bool:
        """Whether the version of an intent is still what it was."""
        version = self.shelf.version(self.name, intent.version or "")
        return version is not None and fingerprint(version) == recorded(intent)

    def there(self) -> dict[str, str]:
        """Where the log left the aliases, but for versions that were deleted since."""
        return {alias: version for alias, version in self.standing.aliases.items() if self._exists(version)}

    def _exists(self, version: str | None) -> bool:
        return version is None or self.shelf.version(self.name, version) is not None

    def carry_out(
        self,
        action: Action,
        version: Version,
        after: Mapping[str, str | None],
        *,
        gate: Sequence[Verdict] | None = None,
        why: str | None = None,
    ) -> None:
        """Record an intent, move the aliases to ``after``, record that it is done."""
        changes = changes_to(after, actual=self.model.aliases, logged=self.standing.aliases)
        intent = self._record(action, "intent", version=version, changes=changes, gate=gate, why=why)
        self._move(after)
        self._record(action, "done", of=intent)
        self.read()

    def _move(self, after: Mapping[str, str | None]) -> None:
        for alias in ORDER:
            if alias not in after or (version := after[alias]) == self.model.aliases.get(alias):
                continue
            self.held.confirm()
            if version is None:
                self.shelf.delete_alias(self.name, alias)
            else:
                self.shelf.set_alias(self.name, alias, version)

    def _record(
        self,
        action: Action,
        phase: Phase,
        *,
        of: Entry | None = None,
        version: Version | None = None,
        changes: Mapping[str, Change] | None = None,
        gate: Sequence[Verdict] | None = None,
        why: str | None = None,
    ) -> Entry:
        self.held.confirm()
        found = None if version is None else fingerprint(version)
        entry = Entry(
            seq=len(self.entries) + 1,
            model=self.name,
            created=self.model.created,
            time=now(),
            actor=actor(),
            action=action,
            phase=phase,
            of=None if of is None else of.seq,
            version=found.version if found else of.version if of else None,
            changes=changes or {},
            weights=found.weights if found else None,
            seal=found.seal if found else None,
            gate=None if gate is None else summary(gate),
            why=why,
            previous=self.entries[-1].hash if self.entries else START,
        ).sealed()
        append(self.shelf, self.path, entry)
        self.entries.append(entry)
        return entry


@contextmanager
def desk(shelf: Shelf, name: str, *, wait: float = WAIT_S, break_lease: bool = False) -> Iterator[Desk]:
    """Take the lock of a model, and finish what was left.

    Raises:
        BusyError: somebody else has the lock.
        StoreError: the log is damaged.
    """
    registered(shelf, name)  # a name that does not exist gets no lock
    with only_mover(shelf, name, wait=wait, break_lease=break_lease) as held:
        taken = Desk(shelf, name, held)
        taken.settle()
        yield taken


def registered(shelf: Shelf, name: str) -> Model:
    """A registered model. Raises :class:`RecipeError` if there is none."""
    found = shelf.model(name)
    if found is None:
        raise RecipeError(
            f"'{name}': there is no registered model of this name. `dvc repro register@{name}` registers one."
        )
    return found
