"""Writing shards a second time, from what they were written from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from gen.data.manifest import Manifest
from gen.shards.shard import Run, Written

Watch = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]
"""Given what is done and its unit, something to be told how much is done, and of how much."""


class Plan(Protocol):
    """What shards are written by: :class:`gen.shards.write.Plan`, or :class:`gen.shards.adopt.AdoptionPlan`."""

    def tasks(self, root: Path) -> Sequence[Any]:
        """One for each shard, with its ``folder``, ``tar`` and ``index``, to be written below ``root``."""
        ...

    @property
    def write(self) -> Callable[[Any], Written]:
        """Does one of the tasks."""
        ...

    def manifest(self, results: Mapping[str, Sequence[Written]]) -> Manifest:
        """The manifest, from what came of all the tasks, by split."""
        ...


class Source:
    """Writes shards again, as they were written before.

    Args:
        opened: opens what the shards were written from, or raises :class:`DataError`; called once, when it is needed.
        run: does the writing.
        watch: shows progress.
    """

    def __init__(self, opened: Callable[[], Plan], run: Run, watch: Watch) -> None:
        self._opened, self._run, self._watch = opened, run, watch
        self._plan: Plan | None = None
        self._results: dict[str, list[Written]] = {}

    def write(self, folder: Path, names: Collection[str] | None = None) -> Iterator[tuple[str, Path]]:
        """Write to ``folder`` and give every file that was written, by its name relative to the root.

        Args:
            folder: empty.
            names: the files that are wanted; by default all.

        Raises:
            DataError: the source is gone, or cannot be read.
        """
        if names is not None and not names:
            return
        self._plan = self._plan or self._opened()
        self._results = {}
        tasks = [
            task for task in self._plan.tasks(folder) if names is None or any(name in names for name, _ in _files(task))
        ]
        with self._watch("write", "shards") as update:
            for done, (task, written) in enumerate(zip(tasks, self._run(self._plan.write, tasks), strict=True), 1):
                self._results.setdefault(task.folder.name, []).append(written)
                for name, file in _files(task):
                    if file.is_file() and (names is None or name in names):
                        yield name, file
                update(done, len(tasks))

    def manifest(self) -> Manifest:
        """The manifest, after all shards were written."""
        assert self._plan is not None
        return self._plan.manifest(self._results)


def _files(task: Any) -> list[tuple[str, Path]]:
    """The files of a task, by their names relative to the root."""
    return [(f"{task.folder.name}/{file.name}", file) for file in (task.tar, task.index)]
