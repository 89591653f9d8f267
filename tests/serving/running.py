"""A server in this process: the real application on a real port, with models made here."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import uvicorn

from gen.data.plain import write_png
from gen.data.spaces import DataSpec
from gen.model import GenerativeModel
from gen.registry import build, entry
from gen.serve import Answerer
from pipelines.serving.app import Limits, make_app
from pipelines.serving.engine import Engine
from pipelines.serving.follow import Follower
from pipelines.serving.sources import Hosted
from tests.toys import TOY_HYPER, toy_spec

SHAPE = (1, 8, 4)
HYPER = {**TOY_HYPER, "sparse_coding": {"patch": 3, "atoms": 8}}


def model(name: str, *, seed: int = 0, shape: tuple[int, int, int] = SHAPE, spread: float = 0.5) -> GenerativeModel:
    """A small model whose weights are random, and not so small that everything is grey."""
    torch.manual_seed(seed)
    cls = entry(name).cls
    toy = toy_spec(name)
    spec = DataSpec(shape, 3 if cls.conditional else 0, toy.space, toy.frames)
    made = build(name, spec, **HYPER[name])
    for parameter in made.parameters():
        if name not in ("factor", "sparse_coding"):
            parameter.data += spread * torch.randn_like(parameter)
    return made.eval()


def images(count: int) -> list[np.ndarray]:
    """Noise, (H, W)."""
    return list(np.random.default_rng(0).integers(0, 256, (count, *SHAPE[1:]), np.uint8))


def png(pixels: Any) -> str:
    """Pixels (H, W) or (H, W, C) as base64 PNG."""
    array = np.asarray(pixels, np.uint8)
    return base64.b64encode(write_png(array if array.ndim == 3 else array[..., None])).decode()


def hosted(made: GenerativeModel, version: str = "1") -> Hosted:
    weights = {"model.safetensors": {"sha256": version * 64, "bytes": 1}}
    return Hosted(Answerer(made), {"model": "vae", "files": weights}, "toy", version, "toy@champion")


class Models:
    """A source whose newest version is whatever a test says."""

    asked = "toy@champion"

    def __init__(self, **versions: Hosted | Exception) -> None:
        self.versions = versions
        self.at = next(iter(versions))
        self.loads = 0

    def newest(self) -> str:
        return self.at

    def load(self, version: str) -> Hosted:
        self.loads += 1
        found = self.versions[version]
        if isinstance(found, Exception):
            raise found
        return found


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str | None = "application/json", **headers: str
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = headers | ({"Content-Type": kind} if kind is not None else {})
            connection.request(method, path, body, given)
            reply = connection.getresponse()
            text = reply.read()
            found = {key.lower(): value for key, value in reply.getheaders()}
            is_json = text.strip() and found.get("content-type") == "application/json"
            return Reply(reply.status, found, json.loads(text) if is_json else text)
        finally:
            connection.close()

    def post(self, content: Any) -> Reply:
        return self.ask("POST", "/invocations", json.dumps(content).encode())

    def predictions(self, rows: list[dict[str, Any]], **params: Any) -> list[dict[str, Any]]:
        reply = self.post({"dataframe_records": rows, "params": params})
        assert reply.status == 200, reply.body
        return reply.body["predictions"]


class Running(NamedTuple):
    client: Client
    follower: Follower
    engine: Engine


@contextmanager
def running(source: Models, *, limits: Limits | None = None, follow: float | None = None) -> Iterator[Running]:
    follower, engine = Follower(source, every=follow), Engine()
    app = make_app(follower, engine, limits or Limits())
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield Running(Client(server.servers[0].sockets[0].getsockname()[1]), follower, engine)
    finally:
        server.should_exit = True
        thread.join()
        follower.close()
        engine.close()
