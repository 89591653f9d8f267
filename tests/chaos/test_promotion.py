"""Two promoters at once, killed at will: aliases on approved versions, a valid chain, and a way back in no time."""

from __future__ import annotations

import multiprocessing
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from pipelines.promotion.history import verify
from pipelines.promotion.journal import log_path
from pipelines.promotion.moves import promote, rollback
from pipelines.promotion.standing import GUARDED
from pipelines.tracking.shelf import Shelf
from tests.chaos import promoter
from tests.promotion.registry import BAR, add_model, add_version, cheap_gate

pytestmark = pytest.mark.slow
ROUNDS, NAME = 50, "vae-digits"
MOVING_S = 0.03  # what it takes from the intent to the end
ROLLBACK_S = 2.0  # what the project promises


@dataclass
class Running:
    """A promoter, whether it has begun, and when it is to be killed."""

    process: BaseProcess
    ready: Connection  # no lock that it could take to its grave
    dies_at: float | None = None


def assert_approved(shelf: Shelf, scores: dict[str, float]) -> None:
    """Every guarded alias is on a version that can pass the gate; and there is a champion."""
    found = shelf.model(NAME)
    assert found is not None
    assert "champion" in found.aliases
    for alias in GUARDED:
        if (version := found.aliases.get(alias)) is not None:
            assert scores[version] >= BAR, f"{alias} is on version {version}, which no gate has passed"


def test_two_promoters_and_random_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    add_model(tmp_path, NAME)
    scores = {add_version(tmp_path, NAME, score=s): s for s in [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]}
    shelf = Shelf(tmp_path)
    for version in ("1", "2"):
        promote(shelf, NAME, gate=cheap_gate, source=version)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([promoter.__name__])

    def start(version: str) -> Running:
        ready, told = processes.Pipe(duplex=False)
        process = processes.Process(target=promoter.run, args=(tmp_path, NAME, version, rng.randrange(1 << 30), told))
        process.start()
        told.close()
        return Running(process, ready)

    alone = start("3")
    alone.ready.recv()
    began = time.monotonic()
    alone.process.join()
    undisturbed = time.monotonic() - began
    codes: Counter[int] = Counter()
    path = log_path(tmp_path, NAME)
    unfinished, times = 0, []
    for _ in range(ROUNDS):
        log, aimed = path.stat().st_size, False
        running = [start(version) for version in rng.sample([*scores], 2)]
        while any(each.process.is_alive() for each in running):
            assert_approved(shelf, scores)
            aim = (
                not aimed and path.stat().st_size > log
            )  # somebody has begun to move: many of the kills shall hit that
            aimed |= aim
            for each in running:
                if each.dies_at is None and each.ready.poll():
                    each.dies_at = time.monotonic() + rng.uniform(0, 2 * undisturbed)
                if aim and rng.random() < 0.5:
                    each.dies_at = time.monotonic() + rng.uniform(0, MOVING_S)
                if each.dies_at is not None and time.monotonic() > each.dies_at:
                    each.process.kill()
            time.sleep(0.005)
        for each in running:
            each.process.join()
            codes[each.process.exitcode or 0] += 1
        assert_approved(shelf, scores)
        report = verify(shelf, NAME)
        assert not report.findings
        unfinished += bool(report.notes)
        before = time.monotonic()
        aliases = rollback(shelf, NAME, why="to see that it goes")
        times.append(time.monotonic() - before)
        assert aliases["champion"] != aliases["previous"]
        assert_approved(shelf, scores)
        report = verify(shelf, NAME)
        assert not report.findings
        assert not report.notes
    began = time.monotonic()
    command = [sys.executable, "-m", "pipelines.cli", "--root", str(tmp_path), "rollback", NAME]
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - began
    with capsys.disabled():
        print(
            f"\n{ROUNDS} rounds: {codes[0]} promotions went through, {codes[promoter.REFUSED]} were refused, "
            f"{codes[-signal.SIGKILL]} killed, {unfinished} times something was left to finish; "
            f"{len(path.read_text().splitlines())} entries in the log\n"
            f"rollback: median {1000 * statistics.median(times):.0f} ms, at most {1000 * max(times):.0f} ms; "
            f"as a command, with the start of Python and MLflow, {whole:.1f} s"
        )
    assert set(codes) <= {0, promoter.REFUSED, -signal.SIGKILL}, "nobody had to wait for long, and nothing broke"
    assert codes[-signal.SIGKILL] >= ROUNDS / 4, "kills must hit"
    assert unfinished > 0, "and some of them in the middle"
    assert max(times) < ROLLBACK_S
