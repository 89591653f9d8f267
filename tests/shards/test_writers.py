"""Whoever writes the shards, and however many do: the bytes are the same, and nobody outlives a killed command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from gen.data.manifest import read_manifest
from gen.data.sample import Collection, Listed, Sample, Source, Split
from gen.errors import DataError, RecipeError
from gen.shards.adopt import adopt_tars
from gen.shards.verify import verify
from gen.shards.write import Format, write_shards
from pipelines.writers import FEW, writers
from tests.data.tiny import SOURCE, tree
from tests.shards.rich import filed, photos, rich

FORMS = {
    "npy": (partial(rich, {"train": 33, "test": 8}), Format(samples=3)),
    "png": (partial(rich, {"train": 33, "test": 8}, (2, 6, 5, 3)), Format(samples=4, encode="png")),
    "bytes": (partial(rich, {"train": 33, "test": 8}), Format(bytes=20_000, shuffle=True)),
    "keep": (lambda: filed(photos(30), [k % 3 for k in range(30)]), Format(samples=4, encode="keep")),
}


@contextmanager
def ray() -> Iterator[Callable[..., Any]]:
    from pipelines.cluster import tasks

    with tasks("local") as run:
        yield run


HANDS = {"1": partial(writers, 1), "2": partial(writers, 2), "3": partial(writers, 3), "as many as cores": writers}


@pytest.mark.parametrize("hands", HANDS)
def test_any_number_of_writers_writes_the_same_bytes(tmp_path: Path, hands: str) -> None:
    with HANDS[hands]() as run:
        assert_same(tmp_path, run)


@pytest.mark.slow
def test_the_tasks_of_a_cluster_write_the_same_bytes(tmp_path: Path) -> None:
    with ray() as run:
        assert_same(tmp_path, run)
        with pytest.raises(DataError, match="cannot be read, and `damaged` is fail"):
            write_shards(filed([*photos(9), None]), tmp_path / "z", form=Format(samples=2), run=run)
    assert not (tmp_path / "z").exists()


def assert_same(folder: Path, run: Callable[..., Any]) -> None:
    told: list[int] = []
    for name, (make, form) in FORMS.items():
        write = partial(write_shards, make(), form=form, splits={"extra": 5})
        expected = write(folder / f"{name}-map")
        assert write(folder / name, run=run, progress=lambda done, total: told.append(total - done)) == expected
        assert tree(folder / name) == tree(folder / f"{name}-map")
        assert told == sorted(told, reverse=True) and told[-1] == 0, "shards came out of order"
        told.clear()


def test_what_cannot_be_read_is_left_out_by_any_number_of_writers(tmp_path: Path) -> None:
    files = photos(40)
    raw = filed([None if k in (0, 13, 39) else files[k] for k in range(40)])
    for processes in (1, 3):
        with writers(processes) as run:
            write_shards(raw, tmp_path / f"{processes}", form=Format(samples=3), damaged="quarantine(0.1)", run=run)
    assert tree(tmp_path / "1") == tree(tmp_path / "3")
    assert len(read_manifest(tmp_path / "1").splits["train"].quarantined) == 3


def test_tars_are_adopted_the_same_by_any_number_of_writers(tmp_path: Path) -> None:
    write_shards(rich({"train": 30}, (4, 4, 3)), tmp_path / "x", form=Format(samples=4, encode="png"))
    places = {"train": [str(path) for path in sorted((tmp_path / "x" / "train").glob("*.tar"))]}
    for processes in (1, 3):
        with writers(processes) as run:
            adopt_tars(Source("x", ""), places, tmp_path / f"{processes}", run=run)
    assert tree(tmp_path / "1") == tree(tmp_path / "3")


def test_an_error_of_a_writer_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    odd = photos(40)
    odd[33] = photos(1, (5, 5, 3))[0]
    with writers(2) as run, pytest.raises(DataError, match=r"photo 33: its pictures are .*prepare:"):
        write_shards(filed(odd), tmp_path / "x", form=Format(samples=3), run=run)
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_killed_is_told(tmp_path: Path) -> None:
    raw = Collection(SOURCE, {"train": Split(Listed(list(range(12)), _killed_at_seven))})
    options = {"form": Format(samples=2), "resume": "name"}
    with writers(2) as run, pytest.raises(DataError, match="ended from outside; most often, memory ran out"):
        write_shards(raw, tmp_path / "x", **options, run=run)
    assert not (tmp_path / "x").exists()
    assert list((tmp_path / ".x.name.part").rglob("*.idx.npz")), "finished shards are kept"


def _killed_at_seven(k: int) -> Sample:
    if k == 7 and parent_process() is not None:  # as the kernel does to whoever takes too much memory
        os.kill(os.getpid(), signal.SIGKILL)
    return slow(0.01, k)


def slow(seconds: float, k: int) -> Sample:
    time.sleep(seconds)
    return Sample(image=np.full((4, 4, 1), k, np.uint8), origin=str(k))


def slowly(seconds: float) -> Collection:
    """A data set that takes its time."""
    return Collection(SOURCE, {"train": Split(Listed(list(range(120)), partial(slow, seconds)))})


KILLS = [[signal.SIGKILL], [signal.SIGTERM], pytest.param([signal.SIGKILL] * 2, marks=pytest.mark.slow)]


@pytest.mark.parametrize("signals", KILLS)
def test_a_killed_command_leaves_no_writer_behind_and_is_resumed(tmp_path: Path, signals: list[signal.Signals]) -> None:
    code = f"""
        from pathlib import Path
        from gen.shards.write import Format, write_shards
        from pipelines.writers import writers
        from tests.shards.test_writers import slowly
        with writers(2) as run:
            write_shards(slowly(0.02), Path({str(tmp_path / "x")!r}), form=Format(samples=4), resume="name", run=run)
    """

    def finished() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in (tmp_path / ".x.name.part").rglob("shard-*.idx.npz")}

    for k, number in enumerate(signals, 1):
        command = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.DEVNULL)
        wait_for(partial(lambda least: len(finished()) >= least, 5 * k))
        family = psutil.Process(command.pid).children(recursive=True)
        assert len(family) >= 3, "two writers and what forks them"
        command.send_signal(number)
        command.wait(30)
        _, alive = psutil.wait_procs(family, timeout=30)
        for process in alive:
            process.kill()
        assert not alive
        assert 5 * k <= len(finished()) < 30
    inodes = finished()
    write_shards(slowly(0), tmp_path / "x", form=Format(samples=4), resume="name")
    assert {name: (tmp_path / "x" / "train" / name).stat().st_ino for name in inodes} == inodes
    write_shards(slowly(0), tmp_path / "whole", form=Format(samples=4))
    assert tree(tmp_path / "x") == tree(tmp_path / "whole")
    assert verify(tmp_path / "x") == []


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not get there"
        time.sleep(0.02)


def test_few_tasks_are_done_here() -> None:
    """Other processes would not have started by then."""
    with writers() as run:
        assert set(run(_process, range(FEW))) == {os.getpid()}
    with writers(2) as run:
        assert os.getpid() not in set(run(_process, range(2)))


def _process(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("count", [0, -1])
def test_no_writers(count: int) -> None:
    with pytest.raises(RecipeError, match=rf"--writers: found {count}; it must be at least 1"), writers(count):
        pass
