"""Shards are tars that anyone can read, equal byte for byte, and whole or not there at all."""

import errno
import os
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.data import shards
from gen.data.manifest import manifest_digest, read_manifest
from gen.data.raw import Raw
from gen.data.reader import open_split
from gen.data.shards import write_shards
from gen.data.verify import verify
from gen.errors import DataError, RecipeError
from tests.data.tiny import tiny, tree, with_webdataset


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 12),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 4),
    classes=st.sampled_from([0, 1, 3, 12000]),
    per_shard=st.integers(1, 13),
)
def test_round_trip(tmp_path_factory, count, height, width, channels, classes, per_shard) -> None:
    """Stock WebDataset, our two readers and the arrays that were written agree, for any shape and any cut."""
    raw = tiny({"train": count}, (height, width, channels), classes)
    root = tmp_path_factory.mktemp("shards") / "x"
    write_shards(raw, root, samples_per_shard=per_shard)
    images, labels = raw.splits["train"].images, raw.splits["train"].labels

    samples = with_webdataset(root / "train")
    assert [sample["__key__"] for sample in samples] == [f"{k:08d}" for k in range(count)]
    np.testing.assert_array_equal(np.stack([sample["image.npy"] for sample in samples]), images)
    assert [sample.get("cls") for sample in samples] == ([None] * count if labels is None else labels.tolist())

    rows = np.random.default_rng(0).integers(0, count, 20)
    for budget in (0, 1 << 20):
        reader = open_split(root, "train", resident_bytes=budget)
        x, y = reader.batch(rows)
        assert (len(reader), reader.shape, reader.num_classes) == (count, (channels, height, width), classes)
        np.testing.assert_array_equal(x.numpy(), images[rows].transpose(0, 3, 1, 2))
        assert (y is None) if labels is None else (y.numpy() == labels[rows]).all()
    assert verify(root) == []


def test_the_same_data_give_the_same_bytes(tmp_path, monkeypatch) -> None:
    raw = tiny({"train": 12, "test": 3})
    first = write_shards(raw, tmp_path / "a", samples_per_shard=5)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    second = write_shards(raw, tmp_path / "b", samples_per_shard=5)
    assert first == second == manifest_digest(tmp_path / "a")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    other = write_shards(tiny({"train": 12, "test": 3}, seed=1), tmp_path / "c", samples_per_shard=5)
    assert other != first


def test_the_tars_are_plain_ustar(tmp_path) -> None:
    """Nothing in a header depends on who wrote it, and the headers are those of Python's own tar writer."""
    write_shards(tiny(), tmp_path / "x")
    path = tmp_path / "x" / "train" / "shard-000000.tar"
    with tarfile.open(path, "r:") as tar:
        members = tar.getmembers()
        rebuilt = tmp_path / "again.tar"
        with tarfile.open(rebuilt, "w", format=tarfile.USTAR_FORMAT) as again:
            for member in members:
                again.addfile(member, tar.extractfile(member))
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert [m.name for m in members] == sorted(m.name for m in members)
    content = path.read_bytes()
    assert rebuilt.read_bytes()[: len(content)] == content


def test_the_manifest_says_what_is_in_the_shards(raw_digits: Raw, digits_shards: Path) -> None:
    manifest = read_manifest(digits_shards)
    assert (manifest.shape, manifest.classes) == ((1, 28, 28), tuple("0123456789"))
    assert manifest.source == raw_digits.source
    for name, split in raw_digits.splits.items():
        info, scaled = manifest.splits[name], split.images / 255
        np.testing.assert_allclose(info.mean, [scaled.mean()], rtol=1e-12)
        np.testing.assert_allclose(info.std, [scaled.std()], rtol=1e-12)
        assert info.class_counts == tuple(np.bincount(split.labels))
        assert info.samples == len(split.images) == sum(shard.samples for shard in info.shards)
    # The identity of the default data: were it to change, no two results would be comparable any more.
    assert manifest.splits["train"].pixels_sha256 == "503ecff158350fcdc17fadd07edb595eb6b594b2521f662b6a397dc28ef9aa57"


