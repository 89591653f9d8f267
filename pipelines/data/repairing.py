"""``gen data repair``: mend the shards of a data set of params.yaml."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gen.shards import repair as mending
from gen.shards.adopt import AdoptionPlan
from gen.shards.rewrite import Plan
from gen.shards.write import Plan as ShardPlan
from gen.sources.pull import reopen
from gen.sources.tars import TarSet
from pipelines.data.tables import printable
from pipelines.datasets import Dataset
from pipelines.layout import Layout
from pipelines.lifeline import sole_writer
from pipelines.params import load
from pipelines.progress import Bar
from pipelines.writers import writers


def repair(
    name: str, layout: Layout, *, processes: int | None = None, dry_run: bool = False
) -> tuple[dict[str, Any], str, bool]:
    """Mend a data set, or say what would be done: for machines, for people, and whether it is sound now."""
    dataset = load(layout.root / "params.yaml").dataset(name)

    @contextmanager
    def watch(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        with Bar(f"{what} {name}", unit=unit) as bar:
            yield bar.update

    root = layout.shards(name)
    with sole_writer(layout.run("shard", name)):  # the lock of who writes these shards
        if dry_run:
            found = mending.outlook(root, watch=watch)
        else:
            with writers(processes) as run:
                found = mending.repair(root, lambda: _plan(name, dataset, layout), run=run, watch=watch)
    sound = not found if dry_run else all(not each.problem for each in found)
    facts = {
        "name": name,
        "root": str(root),
        "dry_run": dry_run,
        "sound": sound,
        "damages": [
            {
                "kind": each.damage.kind,
                "file": str(each.damage.file),
                "message": each.damage.message,
                "lost": list(each.damage.lost),
                "action": each.action,
                "repaired": not dry_run and not each.problem,
                "problem": each.problem or None,
            }
            for each in found
        ],
    }
    return facts, "\n".join(_line(each, dry_run) for each in found) or f"{name}: sound", sound


def _line(each: mending.Mending, dry_run: bool) -> str:
    message = printable(each.damage.message)
    if dry_run:
        return f"{message}\n    would {each.action}"
    if each.problem:
        return f"NOT REPAIRED: {message}\n    {printable(each.problem)}"
    return f"repaired: {each.damage.file}\n    {each.damage.kind}: {each.action}"


def _plan(name: str, dataset: Dataset, layout: Layout) -> Plan:
    """What the shards were written from, if it is still what was pulled."""
    with Bar(f"check the source of {name}", unit="bytes") as bar:
        source = reopen(name, dataset.origin, layout.raw(name), base=layout.root, progress=bar.update)
    if isinstance(source, TarSet):
        return AdoptionPlan(source.source, source.places, source.classes, source.attributes, dataset.damaged)
    return ShardPlan(
        source, prepare=dataset.prepare, splits=dataset.splits, form=dataset.shards, damaged=dataset.damaged
    )
