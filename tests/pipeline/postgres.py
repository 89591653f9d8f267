"""PostgreSQL and MLflow's server as infra/compose.yaml runs them, as processes of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.tracking.server import load_mlflow
from tests.compose import INFRA, compose, words
from tests.project import wait_for

BINARIES = max(
    (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    key=lambda path: int(path.parent.name),
    default=None,
)


@dataclass(frozen=True)
class Database:
    """A PostgreSQL of its own: where its socket is, and what its tools need in their environment."""

    place: Path

    @property
    def environment(self) -> dict[str, str]:
        """How its tools find it. It asks for no password, but what asks for one in the real file gets it here, too."""
        path = f"{BINARIES}{os.pathsep}{os.environ['PATH']}"
        return {"PGHOST": str(self.place), "PGUSER": "mlflow", "PGDATABASE": "mlflow", "PATH": path}

    def uri(self, name: str = "mlflow") -> str:
        return f"postgresql://mlflow@/{name}?host={self.place}"

    def create(self, name: str) -> str:
        """A database; its URI."""
        subprocess.run([BINARIES / "createdb", "-h", self.place, "-U", "mlflow", name], check=True)
        return self.uri(name)


@contextmanager
def running_database() -> Iterator[Database]:
    """PostgreSQL does not run as root, and its user may enter few folders of root's: it gets a place of its own."""
    place = Path(tempfile.mkdtemp(prefix="gen-postgres-"))
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres, and root may not run PostgreSQL")
        os.chown(place, user.pw_uid, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    options = ["--username=mlflow", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
    with (place / "log").open("wb") as log, ExitStack() as after:
        after.callback(shutil.rmtree, place)
        initdb = [BINARIES / "initdb", "--pgdata", place / "data", *options]
        subprocess.run(initdb, cwd=place, stdout=log, stderr=log, check=True, **identity)
        settings = ["-c", "listen_addresses=", "-c", "fsync=off"]
        server = [BINARIES / "postgres", "-D", place / "data", "-k", place, *settings]
        process = subprocess.Popen(server, cwd=place, stdout=log, stderr=log, start_new_session=True, **identity)
        after.callback(ended, process, signal.SIGINT)  # SIGTERM would wait for its clients
        wait_for(lambda: subprocess.run([BINARIES / "pg_isready", "-q", "-h", place], check=False).returncode == 0)
        database = Database(place)
        database.create("mlflow")
        yield database


def ended(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """End a service with everything it started."""
    with suppress(psutil.NoSuchProcess):
        all_of_it = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        _, left = psutil.wait_procs(all_of_it, 20)
        for one in left:
            one.kill()
        assert not psutil.wait_procs(left, 10)[1]
    process.wait(10)


class Server:
    """The service ``tracking`` of the compose file: its command, its environment, here."""

    def __init__(self, database: Database, place: Path, **variables: str) -> None:
        self.place, self.database = place, database
        self.artifacts = place / "artifacts"
        place.mkdir()
        self.artifacts.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        given = {"POSTGRES_PASSWORD": "secret", "ARTIFACTS": str(self.artifacts), **variables}
        service = compose(**given)["services"]["tracking"]
        self.words = words(service["command"])
        self.words[self.words.index("--host") + 1] = "127.0.0.1"
        self.words[self.words.index("--port") + 1] = str(self.port)
        self.environment = dict(service["environment"])
        self.environment["MLFLOW_BACKEND_STORE_URI"] = self.here(self.environment["MLFLOW_BACKEND_STORE_URI"])
        rights = place / "basic_auth.ini"
        rights.write_text(self.here((INFRA / "tracking" / "basic_auth.ini").read_text()))
        self.environment["MLFLOW_AUTH_CONFIG_PATH"] = str(rights)
        self.process: subprocess.Popen[bytes] | None = None

    def here(self, text: str) -> str:
        """The database is not at the host ``postgres`` but at a socket."""
        assert "postgresql://mlflow@postgres/mlflow" in text
        return text.replace("postgresql://mlflow@postgres/mlflow", self.database.uri())

    def start(self) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "AWS_"))}
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words,
                cwd=self.place,
                env=kept | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = self.process
        wait_for(lambda: process.poll() is not None or self.status("/health") == 200)
        assert process.poll() is None, (self.place / "log").read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            ended(self.process, number)
            self.process = None

    def status(self, path: str, **headers: str) -> int:
        """Status of the answer to GET; 0 without one."""
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    @property
    def client(self) -> Any:
        return load_mlflow().MlflowClient(tracking_uri=self.url)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
