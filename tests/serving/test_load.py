"""Many at once: turns, company, limits, a model that changes, one that breaks, an end."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gen.data.spaces import DataSpec, Space
from gen.errors import StoreError
from gen.model import GenerativeModel
from gen.serve import Answerer
from gen.serve.turn import Turn
from pipelines.serving.app import Limits
from pipelines.serving.engine import Engine
from tests.serving.running import Models, hosted, images, model, png, running
from tests.serving.test_answers import COLOUR, Mirror


class Paced(GenerativeModel):
    """Draws when it is allowed to, and keeps a record of how many at a time."""

    spaces = ("signed",)

    def __init__(self) -> None:
        super().__init__(DataSpec((1, 4, 4), 0, Space.parse("signed")))
        self.go, self.drawn = threading.Semaphore(0), []

    def sample(self, count, *, condition=None, temperature=1.0):
        assert self.go.acquire(timeout=30)
        self.drawn.append(count)
        return torch.zeros(count, *self.spec.shape)


class Fragile(Mirror):
    """Breaks on a white image, and on that alone."""

    def encode(self, x):
        code = x.flatten(1)
        return torch.where((code == 1).all(1, keepdim=True), torch.nan, code)

    def decode(self, code):
        return code.unflatten(1, self.spec.shape)


class Grown:
    """True once a list has grown by eight."""

    def __init__(self, growing: list) -> None:
        self.growing, self.enough = growing, len(growing) + 8

    def __call__(self) -> bool:
        return len(self.growing) > self.enough


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def engine():
    made = Engine()
    yield made
    made.close()


# ---- the engine ----------------------------------------------------------------------------------------------------


def test_requests_take_turns(engine):
    """One image does not wait for a thousand."""
    made = Paced()
    answerer = Answerer(made)
    large = engine.submit(answerer, answerer.parse([{"count": 1000}], {}))
    small = engine.submit(answerer, answerer.parse([{"count": 1}], {}))
    for _ in range(2):
        made.go.release()
    small.result(20)
    assert not large.done()
    for _ in range(3):
        made.go.release()
    assert len(answerer.answer(answerer.parse([{"count": 1000}], {}), large.result(20))[0]["images"]) == 1000
    assert made.drawn == [250, 1, 250, 250, 250]


def test_images_of_waiting_requests_pass_together_and_change_nothing(engine):
    made = Mirror()
    answerer, first = Answerer(made), Answerer(Paced())
    answerer.prepare()
    made.batches.clear()
    request = answerer.parse([{"task": "translate", "image": png(COLOUR)}], {})
    blocker = engine.submit(first, first.parse([{}], {}))
    futures = [engine.submit(answerer, request) for _ in range(5)]
    first.model.go.release()
    blocker.result(20)
    results = [future.result(20)[0] for future in futures]
    assert made.batches == [8], "one pass for all five"
    assert all(torch.equal(result, results[0]) for result in results)


def test_nothing_more_is_done_for_a_request_nobody_waits_for(engine):
    made = Paced()
    answerer = Answerer(made)
    gone = engine.submit(answerer, answerer.parse([{"count": 10_000}], {}))
    made.go.release()
    wait_until(lambda: made.drawn)
    gone.cancel()
    for _ in range(2):
        made.go.release()
    engine.submit(answerer, answerer.parse([{"count": 2}], {})).result(20)
    assert made.drawn in ([250, 250, 2], [250, 2]), "at most the piece that had begun"


def test_company_shares_no_failure(engine):
    answerer, first = Answerer(Fragile()), Answerer(Paced())
    answerer.prepare()
    white = answerer.parse([{"task": "encode", "image": png(COLOUR * 5)}], {})
    grey = answerer.parse([{"task": "encode", "image": png(COLOUR)}], {})
    engine.submit(first, first.parse([{}], {}))
    futures = [engine.submit(answerer, request) for request in (grey, white, grey)]
    first.model.go.release()
    assert torch.equal(futures[0].result(20)[0], futures[2].result(20)[0])
    with pytest.raises(Exception, match="not finite"):
        futures[1].result(20)


def test_closing_finishes_what_was_submitted():
    made = Paced()
    engine, answerer = Engine(), Answerer(made)
    future = engine.submit(answerer, answerer.parse([{"count": 500}], {}))
    closing = threading.Thread(target=engine.close)
    closing.start()
    made.go.release(2)
    closing.join(20)
    assert not closing.is_alive() and future.done()
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(answerer, answerer.parse([{}], {}))


# ---- the server ----------------------------------------------------------------------------------------------------


def test_clients_at_once_get_the_answers_they_would_get_alone():
    with running(Models(**{"1": hosted(model("vae"))})) as server:
        pixels = images(4)
        requests = [
            ([{"task": task, **({"image": png(pixels[i % 4])} if task != "sample" else {"count": 1 + i % 3})}], i % 5)
            for i, task in enumerate(["sample", "score", "encode", "reconstruct"] * 10)
        ]
        alone = [server.client.predictions(rows, seed=seed) for rows, seed in requests]
        with ThreadPoolExecutor(8) as pool:
            company = list(pool.map(lambda each: server.client.predictions(each[0], seed=each[1]), requests))
    assert company == alone


def test_a_full_queue_says_when_to_come_back():
    made = Paced()
    with running(Models(**{"1": hosted(made)}), limits=Limits(queue=2)) as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.client.post, {"instances": [{}]}) for _ in range(2)]
        try:
            wait_until(lambda: len(server.engine._jobs) == 2)
            reply = server.client.post({"instances": [{}]})
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert reply.body["error_code"] == "TEMPORARILY_UNAVAILABLE" and "allowed are 2" in reply.body["message"]
            assert server.client.ask("GET", "/ping").status == 200
        finally:
            made.go.release(3)
        assert [each.result().status for each in waiting] == [200, 200]
        assert server.client.post({"instances": [{}]}).status == 200


def test_a_body_that_is_too_large_is_not_read():
    with running(Models(**{"1": hosted(model("vae"))}), limits=Limits(body=2000)) as server:
        said = server.client.ask("POST", "/invocations", b" " * 2001)
        assert (said.status, said.body["error_code"]) == (413, "REQUEST_TOO_LARGE")
        with socket.create_connection(("127.0.0.1", server.client.port)) as wire:  # nothing says how long it will be
            wire.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b" " * 1000 + b"\r\n"
            )
            wire.sendall(b"3e9\r\n" + b" " * 1001 + b"\r\n")
            assert b"413" in wire.recv(100)
        assert server.client.post({"instances": [{}]}).status == 200


def test_a_body_that_does_not_come_is_not_waited_for():
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with (
        running(Models(**{"1": hosted(model("vae"))}), limits=Limits(body_seconds=0.2)) as server,
        socket.create_connection(("127.0.0.1", server.client.port)) as wire,
    ):
        wire.sendall(head)
        assert b"408" in wire.recv(100)


def test_a_request_that_takes_too_long_is_given_up():
    made = Paced()
    with running(Models(**{"1": hosted(made)}), limits=Limits(seconds=0.2)) as server:
        reply = server.client.post({"instances": [{"count": 600}]})
        assert (reply.status, reply.body["error_code"]) == (504, "DEADLINE_EXCEEDED")
        made.go.release(2)
        assert server.client.post({"instances": [{}]}).status == 200
        assert sum(made.drawn) < 600


def test_a_broken_model_is_not_the_fault_of_the_request(capfd):
    with running(Models(**{"1": hosted(Fragile())})) as server:
        reply = server.client.post({"instances": [{"task": "encode", "image": png(COLOUR * 5)}]})
        assert (reply.status, reply.body["error_code"]) == (500, "INTERNAL_ERROR")
        assert "Training diverged" in reply.body["message"]
        assert server.client.predictions([{"task": "encode", "image": png(COLOUR)}])
    assert "not finite" in capfd.readouterr().err


# ---- a new champion ------------------------------------------------------------------------------------------------


def test_a_new_champion_takes_over_without_losing_a_request(capfd):
    models = Models(**{"1": hosted(model("vae"), "1"), "2": hosted(model("vae", seed=1), "2")})
    by_version = {name: Answerer(each.answerer.model)([{"count": 2}]) for name, each in models.versions.items()}
    seen: list[tuple[str, bool]] = []
    ended = threading.Event()
    with running(models, follow=0.02) as server:

        def client() -> None:
            while not ended.is_set():
                reply = server.client.post({"instances": [{"count": 2}]})
                version = reply.headers.get("x-model-version", str(reply.status))
                seen.append((version, reply.status == 200 and reply.body["predictions"] == by_version[version]))

        with ThreadPoolExecutor(4) as pool:
            work = [pool.submit(client) for _ in range(4)]
            for version in ("2", "1", "2"):
                models.at = version
                wait_until(lambda: server.follower.current.version == models.at)
                wait_until(Grown(seen))
            ended.set()
            for each in work:
                each.result()
    assert all(right for _, right in seen) and {version for version, _ in seen} == {"1", "2"}
    assert [version for version, _ in seen][-1] == "2"
    assert "toy@champion: now serving version 2" in capfd.readouterr().err


def test_a_model_that_is_tried_out_does_not_draw_from_the_stream_of_one_that_works():
    """torch's default generator is one for all threads."""
    working, other = Answerer(model("vae")), model("vae", seed=1)
    alone = [working([{"count": 2}], {"seed": seed}) for seed in range(40)]
    ended = threading.Event()

    def try_out() -> None:
        while not ended.is_set():
            Answerer(other).prepare()

    thread = threading.Thread(target=try_out)
    thread.start()
    try:
        assert [working([{"count": 2}], {"seed": seed}) for seed in range(40)] == alone
    finally:
        ended.set()
        thread.join()


