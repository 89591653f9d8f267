"""One clean progress display: a bar on a terminal, plain lines elsewhere. That of a run follows its event log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gen.train.events import read

POLL_S = 0.3
LINE_EVERY_S = 10.0
QUICK_S = 2.0
SHOWN = 3  # metrics on the line


class RunProgress:
    """Shows a run until the ``with`` block ends. Everything goes to stderr; stdout is for results."""

    def __init__(self, name: str, log: Path, budget: int) -> None:
        self.name, self.log, self.budget = name, log, budget
        _, self.offset = read(log)  # what an earlier session recorded is not news
        self.bar = sys.stderr.isatty()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True, name="progress")

    def __enter__(self) -> RunProgress:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self.thread.join()

    def _events(self) -> Iterator[dict[str, Any]]:
        while True:
            last = self.done.is_set()
            events, self.offset = read(self.log, self.offset)
            yield from events
            if last:
                return
            self.done.wait(POLL_S)

    def _follow(self) -> None:
        if self.bar:
            self._as_bar()
        else:
            self._as_lines()

    def _as_bar(self) -> None:
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(self.name, total=self.budget, note="starting")
            for event in self._events():
                progress.update(task, completed=min(event["images"], self.budget))
                if note := _note(event):
                    progress.update(task, note=note)

    def _as_lines(self) -> None:
        printed = 0.0
        for event in self._events():
            note = _note(event)
            final = event["kind"] == "metrics" and event["images"] >= self.budget
            if note and (event["kind"] in ("start", "warning") or final or time.monotonic() - printed > LINE_EVERY_S):
                share = 100 * min(event["images"], self.budget) / self.budget
                print(f"{self.name}: {share:3.0f} %  {event['images']} images  {note}", file=sys.stderr, flush=True)
                printed = time.monotonic()


def _note(event: dict[str, Any]) -> str:
    match event["kind"]:
        case "start":
            where = f"{event['world']} worker(s) on {event['device']}"
            return f"resuming, {where}" if event["resumed"] else f"started, {where}"
        case "warning":
            return f"warning: {event['message']}"
        case "metrics":
            return "  ".join(f"{name} {value:.4g}" for name, value in list(event["values"].items())[:SHOWN])
    return ""


class Bar:
    """Shows how much of a piece of work is done, until the ``with`` block ends; quick work shows nothing."""

    def __init__(self, name: str, *, unit: str) -> None:
        self.name, self.unit = name, unit
        self.began = self.printed = time.monotonic()
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            columns = (*Progress.get_default_columns(), TextColumn("{task.fields[note]}"))
            self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self.progress.start()
            self.task = self.progress.add_task(self.name, total=None, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.stop()
        if kind is None and time.monotonic() - self.began > QUICK_S:
            print(f"{self.name}: {time.monotonic() - self.began:.1f} s", file=sys.stderr, flush=True)

    def update(self, done: int, total: int) -> None:
        """Say how much is done."""
        note = f"{done:,} of {total:,} {self.unit}"
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=total, note=note)
        elif time.monotonic() - self.printed > LINE_EVERY_S:
            print(f"{self.name}: {note}", file=sys.stderr, flush=True)
            self.printed = time.monotonic()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """A line when a piece of work is done, with its seconds."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
