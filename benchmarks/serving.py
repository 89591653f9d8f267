"""`gen serve` against `mlflow models serve`: the same registered model, the same requests, in the same run.

    python -m benchmarks.serving [--model vae] [--requests 200] [--clients 8] [--rounds 3] [--json]

A model of default size with random weights is registered in a scratch project and served by both, each in a process of
its own on one thread of torch. Requests of all kinds the model can answer (1, 4 and 16 samples; images scored, encoded,
reconstructed, completed; as PNG and as lists) come from clients that each wait for their answer and ask again over the
same connection. The servers take turns, round by round. Printed are the time to answer, p50 and p95 over all rounds,
answers per second, and the CPU time of all processes of a server per answer, which compares best on a machine that
others use as well. The run fails if an answer is not 200, or if the two servers differ in a single number.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch

from gen.data.plain import write_png
from gen.data.spaces import DataSpec, Space
from gen.registry import build, entry
from gen.serve import tasks_of
from gen.store import save_model
from gen.train.events import EventLog

SHAPE = (1, 28, 28)
READY_S = 120.0
NAME = "bench"


@dataclass
class Measured:
    """What one server did."""

    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    errors: int = 0

    def summary(self) -> dict[str, float]:
        """Milliseconds to answer, answers per second, CPU milliseconds of one, and how many were none."""
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
        return {
            "p50_ms": 1000 * cuts[49],
            "p95_ms": 1000 * cuts[94],
            "per_second": len(self.seconds) / self.wall,
            "cpu_ms": 1000 * self.cpu / len(self.seconds),
            "errors": self.errors,
        }


def requests(tasks: tuple[str, ...], count: int) -> list[bytes]:
    """Bodies of mixed kinds, in an order that is always the same."""
    random = np.random.default_rng(0)
    kinds = [("sample", n) for n in (1, 4, 16) if "sample" in tasks] + [(t, 1) for t in tasks if t != "sample"]
    bodies = []
    for number in range(count):
        task, images = kinds[number % len(kinds)]
        row: dict[str, object] = {"task": task}
        if task == "sample":
            row["count"] = images
        else:
            pixels = random.integers(0, 256, (*SHAPE[1:], 1), np.uint8)
            row["image"] = base64.b64encode(write_png(pixels)).decode() if number % 2 else pixels[..., 0].tolist()
            if task == "complete":
                row["mask"] = (pixels[..., 0] > 127).tolist()
        bodies.append(json.dumps({"dataframe_records": [row], "params": {"seed": number % 7}}).encode())
    return bodies


def register(root: Path, model: str, *, seed: int = 0) -> tuple[str, ...]:
    """A model of default size as champion in the registry of a scratch project; what it can be asked."""
    from pipelines.tracking.registry import register as register_version
    from pipelines.tracking.server import client

    torch.manual_seed(seed)
    kind = entry(model).cls.spaces[0]
    made = build(model, DataSpec(SHAPE, 0, Space.parse("levels(4)" if kind == "levels" else kind)))
    made.initialize(torch.rand(100, *SHAPE).round())
    run, weights = root / "runs" / f"{NAME}-{seed}", root / "models" / f"{NAME}-{seed}"
    weights.mkdir(parents=True)
    save_model(weights, made, name=model, hyper={})
    log = EventLog(run / "events.jsonl")
    log.append("start", 0)
    log.append("end", 0)
    log.close()
    said = register_version(root, run_dir=run, model_dir=weights, name=NAME, metrics={})
    client(root).set_registered_model_alias(NAME, "champion", said["version"])
    return tasks_of(made)


@contextmanager
def serving(command: list[str], port: int, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from ready to gone with all its processes."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow/mlflow.db"}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(Path.cwd())}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env={**os.environ, **settings, **quiet}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + READY_S
            while not ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{' '.join(command)}: did not start\n{log.read().decode(errors='replace')}")
                time.sleep(0.1)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a server and its children have used so far."""
    server = psutil.Process(process.pid)
    times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def play(port: int, bodies: list[bytes], clients: int, measured: Measured) -> list[object]:
    """Send all requests, each client its share one after the other; the answers in the order of the requests."""
    answers: list[object] = [None] * len(bodies)

    def client(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for number in range(first, len(bodies), clients):
            began = time.perf_counter()
            connection.request("POST", "/invocations", bodies[number], {"Content-Type": "application/json"})
            reply = connection.getresponse()
            content = reply.read()
            measured.seconds.append(time.perf_counter() - began)
            measured.errors += reply.status != 200
            answers[number] = json.loads(content) if reply.status == 200 else content.decode()
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    measured.wall += time.perf_counter() - began
    return answers


def mlflow_serve(port: int) -> list[str]:
    """The command of MLflow's server."""
    model = [f"models:/{NAME}@champion", "--env-manager", "local"]
    return [sys.executable, "-m", "mlflow", "models", "serve", "--port", str(port), "-m", *model]


def gen_serve(root: Path, port: int, *more: str) -> list[str]:
    """The command of ours."""
    target = [f"{NAME}@champion", "--port", str(port), *more]
    return [sys.executable, "-m", "pipelines.cli", "--root", str(root), "serve", *target]


def measure(model: str, count: int, clients: int, rounds: int) -> dict[str, dict[str, float]]:
    """Both servers, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bodies = requests(register(root, model), count)
        ports = {"mlflow models serve": free_port(), "gen serve": free_port()}
        theirs, ours = ports.values()
        found = {name: Measured() for name in ports}
        with (
            serving(mlflow_serve(theirs), theirs, root) as first_server,
            serving(gen_serve(root, ours), ours, root) as second_server,
        ):
            servers = dict(zip(ports, (first_server, second_server), strict=True))
            for port in ports.values():
                play(port, bodies[:clients], clients, Measured())  # warms up
            for _ in range(rounds):
                answers = {}
                for name, port in ports.items():
                    before = cpu_seconds(servers[name])
                    answers[name] = play(port, bodies, clients, found[name])
                    found[name].cpu += cpu_seconds(servers[name]) - before
                first, second = answers.values()
                if different := [n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]:
                    n = different[0]
                    raise SystemExit(f"request {n}: {bodies[n][:200]!r}\n{str(first[n])[:300]}\n{str(second[n])[:300]}")
        return {name: each.summary() for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["vae"], help="names as `gen models` lists them")
    parser.add_argument("--requests", type=int, default=200, help="requests a round")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        model: measure(model, arguments.requests, arguments.clients, arguments.rounds) for model in arguments.model
    }
    facts = {"requests": arguments.requests, "clients": arguments.clients, "rounds": arguments.rounds}
    if arguments.json:
        print(json.dumps({**facts, "results": results}, indent=1))
        return
    print(
        f"{arguments.requests} requests of mixed kinds, {arguments.clients} clients, {arguments.rounds} rounds; "
        "the servers' answers are equal"
    )
    for model, servers in results.items():
        for name, s in servers.items():
            print(
                f"{model:10} {name:20} p50 {s['p50_ms']:7.1f} ms   p95 {s['p95_ms']:7.1f} ms   "
                f"{s['per_second']:6.1f} a second   {s['cpu_ms']:6.2f} ms of CPU   {s['errors']:.0f} errors"
            )
        theirs, ours = servers.values()
        ratios = {key: theirs[key] / ours[key] for key in ("p50_ms", "p95_ms", "cpu_ms")}
        print(f"{model:10} mlflow / gen: {', '.join(f'{key} {ratio:.2f}' for key, ratio in ratios.items())}")
    if any(s["errors"] for servers in results.values() for s in servers.values()):
        raise SystemExit("there were errors")


if __name__ == "__main__":
    main()
