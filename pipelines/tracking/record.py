"""What is written down about sending a run: ``<run>/tracking.json``, with one writer at a time."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gen.files import read_json, write_json
from gen.train import events
from pipelines.lifeline import sole_writer
from pipelines.tracking.forms import stamp
from pipelines.tracking.provenance import Description, process, provenance
from pipelines.tracking.server import shown

Status = Literal["FINISHED", "FAILED", "KILLED"]

FILE, LOG, LOCK, TRIAL = "tracking.json", "events.jsonl", "tracking.lock", "trial.json"
TRIAL_STATUS: Mapping[str, Status] = {  # the ledger's final states in MLflow's words, which know no pruning
    "finished": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "killed": "KILLED",
}


def _blank() -> dict[str, Any]:
    """What a server knows of a run it was never told about; the token finds its MLflow run again."""
    return {"token": uuid.uuid4().hex, "run_id": "", "described": False, "offset": 0, "attached": {}, "closed": ""}


def unsent(run_dir: Path, server: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Events a server has not been told, and the offset to go on from."""
    log, offset = run_dir / LOG, server["offset"]
    started_over = log.exists() and log.stat().st_size < offset
    return events.read(log, 0 if started_over else offset)


def ending(run_dir: Path, state: Mapping[str, Any], last: Mapping[str, Any] | None) -> tuple[Status, str]:
    """How a run ended, for MLflow and in a word, as its directory tells somebody who was not there.

    Args:
        run_dir: of the training. Of a trial, the ledger's word counts: it is what a resumed sweep believes.
        state: what was written down about sending it.
        last: newest event of its log.
    """
    ledger = read_json(run_dir / TRIAL)["state"] if (run_dir / TRIAL).exists() else ""
    if ledger in TRIAL_STATUS:
        return TRIAL_STATUS[ledger], ledger
    recorded: Status | None = state["status"]
    whole = last["kind"] == "end" if last is not None else not ledger
    status: Status = recorded or ("FINISHED" if whole else "KILLED")
    return status, status.lower()


class Record:
    """What a run is called, how it ended, and how far each server has been told.

    Use it as a context manager: inside, this process is the only one that sends this run.

    Args:
        root: of the project.
        run_dir: of the training.
        description: of a run that starts or goes on now; ``None`` keeps what was written down.

    Attributes:
        state: the content of the file; :meth:`save` writes it.
        began: the first event of the run.
        last: the newest one.
    """

    def __init__(self, root: Path, run_dir: Path, description: Description | None = None) -> None:
        self.root, self.run_dir, self.description = root, run_dir, description
        self.state: dict[str, Any] = {}
        self.began: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self._held = ExitStack()

    def __enter__(self) -> Record:
        """Become the sender and read what was sent before. Raises :class:`pipelines.lifeline.BusyError`."""
        with ExitStack() as lock:
            lock.enter_context(sole_writer(self.run_dir, name=LOCK))
            path = self.run_dir / FILE
            self.state = read_json(path) if path.exists() else {"servers": {}, "status": None}
            if self.description is not None:
                described = asdict(self.description)
                self.state["status"] = None
                self.state["description"] = {**described, "tags": {**described["tags"], **process(self.run_dir)}}
                for server in self.state["servers"].values():
                    server.update(described=False, closed="")
            elif "description" not in self.state:  # evaluated or registered where it was not trained
                unknown = Description(experiment="gen", run_name=self.run_dir.name, tags=provenance(self.root))
                self.state["description"] = asdict(unknown)
            log, _ = events.read(self.run_dir / LOG)
            self.began = log[0] if log else None
            self.last = log[-1] if log else None
            self.save()
            self._held = lock.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def save(self) -> None:
        """Write the file."""
        write_json(self.run_dir / FILE, self.state)

    @property
    def facts(self) -> dict[str, Any]:
        """The description, as nested dictionaries."""
        return {**asdict(Description(experiment="gen", run_name=self.run_dir.name)), **self.state["description"]}

    @property
    def live(self) -> bool:
        """Whether the run goes on: it was described by this process and has not ended."""
        return self.description is not None and self.state["status"] is None

    @property
    def outcome(self) -> Status:
        """How the run ended, seen by somebody else than its tracker."""
        return ending(self.run_dir, self.state, self.last)[0]

    @property
    def word(self) -> str:
        """The same in a word: ``finished``, ``pruned``, ``failed`` or ``killed``."""
        return ending(self.run_dir, self.state, self.last)[1]

    @property
    def images(self) -> int:
        """The clock of the run."""
        return 0 if self.last is None else int(self.last["images"])

    def server(self, uri: str) -> dict[str, Any]:
        """What a server knows; one that was never told has a new token for its run."""
        known: dict[str, Any] = self.state["servers"].setdefault(shown(uri), {})
        for key, value in _blank().items():
            known.setdefault(key, value)
        return known

    def forget(self, uri: str) -> None:
        """Start over with a server."""
        del self.state["servers"][shown(uri)]

    def ended(self, status: Status) -> None:
        """Write down how the run ended."""
        if self.state["status"] != status:
            self.state["status"] = status
            self.save()

    def attach(self, kind: str, *, metrics: Mapping[str, float], files: Mapping[str, Path], note: str) -> None:
        """Write down results to be sent with the run; they replace earlier ones of the same kind.

        Args:
            kind: of the results, e.g. ``evaluation``.
            metrics: names as MLflow shows them, and finite numbers.
            files: where they go among the run's artifacts, and where they are now.
            note: Markdown, shown as the description of the run.
        """
        paths = {name: os.path.relpath(path, self.root) for name, path in files.items()}
        facts = {"metrics": metrics, "files": paths, "note": note, "images": self.images, "time": stamp(None)}
        self.state.setdefault("attached", {})[kind] = facts
        self.save()


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far a server has been told about a run, as its directory has it; whoever reads it need not be the sender.

    Attributes:
        run_id: the MLflow run; empty if there is none yet.
        unsent: events the server has not been told.
        status: how the run ended, if it has.
        word: the same in a word, see :func:`ending`.
        complete: whether the server knows all of this.
    """

    run_id: str
    unsent: int
    status: Status
    word: str
    complete: bool


def standing(run_dir: Path, uri: str) -> Standing:
    """How far the server at ``uri`` has been told about a run."""
    path = run_dir / FILE
    state = read_json(path) if path.exists() else {"servers": {}, "status": None}
    server = {**_blank(), **state["servers"].get(shown(uri), {})}
    log, _ = events.read(run_dir / LOG)
    new, _ = unsent(run_dir, server)
    attached = {kind: facts["time"] for kind, facts in state.get("attached", {}).items()}
    status, word = ending(run_dir, state, log[-1] if log else None)
    complete = server["closed"] == word and not new and attached == server["attached"]
    return Standing(run_id=server["run_id"], unsent=len(new), status=status, word=word, complete=complete)
