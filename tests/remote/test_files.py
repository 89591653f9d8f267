"""What crosses the network arrives whole, or there is a clear error: against an HTTP server that misbehaves and S3."""

from __future__ import annotations

import base64
import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gen.errors import DataError
from gen.remote import download, object_store, web
from gen.remote.files import fetch, is_remote, listing, name_of, size
from tests.remote.servers import BUCKET, HONEST, Bucket, Fault, FaultyServer, Line, http_server, s3_server

DATA = random.Random(0).randbytes(5_000_003)
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = bytes(len(DATA))
MB = 1 << 20


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with http_server({"faces.tar": DATA}) as running:
        yield running


class Waits(list):
    """Stands in for time.sleep."""

    __call__ = list.append


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name[0] == "."]


def test_places() -> None:
    assert [is_remote(p) for p in ("https://h/x", "s3://b/x", "S3://b/x", "file:///x")] == [True] * 4
    assert [is_remote(p) for p in ("/data/x", "x.tar", "~/x", "C:x", "a//b", "")] == [False] * 6
    assert name_of("https://h/a/b%20c.tar?version=2#x") == "b c.tar" and name_of("s3://bucket/x.tar") == "x.tar"
    for url in ("https://h/a/", "https://h", "https://h/..", "https://h/a%2F..", "https://h/a%00b"):
        with pytest.raises(DataError, match="no file name"):
            name_of(url)


def test_fetch_brings_the_bytes(server: FaultyServer, tmp_path: Path) -> None:
    told = []
    found = fetch(server.url("faces.tar"), tmp_path / "deep" / "x.tar", progress=lambda *now: told.append(now))
    assert found == SHA
    assert (tmp_path / "deep" / "x.tar").read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA)) and told == sorted(told)
    assert hidden(tmp_path / "deep") == []
    assert server.ranges() == [None]
    assert size(server.url("faces.tar")) == len(DATA)


