"""The server as a process: it says when it is ready, drains when it is asked to stop, and exits with 0."""

from __future__ import annotations

import signal
import socket
import sys

import uvicorn

from gen.errors import GenError
from pipelines.serving.app import Limits, make_app
from pipelines.serving.engine import Engine
from pipelines.serving.follow import Follower
from pipelines.serving.sources import Source


class AddressError(GenError):
    """The address cannot be had."""

    exit_code = 75


def serve(source: Source, *, host: str, port: int, limits: Limits, follow: float | None) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted by then is answered first. SIGHUP looks for a newer model.

    Args:
        source: of the model.
        host: address to listen on.
        port: 0 takes a free one.
        limits: what the server takes on.
        follow: seconds between two looks for a newer model; ``None`` for none.

    Raises:
        GenError: the model cannot be had, or the address.
    """
    with _listen(host, port) as listener:
        _serve(source, listener, limits, follow)
    print(f"{source.asked}: stopped", file=sys.stderr, flush=True)


def _serve(source: Source, listener: socket.socket, limits: Limits, follow: float | None) -> None:
    follower = Follower(source, every=follow)
    engine = Engine()
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(follower, engine, limits),
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
        )
    )
    for name in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again after it has drained
        signal.signal(name, lambda *_: None)
    signal.signal(signal.SIGHUP, lambda *_: follower.look())
    hosted, address = follower.current, listener.getsockname()
    print(
        f"{hosted.asked}: serving version {hosted.version} on http://{address[0]}:{address[1]} "
        f"({', '.join(hosted.answerer.tasks)}). Ctrl+C ends it.",
        file=sys.stderr,
        flush=True,
    )
    try:
        server.run(sockets=[listener])
    finally:
        follower.close()
        engine.close()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. Taken first: a port in use is said before a model is loaded."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as problem:
        reason = str(problem.strerror).partition(" (")[0]
        raise AddressError(f"{host}:{port}: {reason}. Choose another --host or --port; 0 takes a free port.") from None
