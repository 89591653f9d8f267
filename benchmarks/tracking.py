"""What does tracking cost a training step? Windows with and without it, in turns, within one run.

    python -m benchmarks.tracking [--recipe dcgan-digits] [--windows N] [--only embedded|server] [--json FILE]

A recipe of params.yaml is trained in this process on one thread, with its reports and pictures, and is tracked by a
thread of the same process, which is where that costs most: with Ray it is another process. In every second window of
two reports the tracker is held: it neither reads nor sends, and what was recorded meanwhile is skipped. Two stores:
the embedded database, and a server of MLflow's on this machine, over HTTP.

*wall* and *cpu* are what tracking adds to a step, as a share of the step without it: the median over all pairs of
neighbouring windows. CPU time is of this process, all threads. *thread* is the CPU time of the tracker's own thread,
as a share of the same: it does not see what the thread does to the caches, but no neighbour disturbs it. *once* is what
starting (MLflow is imported) and ending the run costs, in CPU seconds; it is not part of a step.

The claim is that tracking adds at most 1 % to a step, in CPU time and in the thread's. On a machine that others use as
well, the standard error of the median (by bootstrap) says how much of the first is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from gen.recipe import Recipe
from gen.shards.write import write_shards
from gen.sources.digits import digits
from gen.train.context import ProcessContext
from gen.train.loop import fit
from pipelines.params import load
from pipelines.tracking.courier import Courier
from pipelines.tracking.mirror import Mirror
from pipelines.tracking.provenance import Description
from pipelines.tracking.record import LOG, Status
from pipelines.tracking.server import server_command

CLAIM = 0.01  # of the time of a step
WINDOWS, REPORTS = 24, 2  # windows of a run, and reports of a window
STARTING_S = 120.0
BOOTSTRAPS = 2000
STORES = ("embedded", "server")


class Held(Mirror):
    """A mirror that can be held, and then skips what it missed. Counts CPU seconds of the thread it is used in."""

    def __init__(self, root: Path, run_dir: Path, description: Description) -> None:
        super().__init__(root, run_dir, description)
        self.held = threading.Event()
        self.seconds = 0.0
        self.sends = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Add the CPU time of the block."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.thread_time() - began
            self.sends += 1

    def send(self, status: Status | None = None) -> int:
        """See base."""
        if status is None and self.held.is_set():
            self.record.server(self.uri)["offset"] = (self.run_dir / LOG).stat().st_size
            return 0
        with self.counting():
            return super().send(status)

    def send_system(self) -> None:
        """See base."""
        with nullcontext() if self.held.is_set() else self.counting():
            if not self.held.is_set():
                super().send_system()


class TakingTurns(ProcessContext):
    """Holds the tracker in every second window, and notes what each window took: wall, CPU, the tracker's thread."""

    def __init__(self, mirror: Held, window: int) -> None:
        super().__init__(device=torch.device("cpu"))
        self.mirror, self.window, self.steps = mirror, window, 0
        self.tracked: list[tuple[float, float, float]] = []
        self.alone: list[tuple[float, float, float]] = []
        self.once = 0.0

    def now(self) -> tuple[float, float, float]:
        """The clocks: wall, CPU, the tracker's thread."""
        return time.perf_counter(), time.process_time(), self.mirror.seconds

    def stopping(self) -> bool:
        """See base. The loop asks once a step, after everything else that is due."""
        self.steps += 1
        if self.steps % self.window == 0:
            count = self.steps // self.window
            if count == 1:  # the first window warms up, and the run is found or created meanwhile
                deadline = time.monotonic() + STARTING_S
                while self.mirror.sends == 0 and time.monotonic() < deadline:
                    time.sleep(0.1)
                self.once = self.mirror.seconds
            else:
                spent = [(end - begin) / self.window for begin, end in zip(self.since, self.now(), strict=True)]
                (self.alone if self.mirror.held.is_set() else self.tracked).append(tuple(spent))
            (self.mirror.held.clear if count % 2 else self.mirror.held.set)()
            self.since = self.now()
        return False