def test_a_local_path_is_copied(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    assert fetch(str(tmp_path / "a"), tmp_path / "b", sha256=SHA, bytes=len(DATA)) == SHA
    assert (tmp_path / "b").read_bytes() == DATA
    assert size(str(tmp_path / "a")) == len(DATA)
    for place, reason in ((tmp_path / "none", "no such file"), (tmp_path, "folder")):
        with pytest.raises(DataError, match=reason):
            fetch(str(place), tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_an_empty_file_is_a_file(server: FaultyServer, tmp_path: Path) -> None:
    server.files["empty"] = b""
    fetch(server.url("empty"), tmp_path / "empty", bytes=0)
    fetch(server.url("empty"), tmp_path / "again", sha256=hashlib.sha256(b"").hexdigest())
    assert (tmp_path / "empty").read_bytes() == (tmp_path / "again").read_bytes() == b""
    assert hidden(tmp_path) == []


FAULTS = {
    "drops at once": [Fault(drop=0)],
    "drops four times": [Fault(drop=1000), Fault(drop=70_000), Fault(drop=3_000_000), Fault(drop=1)],
    "short body": [Fault(short=2_000_000)],
    "short body, then 503": [Fault(short=2_000_000), Fault(status=503), Fault(status=429)],
    "states less than it has": [Fault(stated=1_000_000)],
    "busy four times": [Fault(status=code) for code in (500, 502, 503, 504)],
    "no ranges": [Fault(drop=2_000_000), Fault(ranges=False)],
    "wrong range": [Fault(drop=2_000_000), Fault(shift=17)],
    "earlier range": [Fault(drop=2_000_000), Fault(shift=-17)],
    "wrong bytes once": [Fault(other=OTHER)],
    "another version on the way": [Fault(other=OTHER, drop=2_000_000)],
    "longer once": [Fault(other=OTHER + b"more")],
    "delays": [Fault(delay=0.2, pause=(1000, 0.2))],
    "no length": [Fault(length=False)],
}


KNOWN = {
    "sha256 and bytes": {"sha256": SHA, "bytes": len(DATA)},
    "sha256": {"sha256": SHA},
    "bytes": {"bytes": len(DATA)},
}


@pytest.mark.parametrize(
    ("fault", "known"),
    [(f, k) for f in FAULTS for k in KNOWN if (f, k) != ("wrong bytes once", "bytes")],  # nobody could tell that one
)
def test_what_passes_is_survived(server: FaultyServer, tmp_path: Path, fault: str, known: str) -> None:
    server.faults.extend(FAULTS[fault])
    fetch(server.url("faces.tar"), tmp_path / "x", sleep=Waits(), **KNOWN[known])
    assert (tmp_path / "x").read_bytes() == DATA
    assert hidden(tmp_path) == []


def test_a_body_without_length_that_is_cut_is_found_by_its_checksum(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.append(Fault(length=False, short=4_000_000))
    assert fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA, sleep=Waits()) == SHA


@pytest.mark.parametrize(
    ("always", "reason"),
    [
        (Fault(drop=1000), "connection was closed after 1,000 of 5,000,003|Connection"),
        (Fault(short=1000, ranges=False), "closed after 1,000 of 5,000,003 bytes"),
        (Fault(stated=1000, ranges=False), "offers 1,000 bytes, expected 5,000,003"),
        (Fault(status=503), "503 Service Unavailable"),
        (Fault(status=429), "429 Too Many Requests"),
        (Fault(drop=0), "Connection|Remote"),
    ],
)
def test_what_does_not_pass_is_given_up(server: FaultyServer, tmp_path: Path, always: Fault, reason: str) -> None:
    server.always, waits = always, Waits()
    with pytest.raises(DataError, match=reason) as error:
        fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA, bytes=len(DATA), sleep=waits, attempts=4)
    assert "gave up after 4 failed attempts in a row" in str(error.value) and "run the same command" in str(error.value)
    assert server.url("faces.tar") in str(error.value)
    assert len(server.asked) == 4 and len(waits) == 3
    for k, wait in enumerate(waits):
        assert 0.5 * 2**k <= wait <= 2**k
    assert not (tmp_path / "x").exists()
    server.always = HONEST  # the same command, later
    fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA, bytes=len(DATA))
    assert (tmp_path / "x").read_bytes() == DATA


def test_waits_are_bounded_and_a_server_may_ask_for_more(server: FaultyServer, tmp_path: Path) -> None:
    server.always, waits = Fault(status=503), Waits()
    server.faults.extend([Fault(status=503, headers={"Retry-After": after}) for after in ("20", "86400", "soon")])
    with pytest.raises(DataError, match="12 failed attempts"):
        fetch(server.url("faces.tar"), tmp_path / "x", attempts=12, sleep=waits)
    assert waits[:2] == [20, 2 * download.LONGEST_WAIT] and 2 <= waits[2] <= 4
    assert max(waits[2:]) <= download.LONGEST_WAIT and min(waits[6:]) >= download.LONGEST_WAIT / 2


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "Not Found"), (403, "credentials"), (401, "credentials"), (410, "Gone")]
)
def test_what_is_refused_is_not_asked_again(server: FaultyServer, tmp_path: Path, status: int, reason: str) -> None:
    server.always = Fault(status=status)
    with pytest.raises(DataError, match=f"{status}.*{reason}"):
        fetch(server.url("faces.tar"), tmp_path / "x", sleep=Waits())
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_only_the_missing_bytes_are_asked_for(server: FaultyServer, tmp_path: Path) -> None:
    """The second request begins where the first one ended, within a call and from one command to the next."""
    server.faults.extend([Fault(short=3_000_000), Fault(short=1_500_000)])
    with pytest.raises(DataError):
        fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA, sleep=Waits(), attempts=1)
    assert (tmp_path / ".x.part").read_bytes() == DATA[:3_000_000] and not (tmp_path / "x").exists()
    fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA, sleep=Waits())
    assert server.ranges() == [None, "bytes=3000000-", "bytes=4500000-"]
    assert server.sent == len(DATA)
    assert (tmp_path / "x").read_bytes() == DATA


