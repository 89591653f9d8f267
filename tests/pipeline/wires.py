"""Servers as processes of their own, and the way to them, which can be cut."""

import os
import signal
import socket
import subprocess
import threading
import urllib.request
from contextlib import contextmanager, suppress

from tests.pipeline.tracked import until


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def service(words, *, cwd, port, path, env=None):
    """A server process, ready; with it ends its whole process group."""
    with (cwd / "server.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=cwd, env=os.environ | (env or {}), stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}{path}"), 120)
        assert process.poll() is None, (cwd / "server.log").read_text()
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(10)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Wire:
    """A connection to a server that can be cut: everything that arrives at ``port`` goes on to ``target``."""

    def __init__(self, target):
        self.target, self.port = target, free_port()
        self.listener, self.open = None, []

    def connect(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        while self.open:
            with self.open.pop() as end, suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
