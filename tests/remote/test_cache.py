"""A cache of remote shards: what it gives is right and its directory never outgrows its bound, whoever dies."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gen.errors import DataError
from gen.remote import cache as caching
from gen.remote.cache import Cache, Shard, default_directory
from gen.remote.room import Room, entry_name
from tests.remote.servers import Fault, FaultyServer, http_server

SIZE = 100_000
CONTENTS = [random.Random(k).randbytes(SIZE) for k in range(12)]


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with http_server({f"{k}.tar": contents for k, contents in enumerate(CONTENTS)}) as running:
        yield running


def shards(server: FaultyServer) -> list[Shard]:
    return [
        Shard(name, server.url(name), len(contents), hashlib.sha256(contents).hexdigest())
        for name, contents in server.files.items()
    ]


def in_files(directory: Path) -> int:
    """Bytes of all files, also of those on their way; a file that leaves while we look counts nothing."""
    total = 0
    for path in directory.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def here(cache: Cache) -> set[int]:
    """The shards that are in the directory, whole."""
    entries = [entry_name(shard.name, shard.bytes, shard.sha256) for shard in cache._shards]
    return {number for number, entry in enumerate(entries) if (cache.directory / entry).exists()}


def use(cache: Cache, *numbers: int) -> None:
    with cache.pinned(numbers) as paths:
        assert [path.read_bytes() for path in paths] == [CONTENTS[number] for number in numbers]


def eventually(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen within 10 s"
        time.sleep(0.005)


def test_shards_are_fetched_once_and_used_again_by_the_next_run(server: FaultyServer, tmp_path: Path) -> None:
    cache = Cache(shards(server), tmp_path / "deep" / "cache", limit=5 * SIZE)
    use(cache, 3, 1, 3)
    use(cache, 1)
    assert [asked.path for asked in server.asked] == ["/3.tar", "/1.tar"]
    again = Cache(shards(server), tmp_path / "deep" / "cache", limit=5 * SIZE)
    use(again, 1, 3)
    assert len(server.asked) == 2


def test_the_longest_unused_goes_first(server: FaultyServer, tmp_path: Path) -> None:
    cache = Cache(shards(server), tmp_path, limit=3 * SIZE)
    for number in (0, 1, 2, 0, 3):
        use(cache, number)
    assert here(cache) == {0, 2, 3}
    use(cache, 4)
    assert here(cache) == {0, 3, 4}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    pattern=st.lists(st.integers(0, 99), max_size=25),
    spare=st.integers(0, 15),
)
def test_it_asks_for_what_a_model_of_it_asks_for(tmp_path_factory, sizes, pattern, spare) -> None:
    files = {f"{k}.tar": bytes([k]) * size for k, size in enumerate(sizes)}
    limit = max(sizes) + spare
    with http_server(files) as server:
        cache = Cache(shards(server), tmp_path_factory.mktemp("cache"), limit=limit)
        expected, model = [], {}
        for access in pattern:
            number = access % len(sizes)
            with cache.pinned([number]) as (path,):
                assert path.read_bytes() == files[f"{number}.tar"]
            if number not in model:
                expected.append(f"/{number}.tar")
                while sum(model.values()) + sizes[number] > limit:
                    del model[next(iter(model))]
            model[number] = model.pop(number, sizes[number])  # to the end: just used
            assert here(cache) == set(model) and in_files(cache.directory) <= limit
        assert [asked.path for asked in server.asked] == expected


def test_what_is_pinned_stays(server: FaultyServer, tmp_path: Path) -> None:
    cache = Cache(shards(server), tmp_path, limit=3 * SIZE)
    with cache.pinned([0]) as (path,):
        for number in range(1, 10):
            use(cache, number)
            assert here(cache) >= {0, number}
        assert path.read_bytes() == CONTENTS[0]
    use(cache, 10, 11)
    use(cache, 9)
    assert 0 not in here(cache)


def test_no_room_says_the_numbers(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "PATIENCE", 0.05)
    cache = Cache(shards(server), tmp_path, limit=3 * SIZE)
    with (
        cache.pinned([0, 1]),
        pytest.raises(DataError, match=r"no room for 2.tar, 3.tar: .* hold 300,000 bytes, .* 0.05 s 300,000"),
        cache.pinned([2, 3]),
    ):
        pass
    use(cache, 2, 3)
    with pytest.raises(DataError, match=r"400,000 bytes are needed at once, but this cache may hold 300,000\. Raise"):
        use(cache, 0, 1, 2, 3)
    with pytest.raises(DataError, match=r"0\.tar: 100,000 bytes .* hold 99,999\. Raise its limit, or write smaller"):
        Cache(shards(server), tmp_path / "other", limit=SIZE - 1)


def test_waiting_for_room(server: FaultyServer, tmp_path: Path) -> None:
    """Two that want two shards each, where three fit: one waits for the other, and neither for ever."""
    cache = Cache(shards(server), tmp_path, limit=3 * SIZE)
    threads = [threading.Thread(target=lambda k=k: [use(cache, k, k + 1) for _ in range(5)]) for k in (0, 2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert in_files(tmp_path) <= 3 * SIZE


def test_many_that_want_one_shard_fetch_it_once(server: FaultyServer, tmp_path: Path) -> None:
    server.always = Fault(pause=(1000, 0.1))
    caches = [Cache(shards(server), tmp_path, limit=3 * SIZE) for _ in range(2)]  # as two processes would have
    threads = [threading.Thread(target=use, args=(cache, 5)) for cache in caches * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    use(caches[0], 5)


def test_room_is_made_by_one_at_a_time(server: FaultyServer, tmp_path: Path) -> None:
    cache = Cache(shards(server), tmp_path, limit=3 * SIZE)
    thread = threading.Thread(target=use, args=(cache, 5))
    with Room(tmp_path, 3 * SIZE).alone():  # as another process would have it
        thread.start()
        time.sleep(0.1)
        assert server.asked == [] and here(cache) == set()
    thread.join()
    assert here(cache) == {5}


@pytest.mark.parametrize("damage", ["cut", "flipped", "grown", "emptied"])
def test_a_damaged_file_is_replaced(server: FaultyServer, tmp_path: Path, damage: str) -> None:
    use(Cache(shards(server), tmp_path, limit=3 * SIZE), 0, 1)
    path = tmp_path / entry_name("0.tar", SIZE, hashlib.sha256(CONTENTS[0]).hexdigest())
    flipped = CONTENTS[0][:500] + bytes([CONTENTS[0][500] ^ 1]) + CONTENTS[0][501:]
    path.write_bytes({"cut": CONTENTS[0][:-1], "flipped": flipped, "grown": flipped + b"more", "emptied": b""}[damage])
    cache = Cache(shards(server), tmp_path, limit=3 * SIZE)
    use(cache, 0)
    use(cache, 0, 1)
    assert [asked.path for asked in server.asked] == ["/0.tar", "/1.tar", "/0.tar"]


def test_what_cannot_be_had_is_an_error_and_leaves_nothing(server: FaultyServer, tmp_path: Path) -> None:
    cache = Cache(shards(server), tmp_path, limit=3 * SIZE, attempts=2, sleep=lambda _: None)
    for always, reason in (
        (Fault(other=bytes(SIZE)), "sha256 of what arrives"),
        (Fault(status=404), "404"),
        (Fault(status=503), "gave up after 2"),
    ):
        server.always = always
        with pytest.raises(DataError, match=reason):
            use(cache, 0)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    server.always = Fault()
    use(cache, 0)


def test_prefetch(server: FaultyServer, tmp_path: Path) -> None:
    cache = Cache(shards(server), tmp_path, limit=4 * SIZE)
    use(cache, 9, 10)
    cache.prefetch([3, 4, 5])
    eventually(lambda: {3, 4, 5} <= here(cache))
    assert len(server.asked) == 5 and 10 in here(cache), "what was used longest ago made room"
    use(cache, 3, 4, 5)
    assert len(server.asked) == 5, "they were here already"
    # More than fits: the first ones are not evicted for the last ones.
    cache.prefetch([0, 1, 2, 6, 7, 8])
    eventually(lambda: not cache._workers)
    assert here(cache) == {0, 1, 2, 6}
    for number in (0, 1, 2, 6):
        use(cache, number)
    assert len(server.asked) == 9


def test_prefetch_leaves_errors_to_those_who_need_the_shard(server: FaultyServer, tmp_path: Path) -> None:
    cache = Cache(shards(server), tmp_path, limit=4 * SIZE, threads=1)
    server.faults.append(Fault(status=404))
    cache.prefetch([3, 4])
    eventually(lambda: here(cache) == {4} and not cache._workers)
    server.always = Fault(status=404)
    with pytest.raises(DataError, match="404"):
        use(cache, 3)
    # A later call takes the place of what an earlier one named.
    server.always = Fault(delay=0.1)
    cache.prefetch([0, 1, 2, 5, 6, 7])
    cache.prefetch([8])
    eventually(lambda: 8 in here(cache) and not cache._workers)
    assert not here(cache) & {2, 5, 6, 7}


def test_the_directory(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Cache(shards(server), tmp_path, limit=5 * SIZE), 0, 1, 2)
    cache = Cache(shards(server), tmp_path, limit=2 * SIZE)  # a lower limit holds from the start
    assert here(cache) == {1, 2}
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match=r"thesis\.tex: .* Name an empty directory"):
        Cache(shards(server), tmp_path, limit=SIZE)
    assert (tmp_path / "thesis.tex").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg" / "gen" / "shards"
    with pytest.raises(DataError, match="could not be written: Not a directory"):
        Cache(shards(server), tmp_path / "thesis.tex" / "cache")


def test_names_of_two_data_sets_do_not_meet(tmp_path: Path) -> None:
    for contents in (b"one", b"two"):
        with (
            http_server({"train/000000.tar": contents}) as server,
            Cache(shards(server), tmp_path, limit=10).pinned([0]) as (path,),
        ):
            assert path.read_bytes() == contents and path.name.endswith("-3-000000.tar")


WORKER = """
import hashlib, random, sys, threading
from pathlib import Path
from gen.remote.cache import Cache, Shard