def test_statistics_are_per_channel_and_do_not_depend_on_the_cut(tmp_path) -> None:
    raw = tiny({"train": 11}, (3, 5, 3))
    for per_shard in (1, 4, 100):
        write_shards(raw, tmp_path / str(per_shard), samples_per_shard=per_shard)
    infos = [read_manifest(tmp_path / name).splits["train"] for name in ("1", "4", "100")]
    assert len({(info.mean, info.std, info.class_counts, info.pixels_sha256) for info in infos}) == 1
    scaled = raw.splits["train"].images / 255
    np.testing.assert_allclose(infos[0].mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(infos[0].std, scaled.std((0, 1, 2)), rtol=1e-12)


def test_no_samples_in_a_shard_is_refused(tmp_path) -> None:
    with pytest.raises(RecipeError, match="samples_per_shard"):
        write_shards(tiny(), tmp_path / "x", samples_per_shard=0)


# ---- whole or not there ---------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path) -> Path:
    """Shards that are there already and must survive every failure."""
    write_shards(tiny(seed=1), tmp_path / "x", samples_per_shard=5)
    return tmp_path / "x"


def assert_untouched(root: Path, before: dict[str, bytes]) -> None:
    assert tree(root) == before
    assert verify(root) == []
    assert [path.name for path in root.parent.iterdir()] == [root.name], "something was left beside the shards"


def test_shards_are_replaced_whole(old: Path) -> None:
    write_shards(tiny({"test": 3}), old)
    assert list(read_manifest(old).splits) == ["test"]
    assert verify(old) == []
    assert [path.name for path in old.parent.iterdir()] == [old.name]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failing_half_way_leaves_the_old_shards(old: Path, monkeypatch, error) -> None:
    before, real, calls = tree(old), shards._write_shard, []

    def fails_third(*args):
        calls.append(args)
        if len(calls) == 3:
            raise error
        return real(*args)

    monkeypatch.setattr(shards, "_write_shard", fails_third)
    with pytest.raises(DataError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write_shards(tiny(), old, samples_per_shard=5)
    if isinstance(error, OSError):
        assert str(old) in str(caught.value)
        assert "It needs 3" in str(caught.value)  # some 32,000 bytes: 15 records of 2,048 and three indices
        assert "Free some space" in str(caught.value)
    assert_untouched(old, before)


def test_a_disk_that_reports_full_only_when_synced(old: Path, monkeypatch) -> None:
    """As network file systems do: every write has succeeded by then."""
    before = tree(old)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="full"):
        write_shards(tiny(), old)
    assert_untouched(old, before)


def test_a_real_limit_on_the_size_of_files(old: Path) -> None:
    """The kernel stops the write in the middle of a shard (RLIMIT_FSIZE)."""
    before = tree(old)
    code = f"""
        import resource
        from pathlib import Path
        from gen.data.shards import write_shards
        from gen.errors import DataError
        from tests.data.tiny import tiny
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            write_shards(tiny(), Path({str(old)!r}))
        except DataError as error:
            raise SystemExit(f"DataError: {{error}}")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DataError" in done.stderr and str(old) in done.stderr and "ulimit -f" in done.stderr, done.stderr
    assert_untouched(old, before)


def test_a_killed_writer_leaves_the_old_shards_and_does_not_stop_the_next(old: Path) -> None:
    before = tree(old)
    code = f"""
        import os, signal
        from pathlib import Path
        from gen.data import shards
        from tests.data.tiny import tiny
        shards.Statistics.describe = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        shards.write_shards(tiny(), Path({str(old)!r}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    assert tree(old) == before
    digest = write_shards(tiny(), old)
    assert manifest_digest(old) == digest
    assert verify(old) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_place_that_cannot_be_written(tmp_path, monkeypatch, code) -> None:
    """Tests may run as root, whom no mode stops: the system call itself refuses."""

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match=r"x: could not be written.*hoose another place.*It needs"):
        write_shards(tiny(), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_place_below_a_file(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        write_shards(tiny(), tmp_path / "file" / "x")


def test_a_directory_of_somebody_else_is_not_replaced(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds no manifest\.json, so it is not replaced"):
        write_shards(tiny(), tmp_path)
    assert tree(tmp_path) == {"thesis.tex": b"years of work"}
