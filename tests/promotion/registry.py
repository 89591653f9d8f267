"""A registry with versions of hardly anything: enough for whoever moves aliases and never looks inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gen.files import digest
from pipelines.promotion.verdicts import Verdict
from pipelines.tracking.server import client
from pipelines.tracking.shelf import Shelf, Version

BAR = 0.5


def add_model(root: Path, name: str) -> None:
    client(root).create_registered_model(name)


def add_version(root: Path, name: str, *, score: float = 1.0, **tags: str) -> str:
    """A version with the tags that a registered one has; its number."""
    weights = digest([name, score, sorted(tags.items())])
    held = {"gen.weights": weights, "gen.seal": digest(weights), "eval/score": repr(score), **tags}
    return str(client(root).create_model_version(name, source=root.as_uri(), tags=held).version)


def cheap_gate(version: Version, champion: Version | None) -> Sequence[Verdict]:
    """One bar on a recorded score."""
    score = float(version.tags["eval/score"])
    against = "no champion" if champion is None else f"champion {champion.version}"
    return [Verdict("bar score", f"at least {BAR}", f"{score}", score >= BAR, against)]


class Killed(BaseException):
    """As if the process had been killed here: nothing catches it."""


class MortalShelf(Shelf):
    """Dies at the n-th change of the registry: just before it, or just after."""

    def __init__(self, root: Path, *, dies_at: int, after: bool) -> None:
        super().__init__(root)
        self.changes, self.dies_at, self.after = 0, dies_at, after

    def _change(self, change: Any, *words: Any) -> Any:
        self.changes += 1
        if self.changes == self.dies_at and not self.after:
            raise Killed
        result = change(*words)
        if self.changes == self.dies_at:
            raise Killed
        return result

    def set_alias(self, *words: Any) -> None:
        self._change(super().set_alias, *words)

    def delete_alias(self, *words: Any) -> None:
        self._change(super().delete_alias, *words)

    def set_tag(self, *words: Any) -> None:
        self._change(super().set_tag, *words)
