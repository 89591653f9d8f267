"""``gen promote``, ``gen rollback`` and ``gen history``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from gen.errors import StoreError
from pipelines.command import AddCommand
from pipelines.layout import Layout

if TYPE_CHECKING:
    from pipelines.promotion.moves import Outcome


def add_promotion_commands(command: AddCommand) -> None:
    """Add the commands to ``gen``."""
    promote = command(
        "promote",
        _promote,
        "move an alias to a registered version that passes its gate",
        "The gate is `gates:` and `promotion:` of params.yaml. Exits with 4 if it fails: then nothing moves.",
    )
    promote.add_argument("model", metavar="MODEL[@VERSION]", help="version: a number or an alias (default: @candidate)")
    promote.add_argument("--to", choices=("champion", "challenger"), default="champion", help="default: champion")
    promote.add_argument("--dry-run", action="store_true", help="ask the gate, move nothing")
    promote.add_argument("--force", action="store_true", help="move it although the gate fails; needs --why")
    promote.add_argument("--why", metavar="TEXT", help="the reason, for the log")
    promote.add_argument(
        "--break-lock", action="store_true", help="take over from another machine that is gone for good; is logged"
    )
    promote.add_argument("--json", action="store_true", help="print JSON")

    rollback = command(
        "rollback", _rollback, "make the previous champion champion again", "Asks no gate: it has passed one."
    )
    rollback.add_argument("model", metavar="MODEL")
    rollback.add_argument("--why", metavar="TEXT", help="the reason, for the log")

    history = command(
        "history",
        _history,
        "who moved a model's aliases, when and why",
        "Finishes what a killed command left, unless it is asked to verify.",
    )
    history.add_argument("model", metavar="MODEL")
    history.add_argument(
        "--verify", action="store_true", help="check the log, its copy and the aliases, change nothing; exits with 5"
    )
    history.add_argument("--json", action="store_true", help="print JSON")


def _promote(arguments: argparse.Namespace, layout: Layout) -> int:
    from pipelines.evaluate import GATE_FAILED
    from pipelines.params import load
    from pipelines.promotion.gate import examine
    from pipelines.promotion.moves import promote, rehearse
    from pipelines.promotion.verdicts import table
    from pipelines.tracking.shelf import Shelf

    name, _, source = arguments.model.partition("@")
    source = source or "candidate"
    params = load(layout.root / "params.yaml")
    params.recipe(name)
    shelf, gate = Shelf(layout.root), partial(examine, layout, params)
    if arguments.dry_run:
        outcome = rehearse(shelf, name, gate=gate, source=source, to=arguments.to)
    else:
        outcome = promote(
            shelf,
            name,
            gate=gate,
            source=source,
            to=arguments.to,
            force=arguments.force,
            why=arguments.why,
            break_lease=arguments.break_lock,
        )
    if arguments.json:
        facts = {"model": name, "to": arguments.to, **asdict(outcome), "refused": outcome.refused}
        print(json.dumps(facts, indent=2))
    else:
        if outcome.verdicts:
            print(f"{table(outcome.verdicts)}\n")
        print(_said(name, arguments.to, outcome, rehearsed=arguments.dry_run))
    return GATE_FAILED if outcome.refused else 0


def _said(name: str, to: str, outcome: Outcome, *, rehearsed: bool) -> str:
    """What became of a promotion, and what can be done next."""
    version, failed = f"version {outcome.version}", [v for v in outcome.verdicts if not v.passed]
    count = f"{len(failed)} of {len(outcome.verdicts)} checks failed"
    if outcome.refused:
        stuck = next((f" Not even --force helps against '{v.check}'." for v in failed if v.binding), "")
        return f"{name}: {version} is refused: {count}. Nothing was moved.{stuck}"
    if not outcome.verdicts:
        return f"{name}: {version} is {to} already."
    if rehearsed:
        return f"{name}: {version} would become {to}; nothing was moved."
    if not outcome.moved:
        return f"{name}: {version} is {to} already: somebody else was first."
    forced = f", by force: {count}" if outcome.forced else ""
    previous = outcome.aliases.get("previous")
    back = f" `gen rollback {name}` goes back to version {previous}." if to == "champion" and previous else ""
    return f"{name}: {version} is {to} now{forced}.{back}"


def _rollback(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.promotion.moves import rollback
    from pipelines.tracking.shelf import Shelf

    aliases = rollback(Shelf(layout.root), arguments.model, why=arguments.why)
    champion, previous = aliases["champion"], aliases["previous"]
    print(f"{arguments.model}: version {champion} is champion again, version {previous} is previous.")


def _history(arguments: argparse.Namespace, layout: Layout) -> int:
    from pipelines.promotion.desk import desk
    from pipelines.promotion.history import told, verify
    from pipelines.tracking.shelf import Shelf

    shelf, name = Shelf(layout.root), arguments.model
    if not arguments.verify:
        with desk(shelf, name) as at:
            print(
                json.dumps([asdict(e) for e in at.entries], indent=2) if arguments.json else told(at.model, at.entries)
            )
        return 0
    report = verify(shelf, name)
    if arguments.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        print(report.told())
    return StoreError.exit_code if report.findings else 0
