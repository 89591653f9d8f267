"""Runs that the server believes are running, and whose process is gone: closed as they ended."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from pipelines.layout import Layout
from pipelines.lifeline import BusyError
from pipelines.tracking.mirror import HEARTBEAT, Mirror, speaking
from pipelines.tracking.record import Status, standing
from pipelines.tracking.runs import directories, in_use, search
from pipelines.tracking.server import answering, client, tracking_uri

RUNNING = "attributes.status = 'RUNNING' AND tags.`gen.token` != ''"


@dataclass(frozen=True, slots=True)
class Reaped:
    """What became of a run that the server believed was running.

    Attributes:
        name: as MLflow shows it.
        run_id: the MLflow run.
        status: what it was closed as; ``None`` if it was left alone.
        why: in a line.
    """

    name: str
    run_id: str
    status: Status | None
    why: str


def reap(layout: Layout, *, older: timedelta | None = None, dry_run: bool = False) -> Iterator[Reaped]:
    """Close the runs whose process is gone.

    One whose directory is here is sent what is missing and closed as its directory says it ended. One of this machine
    without a directory is closed as KILLED. Those of other machines are left alone.

    Args:
        layout: of the project.
        older: close those of other machines, too, if they have given no sign of life for so long.
        dry_run: only say what would be done.

    Raises:
        TrackingError: the server cannot be reached.
    """
    uri = tracking_uri(layout.root)
    here = {standing(path, uri).run_id: path for path in directories(layout)}
    with answering(uri):
        connection = client(layout.root)
        running = list(search(connection, RUNNING))
    for run in running:
        name, run_id = run.info.run_name, run.info.run_id
        run_dir = here.get(run_id)
        if kept := _kept(run, run_dir, uri, older):
            yield Reaped(name, run_id, None, kept)
        elif run_dir is not None:
            yield _as_it_ended(layout.root, run_dir, name, dry_run=dry_run)
        else:
            if not dry_run:
                with answering(uri):
                    connection.set_tag(run_id, "gen.outcome", "killed")
                    connection.set_terminated(run_id, "KILLED", int(1000 * _last_sign(run).timestamp()))
            yield Reaped(name, run_id, "KILLED", f"its process and its directory are gone, {_silence(run)}")


def _kept(run: Any, run_dir: Path | None, uri: str, older: timedelta | None) -> str:
    """Why a run is left alone; empty if its process is gone."""
    if run_dir is not None and (used := in_use(run_dir)):
        return used
    tags, silent = run.data.tags, datetime.now(UTC) - _last_sign(run)
    host = tags.get("process.host", "")
    if host != socket.gethostname() and (host or run_dir is None):
        return "" if older is not None and silent > older else f"it is on {host or 'another machine'}, {_silence(run)}"
    if run_dir is None:
        if _same_process(int(tags["process.pid"]), _last_sign(run)):
            return f"process {tags['process.pid']} is running"
        if standing(Path(tags["process.directory"]), uri).run_id == run.info.run_id:
            return f"it belongs to another project: run this there, for {tags['process.directory']}"
    return ""


def _same_process(pid: int, seen: datetime) -> bool:
    """Whether a process that was seen then is still there: numbers are given out again."""
    try:
        return psutil.Process(pid).create_time() <= seen.timestamp()
    except psutil.Error:
        return False


def _last_sign(run: Any) -> datetime:
    """When somebody last said that a run was running."""
    said: str | None = run.data.tags.get(HEARTBEAT)
    return datetime.fromisoformat(said) if said else datetime.fromtimestamp(run.info.start_time / 1000, UTC)


def _silence(run: Any) -> str:
    seconds = int((datetime.now(UTC) - _last_sign(run)).total_seconds())
    return f"last heard of {timedelta(seconds=max(seconds, 0))} ago"


def _as_it_ended(root: Path, run_dir: Path, name: str, *, dry_run: bool) -> Reaped:
    """Send what a run's server has not been told, and close it."""
    known = standing(run_dir, tracking_uri(root))
    if not dry_run:
        try:
            with speaking(Mirror(root, run_dir)) as mirror:
                mirror.send(mirror.record.outcome)
        except BusyError:
            return Reaped(name, known.run_id, None, "another process is sending it")
    return Reaped(name, known.run_id, known.status, f"its process is gone; {known.word}, {known.unsent} events unsent")
