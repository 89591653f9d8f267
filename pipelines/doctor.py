"""``gen doctor``: what this machine has, and a remedy for what it lacks."""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch

from gen.errors import GenError
from pipelines.layout import Layout

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "dvc", "webdataset", "torchmetrics", "safetensors")
LITTLE_DISK_GB = 5.0
PORT_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the subject.
        ok: whether the pipeline works with it.
        found: what was found.
        remedy: what to do; empty if all is well.
    """

    what: str
    ok: bool
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def examine(layout: Layout) -> list[Finding]:
    """All findings, in the order of a pipeline: machine, packages, project, services."""
    looks: list[Callable[[Layout], Finding]] = [_python, _cpu, _gpu, _disk, _packages, _torchvision, _params, _git]
    looks += [_dvc, _mlflow, _ray]
    return [_safely(look, layout) for look in looks]


def show(findings: list[Finding]) -> str:
    """A table for a terminal."""
    lines = []
    for finding in findings:
        lines.append(f"{'ok ' if finding.ok else 'BAD'}  {finding.what:12} {finding.found}")
        if finding.remedy:
            lines.append(f"{'':18}-> {finding.remedy}")
    return "\n".join(lines)


def _safely(look: Callable[[Layout], Finding], layout: Layout) -> Finding:
    try:
        return look(layout)
    except Exception as problem:  # a doctor that dies of what it should report is of no use
        return Finding(look.__name__.strip("_"), False, f"{type(problem).__name__}: {problem}", "See the message.")


def _python(_: Layout) -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, platform.python_version(), "" if ok else "Use Python 3.11 or newer.")


def _cpu(_: Layout) -> Finding:
    bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    found = f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}, bf16 {'yes' if bf16 else 'no'}"
    spinning = "OMP_NUM_THREADS" not in os.environ
    remedy = "Set OMP_NUM_THREADS when several processes share the cores: idle threads spin." if spinning else ""
    return Finding("cpu", True, found, remedy)


def _gpu(_: Layout) -> Finding:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("gpu", True, ", ".join(names) or "none: training runs on the CPU")


def _disk(layout: Layout) -> Finding:
    free = shutil.disk_usage(layout.root).free / 1e9
    ok = free > LITTLE_DISK_GB
    return Finding("disk", ok, f"{free:.0f} GB free", "" if ok else "Free some space, or `dvc gc -w`.")


def _packages(_: Layout) -> Finding:
    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    remedy = (
        f"Missing: {', '.join(missing)}. Run `make tour`, or pip install -c infra/constraints.txt -e ."
        if missing
        else ""
    )
    return Finding("packages", not missing, ", ".join(found), remedy)


def _torchvision(_: Layout) -> Finding:
    from gen.vision import patched, torchvision

    found = f"{torchvision.__version__}, " + ("its compiled operators do not load" if patched else "complete")
    remedy = (
        "Nothing to do: it was built for another torch, and what is used here works without them." if patched else ""
    )
    return Finding("torchvision", True, found, remedy)


def _params(layout: Layout) -> Finding:
    from pipelines.params import load

    try:
        params = load(layout.root / "params.yaml")
    except GenError as problem:
        return Finding("params.yaml", False, str(problem), "Correct the file.")
    return Finding("params.yaml", True, f"{len(params.recipes)} recipes on {len(params.datasets)} data set(s)")


def _git(layout: Layout) -> Finding:
    done = subprocess.run(
        ["git", "-C", str(layout.root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    ok = done.returncode == 0
    return Finding("git", ok, done.stdout.strip() or "no commit", "" if ok else "Clone the repository with git.")


def _dvc(layout: Layout) -> Finding:
    ok = (layout.root / ".dvc").is_dir() and shutil.which("dvc") is not None
    found = "initialised" if ok else "not ready"
    return Finding("dvc", ok, found, "" if ok else "Activate the environment (. .venv/bin/activate), then `dvc init`.")


def _mlflow(layout: Layout) -> Finding:
    from pipelines.tracking.server import artifacts_of, shown, tracking_uri

    uri = tracking_uri(layout.root)
    if urlsplit(uri).scheme in ("http", "https"):
        return _tracking_server(uri)
    found = f"{shown(uri)}, artifacts in {artifacts_of(uri, layout.root)}"
    if urlsplit(uri).scheme.startswith("postgresql") and importlib.util.find_spec("psycopg") is None:
        return Finding(
            "mlflow", False, f"{found}: its driver is missing", "pip install -c infra/constraints.txt psycopg[binary]"
        )
    return Finding("mlflow", True, f"embedded: {found}")


def _tracking_server(uri: str) -> Finding:
    """Whether a server answers what training asks: it is there, knows us, and takes artifacts from other machines."""
    away = "Start the server or correct MLFLOW_TRACKING_URI. Training goes on without it; `gen sync` sends later."
    remedies = {
        401: "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: the server asks who you are.",
        403: "Add the name in MLFLOW_TRACKING_URI to the server's --allowed-hosts, or ask for more rights on it.",
    }
    parts = urlsplit(uri)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        asked = json.loads(_answer(place, "/api/2.0/mlflow/experiments/search?max_results=100"))
        version = _answer(place, "/version")
    except HTTPError as problem:
        remedy = remedies.get(problem.code, "Is this an MLflow server? Correct MLFLOW_TRACKING_URI.")
        return Finding("mlflow", False, f"{place}: {problem}", remedy)
    except (OSError, ValueError) as problem:
        return Finding("mlflow", False, f"{place}: {getattr(problem, 'reason', problem)}", away)
    found = f"server {place}, MLflow {version}"
    mine = importlib.metadata.version("mlflow")
    if version.partition(".")[0] != mine.partition(".")[0]:
        return Finding("mlflow", False, f"{found}; here {mine}", "Use the same major version on both sides.")
    paths = [e["name"] for e in asked.get("experiments", []) if urlsplit(e["artifact_location"]).scheme in ("", "file")]
    if paths and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        remedy = "Start the server with --artifacts-destination. Experiments keep their place: give them other names."
        return Finding("mlflow", False, f"{found}; artifacts of {', '.join(paths)} are at paths of its machine", remedy)
    return Finding("mlflow", True, found)


def _answer(place: str, path: str) -> str:
    """The answer to GET, asked as MLflow's client would."""
    request = Request(f"{place.rstrip('/')}{path}")
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    with urlopen(request, timeout=PORT_TIMEOUT_S) as answer:
        return str(answer.read().decode())


def _ray(layout: Layout) -> Finding:
    from pipelines.params import Resources, load

    address = load(layout.root / "params.yaml").resources.get("default", Resources()).address
    version = importlib.metadata.version("ray")
    if address == "local":
        return Finding("ray", True, f"{version}, a local cluster is started when needed")
    if address == "auto":
        return Finding("ray", True, f"{version}, the cluster that this machine belongs to when it is needed")
    host, _, port = address.removeprefix("ray://").partition(":")
    try:
        socket.create_connection((host, int(port or 6379)), PORT_TIMEOUT_S).close()
    except OSError as problem:
        return Finding(
            "ray", False, f"{address}: {problem}", "Start the cluster, or set resources.default.address: local."
        )
    return Finding("ray", True, f"{version}, cluster at {address}")
