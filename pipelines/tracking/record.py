"""What is written down about sending a run: ``<run>/tracking.json``, with one writer at a time."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from gen.files import read_json, write_json
from gen.train import events
from pipelines.lifeline import sole_writer
from pipelines.tracking.forms import stamp
from pipelines.tracking.provenance import Description, provenance
from pipelines.tracking.server import shown

Status = Literal["FINISHED", "FAILED", "KILLED"]


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
            lock.enter_context(sole_writer(self.run_dir, name="tracking.lock"))
            path = self.run_dir / "tracking.json"
            self.state = read_json(path) if path.exists() else {"servers": {}, "status": None}
            if self.description is not None:
                self.state["status"] = None
                self.state["description"] = asdict(self.description)
                for server in self.state["servers"].values():
                    server["described"] = False
            elif "description" not in self.state:  # evaluated or registered where it was not trained
                unknown = Description(experiment="gen", run_name=self.run_dir.name, tags=provenance(self.root))
                self.state["description"] = asdict(unknown)
            log, _ = events.read(self.run_dir / "events.jsonl")
            self.began = log[0] if log else None
            self.last = log[-1] if log else None
            self.save()
            self._held = lock.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def save(self) -> None:
        """Write the file."""
        write_json(self.run_dir / "tracking.json", self.state)

    @property
    def outcome(self) -> Status:
        """How the run ended, seen by somebody else than its tracker."""
        recorded: Status | None = self.state["status"]
        whole = self.last is None or self.last["kind"] == "end"
        return recorded or ("FINISHED" if whole else "KILLED")

    @property
    def images(self) -> int:
        """The clock of the run."""
        return 0 if self.last is None else int(self.last["images"])

    def server(self, uri: str) -> dict[str, Any]:
        """What a server knows; one that was never told has a new token for its run."""
        blank = {"token": uuid.uuid4().hex, "run_id": "", "described": False, "offset": 0, "evaluated": 0}
        known: dict[str, Any] = self.state["servers"].setdefault(shown(uri), blank)
        return known

    def forget(self, uri: str) -> None:
        """Start over with a server."""
        del self.state["servers"][shown(uri)]

    def ended(self, status: Status) -> None:
        """Write down how the run ended."""
        self.state["status"] = status
        self.save()

    def evaluated(self, *, metrics: Mapping[str, float], pictures: Mapping[str, str], card: str) -> None:
        """Write down an evaluation, to be sent. Paths are relative to the root."""
        facts = {"metrics": metrics, "pictures": pictures, "card": card, "images": self.images, "time": stamp(None)}
        self.state["evaluation"] = facts
        self.save()