url, directory, limit, count, seed = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])
contents = [random.Random(k).randbytes(100_000) for k in range(12)]
shards = [Shard(f"{k}.tar", f"{url}{k}.tar", len(c), hashlib.sha256(c).hexdigest()) for k, c in enumerate(contents)]
cache = Cache(shards, directory, limit=limit)
done = []

def work(thread):
    rng = random.Random(1000 * seed + thread)
    for _ in range(count):
        numbers = rng.sample(range(12), rng.randint(1, 2))
        if rng.random() < 0.3:
            cache.prefetch(rng.sample(range(12), 3))
        with cache.pinned(numbers) as paths:
            assert [path.read_bytes() for path in paths] == [contents[k] for k in numbers]
        done.append(numbers)

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(done), flush=True)
"""


def worker(server: FaultyServer, directory: Path, limit: int, count: int, seed: int) -> subprocess.Popen[str]:
    arguments = [server.url(""), str(directory), str(limit), str(count), str(seed)]
    command = [sys.executable, "-c", WORKER, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def go(*workers: subprocess.Popen[str]) -> None:
    for process in workers:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in workers:
        process.stdin.write("go\n")
        process.stdin.flush()


def test_four_threads_of_two_processes_never_exceed_the_bound(server: FaultyServer, tmp_path: Path) -> None:
    """Random access to 12 shards with room for 6, while a third process is killed: every read and look is right."""
    limit, count = 6 * SIZE, 25
    server.always = Fault(pause=(SIZE // 2, 0.001))
    workers = [worker(server, tmp_path, limit, count, seed) for seed in range(2)]
    victim = worker(server, tmp_path, limit, 10 * count, 2)
    go(*workers, victim)
    looks = []
    while any(process.poll() is None for process in workers):
        looks.append(in_files(tmp_path))
        if len(server.asked) > 50:
            victim.kill()
        time.sleep(0.001)
    for process in workers:
        said, trouble = process.communicate()
        assert said == f"{4 * count}\n" and process.returncode == 0, trouble
    assert victim.wait() != 0, "it was killed before it was done"
    victim.communicate()
    assert len(looks) > 50 and max(looks) <= limit, "the bound held at every look"
    assert max(looks) > limit / 2, "and the room was made use of"


def sizes(directory: Path) -> list[int]:
    """Of the downloads that are under way; one may be gone before it is looked at."""
    found = []
    for path in directory.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.stat().st_size)
    return found


def test_killed_in_the_middle_of_a_download(server: FaultyServer, tmp_path: Path) -> None:
    """The next one goes on where the killed one was; and where that shard is not wanted, it makes room."""
    server.always = Fault(pause=(SIZE // 2, 30))
    process = worker(server, tmp_path, 3 * SIZE, 10, 0)
    go(process)
    half = SIZE // 2
    eventually(lambda: half in sizes(tmp_path))
    process.kill()
    process.communicate()
    server.always, known = Fault(), shards(server)
    parts = [tmp_path / f".{entry_name(s.name, s.bytes, s.sha256)}.part" for s in known]
    begun = next(k for k, part in enumerate(parts) if part.exists() and part.stat().st_size == half)
    cache = Cache(known, tmp_path, limit=3 * SIZE)
    server.asked.clear()
    use(cache, begun)
    assert server.asked[0].range == f"bytes={half}-"
    for number in range(12):
        use(cache, number)
        assert in_files(tmp_path) <= 3 * SIZE
    assert here(cache) == {9, 10, 11} and not list(tmp_path.glob(".*.part"))
