"""``gen runs``: list the runs, close those whose process is gone, send what MLflow has not been told."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pipelines.command import AddCommand, adder
from pipelines.layout import Layout

if TYPE_CHECKING:
    from pipelines.tracking.runs import Run

EPILOG = """\
a run is a directory below runs/, and a run in MLflow; the trials of a sweep are runs of their own.
exit codes:
  0 done   2 the command is wrong   75 the tracking server is away: nothing is lost, try again
"""
STATES = ("running", "interrupted", "waiting", "finished", "pruned", "failed", "killed")


def add_runs_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
    parser = command("runs", lambda arguments, layout: parser.print_help(), "list, close and send runs")
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    below = adder(parser.add_subparsers(title="commands", metavar="COMMAND"), json=True)

    listed = below("list", _list, "list the runs here", "With what MLflow believes of them, if it can be reached.")
    listed.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="of names, e.g. 'sweeps/*' or 'vae*'"
    )
    listed.add_argument("--state", choices=STATES, action="append", help="only those; may be given more than once")
    listed.add_argument("--local", action="store_true", help="do not ask MLflow")

    reap = below(
        "reap",
        _reap,
        "close runs that MLflow believes are running, and whose process is gone",
        "A run whose directory is here is sent what is missing and closed as it ended; one of this machine without a "
        "directory is closed as KILLED; those of other machines are left alone.",
    )
    reap.add_argument(
        "--older", type=float, metavar="MINUTES", help="close those of other machines, too, if silent for so long"
    )
    reap.add_argument("--dry-run", action="store_true", help="say what would be done; change nothing")

    below("sync", _sync, "send what MLflow has not been told yet", "After the tracking server was away.")
    command("sync", _sync, "short for `gen runs sync`").set_defaults(json=False)


def _list(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.tracking.runs import local, statuses
    from pipelines.tracking.server import TrackingError

    found = local(layout, arguments.pattern)
    found = [run for run in found if arguments.state is None or run.state in arguments.state]
    if not arguments.local:
        try:
            known = statuses(layout, [run.run_id for run in found if run.run_id])
            found = [replace(run, status=known.get(run.run_id, "")) for run in found]
        except TrackingError as error:
            print(f"warning: {error}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([asdict(run) for run in found], indent=2))
    else:
        print(_as_table(found))


def _as_table(runs: list[Run]) -> str:
    from pipelines.data.tables import table

    rows = [("run", "state", "images", "of", "last score", "started", "unsent", "MLflow")]
    for run in runs:
        score = "" if run.score is None else f"{run.score[0]} {run.score[1]:.5g}"
        budget = "" if run.budget is None else f"{run.budget:,}"
        began = "" if run.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))
        rows.append((run.name, run.state, f"{run.images:,}", budget, score, began, f"{run.unsent:,}", run.status))
    return table(rows)


def _reap(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.tracking.reaping import reap

    older = None if arguments.older is None else timedelta(minutes=arguments.older)
    found = []
    for each in reap(layout, older=older, dry_run=arguments.dry_run):
        found.append(each)
        if not arguments.json:
            said = (
                "left"
                if each.status is None
                else f"{'would close' if arguments.dry_run else 'closed'} as {each.status}"
            )
            print(f"{each.name}: {said}: {each.why}", flush=True)
    if arguments.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    elif not found:
        print("MLflow believes that no run is running")


def _sync(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.lifeline import BusyError
    from pipelines.tracking.record import FILE, standing
    from pipelines.tracking.runs import directories, in_use
    from pipelines.tracking.server import tracking_uri
    from pipelines.tracking.tracker import sync

    sent: dict[str, int | str] = {}
    for run_dir in directories(layout):
        name = str(run_dir.relative_to(layout.root / "runs"))
        if not (run_dir / FILE).exists() or standing(run_dir, tracking_uri(layout.root)).complete:
            continue
        try:
            sent[name] = in_use(run_dir) or sync(layout.root, run_dir)
        except BusyError:
            sent[name] = "another process is sending it"
        if not arguments.json:
            said = sent[name]
            print(f"{name}: {said if isinstance(said, str) else f'{said} events sent'}", flush=True)
    if arguments.json:
        print(json.dumps(sent, indent=2))
    elif not sent:
        print("MLflow has been told everything")
