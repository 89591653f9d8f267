"""Servers on this machine that misbehave as told: HTTP with faults, S3 (moto), and a line that breaks between them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import socket
import struct
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer. The default is an honest one."""

    status: int | None = None  # answer this, with no body of the file
    headers: dict[str, str] = field(default_factory=dict)
    drop: int | None = None  # reset the connection after so many bytes of the body
    short: int | None = None  # state the whole length, send so many bytes and close
    stated: int | None = None  # state this length and send only that much
    delay: float = 0.0  # seconds before the answer
    pause: tuple[int, float] | None = None  # after so many bytes of the body, send nothing for so many seconds
    ranges: bool = True  # False: send the whole file whatever range was asked
    shift: int = 0  # send a range that begins so many bytes later than asked
    length: bool = True  # False: do not state a length; the end of the connection is the end of the body
    etag: str | None = None  # instead of the file's own
    other: bytes | None = None  # bytes of the same file name, but not those of the file


HONEST = Fault()


@dataclass
class Asked:
    """A request, as the server saw it."""

    path: str
    range: str | None
    headers: dict[str, str]


class FaultyServer(ThreadingHTTPServer):
    """Serves ``files``; the n-th request is answered with the n-th fault, and honestly when there are none left.

    ``always`` is the fault of all requests after those.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.faults, self.always = files, deque[Fault](), HONEST
        self.asked: list[Asked] = []
        self.guard = threading.Lock()
        self.sent = 0  # bytes of bodies

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def ranges(self) -> list[str | None]:
        return [asked.range for asked in self.asked]

    def handle_error(self, request, client_address) -> None:
        """Clients that leave are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        with server.guard:
            fault = server.faults.popleft() if server.faults else server.always
            server.asked.append(Asked(self.path, self.headers.get("Range"), dict(self.headers)))
        time.sleep(fault.delay)
        body = fault.other if fault.other is not None else server.files.get(self.path.partition("?")[0][1:])
        if fault.status is not None or body is None:
            self._head(fault.status or 404, {**fault.headers, "Content-Length": "0"})
            return
        etag = fault.etag or f'"{hashlib.md5(body).hexdigest()}"'
        headers = {"ETag": etag, **fault.headers}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        status, total = 200, len(body)
        if wanted and fault.ranges and self.headers.get("If-Range", etag) == etag:
            start = int(wanted[1]) + fault.shift
            if start >= total:
                self._head(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
                return
            status, body = 206, body[start:]
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if fault.length:
            headers["Content-Length"] = str(len(body) if fault.stated is None else fault.stated)
        self._head(status, headers)
        end = next((cut for cut in (fault.drop, fault.short, fault.stated) if cut is not None), len(body))
        self._send(body[:end], fault)
        if fault.drop is not None:  # a reset, not an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def _send(self, body: bytes, fault: Fault) -> None:
        pause_at, seconds = fault.pause or (len(body), 0.0)
        for piece in (body[:pause_at], body[pause_at:]):
            self.wfile.write(piece)
            with self.server.guard:
                self.server.sent += len(piece)
            if piece is not body and seconds:
                time.sleep(seconds)
                seconds = 0.0


@contextlib.contextmanager
def http_server(files: dict[str, bytes] | None = None) -> Iterator[FaultyServer]:
    with FaultyServer({} if files is None else files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Line:
    """A TCP line to a server that breaks.

    Attributes:
        breaks: the next connection over which more bytes come back than the first of these breaks; and so on.
        down: once so many bytes have come back in all, every connection breaks.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.breaks = deque[int]()
        self.down: int | None = None
        self._total = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if back:
                    self._total += len(data)
                    if self.down is not None and self._total > self.down:
                        break
                    if self.breaks and passed > self.breaks[0]:
                        self.breaks.popleft()
                        break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


BUCKET = "shards"


@dataclass
class Bucket:
    """A bucket of a moto server, which checks who asks and the signature of every request."""

    port: int
    key: str
    secret: str

    def environment(self, port: int | None = None) -> dict[str, str]:
        """What tells a client where the bucket is and who it is; ``port`` of a line to the server."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def s3_server(files: dict[str, bytes]) -> Iterator[Bucket]:
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    place = f"http://127.0.0.1:{port}"
    root = {
        "endpoint_url": place,
        "aws_access_key_id": "root",
        "aws_secret_access_key": "x",
        "region_name": "us-east-1",
    }
    iam, s3 = boto3.client("iam", **root), boto3.client("s3", **root)
    iam.create_user(UserName="reader")
    rights = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=json.dumps(rights))
    access = iam.create_access_key(UserName="reader")["AccessKey"]
    s3.create_bucket(Bucket=BUCKET)
    for key, contents in files.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=contents)
    _check_who_asks(place, from_now_on=True)
    yield Bucket(port, access["AccessKeyId"], access["SecretAccessKey"])
    _check_who_asks(place, from_now_on=False)
    server.stop()


def _check_who_asks(place: str, *, from_now_on: bool) -> None:
    """Moto lets everybody in until it is told after how many requests it shall not."""
    after = b"0" if from_now_on else b"inf"
    headers = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"{place}/moto-api/reset-auth", after, headers), timeout=10).close()