def measure(recipe: Recipe, shards: Path, store: str, windows: int) -> dict[str, object]:
    """One run, tracked in turns."""
    training = recipe.training
    images = (windows + 1) * REPORTS * training.report
    training = replace(training, images=images, validate=images, checkpoint=images)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        directory = root / "runs" / recipe.name
        with server(root) if store == "server" else nullcontext():
            courier = Courier(root)
            facts = Description(experiment=recipe.dataset, run_name=recipe.name, params=recipe.as_dict())
            mirror = Held(root, directory, facts)
            courier.follow(mirror, system=True)
            context = TakingTurns(mirror, REPORTS * training.report // training.batch)
            fit(replace(recipe, training=training), data=shards, directory=directory, context=context)
            before = mirror.seconds
            mirror.held.clear()
            courier.close(mirror, "FINISHED")
            if not courier.stop(60.0):
                raise RuntimeError(f"the tracker did not do its work: {courier.problem}")
    alone = [statistics.median(each) for each in zip(*context.alone, strict=True)]
    result: dict[str, object] = {"store": store, "recipe": recipe.name, "windows": windows}
    result["steps_per_window"] = context.window
    result["step_ms"] = {"wall": _ms(alone[0]), "cpu": _ms(alone[1])}
    for place, clock in enumerate(("wall", "cpu")):
        added, error = _added([each[place] for each in context.tracked], [each[place] for each in context.alone])
        result[clock] = {"added": round(added, 5), "standard_error": round(error, 5)}
    thread = statistics.mean(each[2] for each in context.tracked) / alone[1]
    result["thread"] = {"added": round(thread, 5)}
    result["once_cpu_s"] = {"start": round(context.once, 2), "end": round(mirror.seconds - before, 2)}
    error = result["cpu"]["standard_error"]
    result["claim"], result["holds"] = CLAIM, thread <= CLAIM and result["cpu"]["added"] <= CLAIM + 2 * error
    return result


def _added(tracked: list[float], alone: list[float]) -> tuple[float, float]:
    """Median over pairs of neighbouring windows of what tracking adds, and its standard error."""
    order = [(time, kind) for pair in zip(tracked, alone, strict=False) for time, kind in zip(pair, "ta", strict=True)]
    ratios = [(a / b if kind == "t" else b / a) - 1 for (a, kind), (b, _) in pairwise(order)]
    draw = random.Random(0)
    medians = [statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAPS)]
    return statistics.median(ratios), statistics.stdev(medians)


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


@contextmanager
def server(root: Path) -> Iterator[None]:
    """A server of MLflow's on this machine, which MLFLOW_TRACKING_URI names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, more = server_command(root, port=port)
    environment = {**os.environ, **more}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + STARTING_S
        while not _answers(f"{uri}/health"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("MLflow's server did not start")
            time.sleep(0.2)
        os.environ["MLFLOW_TRACKING_URI"] = uri
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


# ---- the command -----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="dcgan-digits", help="of params.yaml (default: dcgan-digits)")
    parser.add_argument("--windows", type=int, default=WINDOWS, help=f"of two reports each (default: {WINDOWS})")
    parser.add_argument("--only", choices=STORES, help="one of the two stores")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    arguments = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    torch.set_num_threads(1)
    recipe = load().recipe(arguments.recipe)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        write_shards(digits(), shards)
        for store in [arguments.only] if arguments.only else STORES:
            results.append(measure(recipe, shards, store, arguments.windows))
            _show(results[-1])
    if arguments.json:
        command = " ".join(["python -m benchmarks.tracking", *sys.argv[1:]])
        found = {"command": command, "torch": torch.__version__, "threads": 1, "cores": os.cpu_count()}
        arguments.json.write_text(json.dumps({**found, "results": results}, indent=1) + "\n")


def _show(result: dict[str, object]) -> None:
    step, once = result["step_ms"], result["once_cpu_s"]
    shares = [
        f"{clock} {100 * result[clock]['added']:+.2f} %"
        + (f" ± {100 * result[clock]['standard_error']:.2f}" if "standard_error" in result[clock] else "")
        for clock in ("wall", "cpu", "thread")
    ]
    print(
        f"{result['store']:9}{result['recipe']:14}step {step['wall']:.2f} ms ({step['cpu']:.2f} ms CPU); tracking adds "
        f"{', '.join(shares)}; once {once['start']:.1f} + {once['end']:.1f} s CPU; "
        f"claim {100 * CLAIM:g} %: {'holds' if result['holds'] else 'DOES NOT HOLD'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
