"""Both servers as users start them: `gen serve` and `mlflow models serve`, on one registry."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.serving import NAME, Measured, free_port, gen_serve, mlflow_serve, play, register, requests, serving
from pipelines import cli
from tests.serving.running import Client
from tests.serving.test_load import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> tuple[Path, tuple[str, ...]]:
    """A VAE of default size, its champion's answers unlike those of the version before it."""
    root = tmp_path_factory.mktemp("registry")
    register(root, "vae", seed=1)
    return root, register(root, "vae", seed=0)


def test_two_hundred_requests_of_eight_clients_have_equal_answers_from_both_servers(registry):
    root, tasks = registry
    bodies = requests(tasks, 200)
    ours, theirs = free_port(), free_port()
    with serving(gen_serve(root, ours), ours, root), serving(mlflow_serve(theirs), theirs, root):
        measured = {port: Measured() for port in (ours, theirs)}
        answers = {port: play(port, bodies, 8, measured[port]) for port in measured}
        assert [each.errors for each in measured.values()] == [0, 0]
        assert answers[ours] == answers[theirs]
        assert play(ours, bodies[:20], 1, Measured()) == answers[ours][:20]
        for port in measured:
            for bad, reason in (({"count": 0}, "count: found 0"), ({"task": "complete"}, "cannot do 'complete'")):
                reply = Client(port).post({"dataframe_records": [bad]})
                assert reply.status == 400, reply.body
                assert reply.body["error_code"] == "INVALID_PARAMETER_VALUE" and reason in reply.body["message"]


def test_the_alias_is_followed_and_a_tampered_champion_is_not(registry):
    from pipelines.tracking.shelf import Shelf

    root, _ = registry
    port, shelf = free_port(), Shelf(root)
    client = Client(port)

    def version(key: str = "version") -> str:
        return client.ask("GET", "/version").body[key]

    with serving(gen_serve(root, port, "--follow", "0.2"), port, root) as process:
        assert version() == "2"
        first = client.predictions([{}])
        shelf.set_alias(NAME, "champion", "1")
        wait_until(lambda: version() == "1", 60)
        assert client.predictions([{}]) != first

        register(root, "vae", seed=2)
        (weights,) = [
            path
            for path in (root / "mlflow" / "artifacts").rglob("model.safetensors")
            if path.read_bytes() == (root / "models" / f"{NAME}-2" / "model.safetensors").read_bytes()
        ]
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        shelf.set_alias(NAME, "champion", "1")
        wait_until(lambda: version() == "1", 60)  # it may have taken the third before it was tampered with
        shelf.set_alias(NAME, "champion", "3")
        wait_until(lambda: version("refused") == "3", 60)
        process.send_signal(signal.SIGHUP)  # look again, although it was refused
        wait_until(lambda: version("refused") == "3", 60)
        assert version() == "1"
        shelf.set_alias(NAME, "champion", "2")
        wait_until(lambda: version() == "2", 60)
        assert client.predictions([{}]) == first


def test_sigterm_answers_what_was_accepted_and_exits_with_0(registry):
    root, _ = registry
    port = free_port()
    with serving(gen_serve(root, port), port, root) as process, ThreadPoolExecutor(1) as pool:
        body = json.dumps({"instances": [{"count": 10_000}]}).encode()
        waiting = pool.submit(Client(port).ask, "POST", "/invocations", body)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        reply = waiting.result()
        assert reply.status == 200
        assert len(reply.body["predictions"][0]["images"]) == 10_000
        assert process.wait(30) == 0
        with pytest.raises(OSError, match="refused"):
            Client(port).ask("GET", "/ping")


def test_what_cannot_be_served_is_said(registry, capsys):
    root, _ = registry
    cases = {
        (f"{NAME}@chmpion",): "Did you mean 'champion'?",
        (f"{NAME}/99",): "/99: there is no such version",
        ("nothing",): "nothing: there is no such registered model",
        ("a@b@c",): "found no model's name",
        ("--recipe", "nothing"): "gen train nothing",
        (): "give a registered MODEL, or --recipe RECIPE",
        (NAME, "--recipe", "x"): "one of them",
    }
    for words, reason in cases.items():
        assert cli.main(["--root", str(root), "serve", *words, "--port", "0"]) == 2
        assert reason in capsys.readouterr().err


def test_a_local_model_is_served_and_a_port_in_use_is_said(registry, capsys):
    import socket

    from benchmarks.serving import build, save_model
    from gen.data.spaces import DataSpec, Space

    root, _ = registry
    weights = root / "models" / "local" / "weights"
    weights.mkdir(parents=True)
    save_model(weights, build("vae", DataSpec((1, 8, 8), 0, Space.parse("binary_fixed"))), name="vae", hyper={})
    port = free_port()
    command = [*gen_serve(root, port)[:5], "serve", "--recipe", "local", "--port", str(port)]
    with serving(command, port, root):
        assert Client(port).ask("GET", "/version").body["model"] == "local"
        assert len(Client(port).predictions([{"count": 3}])[0]["images"]) == 3
        with socket.create_server(("127.0.0.1", 0)) as taken:
            words = ["serve", "--recipe", "local", "--port", str(taken.getsockname()[1])]
            assert cli.main(["--root", str(root), *words]) == 75
    assert "0 takes a free port" in capsys.readouterr().err
