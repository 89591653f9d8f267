"""One thread that keeps the MLflow runs of this process up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pipelines.tracking.mirror import Mirror
from pipelines.tracking.record import Status
from pipelines.tracking.server import reason, shown, tracking_uri

POLL_S, LONGEST_PAUSE_S, SYSTEM_S = 5.0, 60.0, 10.0  # a request costs as much as ten events in it


class Courier:
    """Follows the event logs of some runs in a thread and sends what is new.

    Nothing here raises or waits while training runs. What goes wrong is remembered in ``problem`` and tried again,
    ever more rarely; what could not be sent stays in the event logs. A run that cannot be sent goes to the end of the
    line, so that it does not hold up the others.

    Args:
        root: of the project.

    Attributes:
        problem: what is wrong now, in one line; ``None`` if all is well.
    """

    def __init__(self, root: Path) -> None:
        self.problem: str | None = None
        self._server = shown(tracking_uri(root))
        self._line: list[_Parcel] = []
        self._changing = threading.Lock()  # of the line; never held while something is sent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)

    def follow(self, mirror: Mirror, *, system: bool = False) -> None:
        """Send a run from now on, until it is closed.

        Args:
            mirror: of the run, not entered yet; it takes over from one of the same run that is still in the line.
            system: send the load of this machine with it.
        """
        with self._changing:
            parcel = next((each for each in self._line if each.run_dir == mirror.run_dir), None)
            if parcel is None:
                self._line.append(_Parcel(mirror, system=system))
            else:
                parcel.successor, parcel.closing = mirror, False
        self._start()

    def close(self, mirror: Mirror, status: Status | None = None) -> None:
        """Send the rest of a run and end it.

        Args:
            mirror: one that is followed, or another one, which is sent once.
            status: how it ended; ``None`` if its directory says so.
        """
        with self._changing:
            parcel = next((each for each in self._line if each.run_dir == mirror.run_dir), None)
            if parcel is None:
                self._line.append(parcel := _Parcel(mirror))
            parcel.status, parcel.closing = status, True
        self._start()

    def attach(
        self, mirror: Mirror, kind: str, *, metrics: Mapping[str, float], files: Mapping[str, Path], note: str
    ) -> None:
        """Send results with a run that is followed; see :meth:`Record.attach`."""
        attachment = partial(mirror.record.attach, kind, metrics=metrics, files=files, note=note)
        with self._changing:
            next(each for each in self._line if each.run_dir == mirror.run_dir).attachments.append(attachment)

    def stop(self, deadline: float) -> bool:
        """Send what can still be sent; whether everything arrived within ``deadline`` seconds."""
        self._stop.set()
        self._thread.join(deadline)
        if self._thread.is_alive():
            self.problem = self.problem or f"MLflow at {self._server}: still sending after {deadline:g} s"
        return self.problem is None

    def _start(self) -> None:
        if not self._thread.is_alive():
            self._thread.start()

    def _work(self) -> None:
        pause, stopping = 0.0, False
        while not stopping:
            stopping = self._stop.wait(pause)
            self.problem = self._round()
            pause = POLL_S if self.problem is None else min(max(2 * pause, POLL_S), LONGEST_PAUSE_S)
        for parcel in self._line:
            parcel.leave()

    def _round(self) -> str | None:
        """Send everybody's news; what went wrong, in one line."""
        with self._changing:
            line = list(self._line)
        problem = None
        ready = []
        for parcel in line:  # first, for all, what needs no server
            try:
                parcel.prepare()
                ready.append(parcel)
            except Exception as error:
                problem = f"{parcel.run_dir.name}: {reason(error)}"
        for parcel in ready:
            try:
                parcel.send()
            except Exception as error:  # whatever it is, training matters more
                with self._changing:
                    self._line.remove(parcel)
                    self._line.append(parcel)
                return f"MLflow at {self._server}: {reason(error)}"  # what is away for one is away for all
            with self._changing:
                over = parcel.settled and parcel.successor is None
                if over:
                    self._line.remove(parcel)
            if over:
                parcel.leave()
        return problem


class _Parcel:
    """A run in the line."""

    def __init__(self, mirror: Mirror, *, system: bool = False) -> None:
        self.mirror, self.run_dir, self.system = mirror, mirror.run_dir, system
        self.successor: Mirror | None = None
        self.status: Status | None = None
        self.attachments: list[Callable[[], None]] = []
        self.closing = self.settled = self.opened = False
        self.measured = time.monotonic()

    def prepare(self) -> None:
        """Become its sender, and write down what is attached to it and how it ended."""
        if self.successor is not None:
            self.leave()
            self.mirror, self.successor, self.settled = self.successor, None, False
        if not self.opened:
            self.mirror.__enter__()
            self.opened = True
        while self.attachments:
            self.attachments[0]()
            del self.attachments[0]
        if self.closing:
            self.status = self.status or self.mirror.record.outcome
            self.mirror.record.ended(self.status)
            self.settled = True

    def send(self) -> None:
        """All that is new."""
        self.mirror.send(self.status if self.settled else None)
        if self.system and not self.settled and time.monotonic() - self.measured >= SYSTEM_S:
            self.measured = time.monotonic()
            self.mirror.send_system()

    def leave(self) -> None:
        """Let somebody else send it."""
        if self.opened:
            self.mirror.__exit__()
            self.opened = False