def test_progress_is_no_failure(server: FaultyServer, tmp_path: Path) -> None:
    """A line that breaks after every MiB still brings a file of any size; one that brings nothing new does not."""
    server.always = Fault(short=download.FRUITFUL)
    fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA, sleep=Waits(), attempts=2)
    assert (tmp_path / "x").read_bytes() == DATA
    server.always = Fault(short=2 * MB, ranges=False)
    with pytest.raises(DataError, match="3 failed attempts"):
        fetch(server.url("faces.tar"), tmp_path / "y", sha256=SHA, sleep=Waits(), attempts=3)


@pytest.mark.parametrize("left", [b"", b"\0" * 1000, DATA[:-1] + b"\0", DATA, DATA + b"more"])
def test_whatever_an_earlier_run_left(server: FaultyServer, tmp_path: Path, left: bytes) -> None:
    for known in ({"sha256": SHA}, {"sha256": SHA, "bytes": len(DATA)}, {"bytes": len(DATA)}, {}):
        (tmp_path / ".x.part").write_bytes(left)
        fetch(server.url("faces.tar"), tmp_path / "x", **known)
        assert (tmp_path / "x").read_bytes() == DATA
        (tmp_path / "x").unlink()
        assert hidden(tmp_path) == []


def test_a_file_that_changes_between_two_attempts_is_not_mixed(server: FaultyServer, tmp_path: Path) -> None:
    """Without a checksum it is the server's word (If-Range) that keeps halves of two versions apart."""
    server.faults.append(Fault(other=OTHER, short=2_000_000))
    fetch(server.url("faces.tar"), tmp_path / "x", sleep=Waits())
    assert server.asked[1].range == "bytes=2000000-" and "If-Range" in server.asked[1].headers
    assert (tmp_path / "x").read_bytes() == DATA
    # A server that names no version is asked for all of it again.
    server.asked.clear()
    server.faults.append(Fault(short=2_000_000, etag='W/"weak"'))
    fetch(server.url("faces.tar"), tmp_path / "x", sleep=Waits())
    assert server.ranges() == [None, None]


def test_a_wrong_checksum_is_tried_once_more(server: FaultyServer, tmp_path: Path) -> None:
    server.always = Fault(other=OTHER)
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(DataError) as error:
        fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA, sleep=Waits())
    for part in (server.url("faces.tar"), SHA, hashlib.sha256(OTHER).hexdigest(), "twice"):
        assert part in str(error.value)
    assert server.ranges() == [None, None]
    assert (tmp_path / "x").read_bytes() == b"old" and hidden(tmp_path) == []