def test_a_request_keeps_the_model_that_accepted_it():
    made, newer = Paced(), Paced()
    newer.go.release()
    models = Models(**{"1": hosted(made, "1"), "2": hosted(newer, "2")})
    with running(models) as server, ThreadPoolExecutor(1) as pool:
        early = pool.submit(server.client.post, {"instances": [{"count": 300}]})
        wait_until(lambda: server.engine._jobs)
        models.at = "2"
        server.follower.look()
        wait_until(lambda: models.loads == 2)
        time.sleep(0.05)  # it waits for its turn now
        made.go.release()
        wait_until(lambda: server.follower.current.version == "2")
        assert made.drawn == [250]
        made.go.release()
        assert early.result().headers["x-model-version"] == "1"
        assert len(early.result().body["predictions"][0]["images"]) == 300
        assert server.client.post({"instances": [{}]}).headers["x-model-version"] == "2"


def test_a_damaged_champion_is_refused_once_and_the_old_one_goes_on(capfd):
    models = Models(**{"1": hosted(model("vae")), "2": StoreError("its sha256 is another.")})
    with running(models, follow=0.01) as server:
        models.at = "2"
        wait_until(lambda: models.loads == 2)
        time.sleep(0.1)
        assert models.loads == 2, "not again every few seconds"
        assert server.client.ask("GET", "/version").body["refused"] == "2"
        assert server.client.post({"instances": [{}]}).headers["x-model-version"] == "1"
        server.follower.look()
        wait_until(lambda: models.loads == 3)
        models.at = "1"
        wait_until(lambda: server.client.ask("GET", "/version").body["refused"] is None)
    said = capfd.readouterr().err
    assert "version 2 is refused: its sha256 is another. Version 1 goes on serving." in said


def test_a_registry_that_is_away_is_asked_again(capfd):
    models = Models(**{"1": hosted(model("vae")), "2": hosted(model("vae", seed=1), "2")})

    def away() -> str:
        raise StoreError("the registry is away.")

    with running(models, follow=0.01) as server:
        there, models.newest = models.newest, away
        time.sleep(0.1)
        models.newest, models.at = there, "2"
        wait_until(lambda: server.follower.current.version == "2")
    assert capfd.readouterr().err.count("the registry is away. Version 1 goes on serving.") == 1


def test_answers_are_json_for_every_reader():
    with running(Models(**{"1": hosted(model("factor"))})) as server:
        reply = server.client.post({"instances": [{"task": "score", "image": png(images(1)[0])}]})
    assert json.loads(json.dumps(reply.body, allow_nan=False)) == reply.body


def test_turns_are_handed_on_in_the_order_of_asking():
    turn, order = Turn(), []

    def take(name: int) -> None:
        with turn:
            order.append(name)

    threads = [threading.Thread(target=take, args=(name,)) for name in range(5)]
    with turn:
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda number=number: len(turn._waiting) == number + 1)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    with turn:
        assert turn._taken
    assert not turn._taken