def test_what_is_there_is_not_fetched_again(server: FaultyServer, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA.upper()) == SHA
    assert len(server.asked) == 1
    (tmp_path / "x").write_bytes(b"damaged")
    fetch(server.url("faces.tar"), tmp_path / "x", sha256=SHA)
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize(("expected", "requests"), [({"sha256": SHA}, 1), ({}, 4)])
def test_those_who_fetch_the_same_take_turns(
    server: FaultyServer, tmp_path: Path, expected: dict[str, str], requests: int
) -> None:
    """Who waited finds what it wanted; or, where it cannot know that, fetches anew and never touches what is there."""
    server.always = Fault(pause=(1000, 0.1))
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(fetch, server.url("faces.tar"), tmp_path / "x", **expected) for _ in range(4)]
        while not all(each.done() for each in found):
            assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size == len(DATA)
            time.sleep(0.001)
    assert {each.result() for each in found} == {SHA}
    assert len(server.asked) == requests and server.sent == requests * len(DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_silence_ends(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT", 0.1)
    for always in (Fault(delay=0.5), Fault(pause=(1000, 0.5))):
        server.always = always
        with pytest.raises(DataError, match=r"no answer for 0\.1 s"):
            fetch(server.url("faces.tar"), tmp_path / "x", attempts=2, sleep=Waits())


def test_no_secret_is_shown(server: FaultyServer, tmp_path: Path) -> None:
    server.always = Fault(status=403)
    url = server.url("faces.tar").replace("http://", "http://ann:pass%40word@") + "?X-Amz-Signature=deadbeef&id=7"
    with pytest.raises(DataError) as error:
        fetch(url, tmp_path / "x")
    text = f"{error.value}"
    assert "faces.tar?X-Amz-Signature=...&id=..." in text
    assert not any(secret in text for secret in ("ann", "pass", "word", "deadbeef"))
    sent = base64.b64decode(server.asked[0].headers["Authorization"].removeprefix("Basic "))
    assert sent == b"ann:pass@word", "the server is told what the URL says"


def test_credentials_do_not_follow_a_redirect(server: FaultyServer, tmp_path: Path) -> None:
    with http_server({"there": DATA}) as second:
        server.faults.append(Fault(status=302, headers={"Location": second.url("there")}))
        fetch(server.url("faces.tar").replace("http://", "http://ann:word@"), tmp_path / "x", sha256=SHA)
        assert "Authorization" in server.asked[0].headers
        assert "Authorization" not in second.asked[0].headers
    server.faults.append(Fault(status=302, headers={"Location": "ftp://host/x"}))
    with pytest.raises(DataError, match="less safe"):
        fetch(server.url("faces.tar"), tmp_path / "y")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/x.tar", "state the sha256"),
        ("https:///x", "not a URL"),
        ("https://[::1/x", "not a URL"),
        ("https://host:port/x", "not a URL"),
        ("nothing://host/x", "Protocol not known"),
    ],
)
def test_what_is_no_url(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        fetch(url, tmp_path / "x", sleep=Waits(), attempts=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_at_once(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(DataError, match="another 5,000,003 bytes, 1,000,000 are free"):
        fetch(server.url("faces.tar"), tmp_path / "x")
    assert server.sent < len(DATA) and list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_is_no_traceback(server: FaultyServer, tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from gen.remote.files import fetch
from gen.errors import DataError
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    fetch(sys.argv[1], Path(sys.argv[2]))
except DataError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, server.url("faces.tar"), str(tmp_path / "x")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "could not be written" in said and "ulimit" in said
    assert not (tmp_path / "x").exists()


def test_listing_writes_out_braces_without_asking() -> None:
    assert listing("https://h/train-{000008..000011}.tar") == [f"https://h/train-{k:06d}.tar" for k in range(8, 12)]
    assert listing("s3://b/{a,b}/{0..1}.tar") == [f"s3://b/{x}/{k}.tar" for x in "ab" for k in range(2)]
    assert listing("https://h/x.tar?version=[1]") == ["https://h/x.tar?version=[1]"]
    for place in ("x{5..1}", "x{0..99999999999}", "{0..9999}{0..9999}"):
        with pytest.raises(DataError, match="Check the braces"):
            listing(place)
    for place in ("https://h/shards/", "https://h/*.tar"):
        with pytest.raises(DataError, match="web server has no list"):
            listing(place)


def test_listing_of_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "c.txt", "d/e.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert listing(f"{tmp_path}/*.tar") == [f"{tmp_path}/{name}" for name in ("a.tar", "b.tar")]
    assert listing(f"{tmp_path}/") == [f"{tmp_path}/{name}" for name in ("a.tar", "b.tar", "c.txt", "d/e.tar")]
    assert listing(f"{tmp_path}/a.tar") == [f"{tmp_path}/a.tar"]
    for place in (f"{tmp_path}/*.zip", f"{tmp_path}/none/"):
        with pytest.raises(DataError, match=r"no (such )?file"):
            listing(place)


@pytest.fixture(scope="module")
def s3() -> Iterator[Bucket]:
    files = {"faces/a.tar": DATA, "faces/b.tar": b"b", "faces/deep/c.txt": b"c", "faces/": b""}
    with s3_server(files) as bucket:
        yield bucket


@pytest.fixture
def bucket(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    act_as(monkeypatch, s3.environment())
    return s3


def act_as(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # or the next one would be who the last one was
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


A = f"s3://{BUCKET}/faces/a.tar"


def test_s3_fetch_size_and_listing(bucket: Bucket, tmp_path: Path) -> None:
    assert fetch(A, tmp_path / "x", sha256=SHA, bytes=len(DATA)) == fetch(A, tmp_path / "y") == SHA
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes() == DATA
    assert size(A) == len(DATA)
    faces = f"s3://{BUCKET}/faces"
    assert listing(f"{faces}/*.tar") == listing(f"{faces}/{{a,b}}.tar") == [f"{faces}/a.tar", f"{faces}/b.tar"]
    assert listing(f"{faces}/") == [f"{faces}/a.tar", f"{faces}/b.tar", f"{faces}/deep/c.txt"]
    assert listing(A) == [A]


def test_s3_what_is_not_there(bucket: Bucket, tmp_path: Path) -> None:
    for url in (f"s3://{BUCKET}/faces/none.tar", "s3://no-such-bucket/x", f"s3://{BUCKET}/faces"):
        with pytest.raises(DataError, match=f"^{url}: (there is no such file|is a folder)"):
            fetch(url, tmp_path / "x", sleep=Waits())
    for url in (f"s3://{BUCKET}/none/", f"s3://{BUCKET}/faces/*.zip", "s3://no-such-bucket/"):
        with pytest.raises(DataError, match=r"no (such )?file"):
            listing(url, sleep=Waits())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_s3_wrong_credentials(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    act_as(monkeypatch, {wrong: "AKIAWRONGWRONGWRONG1"})
    waits = Waits()
    for attempt in (lambda: fetch(A, tmp_path / "x", sleep=waits), lambda: listing(f"s3://{BUCKET}/", sleep=waits)):
        with pytest.raises(DataError, match=r"access denied.*AWS_ACCESS_KEY_ID") as error:
            attempt()
        assert "AKIAWRONG" not in str(error.value) and bucket.secret not in str(error.value)
    assert waits == []


def test_s3_no_credentials(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act_as(monkeypatch, {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "HOME": str(tmp_path)})
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DataError, match=r"Unable to locate credentials.*AWS_ACCESS_KEY_ID"):
        fetch(A, tmp_path / "x", sleep=Waits())


def test_s3_through_a_line_that_breaks(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit-equal through three breaks; after some more a clear error, and the same command goes on from there."""
    monkeypatch.setattr(object_store, "CHUNK", MB)  # ranges of 1 MiB, so that there is something to go on from
    with Line(bucket.port) as line:
        act_as(monkeypatch, bucket.environment(line.port))
        waits = Waits()
        line.breaks.extend([100, 700_000, 1_000])
        fetch(A, tmp_path / "x", sha256=SHA, sleep=waits)
        assert (tmp_path / "x").read_bytes() == DATA and waits and not line.breaks
        line.down = len(DATA) + 4 * MB
        with pytest.raises(DataError, match="gave up after 2 failed attempts"):
            fetch(A, tmp_path / "y", sha256=SHA, sleep=waits, attempts=2)
        line.down = None
        have = (tmp_path / ".y.part").stat().st_size
        assert 0 < have < len(DATA) and not (tmp_path / "y").exists()
        told = []
        fetch(A, tmp_path / "y", sha256=SHA, progress=lambda *now: told.append(now[0]))
        assert (tmp_path / "y").read_bytes() == DATA and told[0] == min(have + MB, len(DATA))


def test_s3_server_that_is_away(monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> None:
    act_as(monkeypatch, bucket.environment(port=9))
    waits = Waits()
    with pytest.raises(DataError, match=r"gave up after 3 failed attempts.*Could not connect"):
        size(A, attempts=3, sleep=waits)
    assert len(waits) == 2
