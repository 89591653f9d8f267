"""Readers give the samples they are asked for, from any thread, whatever happens to the files in the meantime."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.data.manifest import read_manifest
from gen.data.reader import Indexed, Reader, Resident, everything, open_split
from gen.data.reading import spec_of
from gen.data.spaces import DataSpec, Space
from gen.errors import DataError
from gen.shards.write import Format, write_shards
from tests.data.tiny import tiny
from tests.shards.rich import arrays_of, assert_drawn, filed, photos, rich

RAW = rich({"train": 50, "test": 5})
ARRAYS = arrays_of(RAW)
KINDS = {"mapped": 0, "resident": 1 << 30}


@pytest.fixture(scope="module", params=["npy", "png"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards") / "x"
    write_shards(RAW, root, form=Format(encode=request.param, samples=7))
    return root


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest, root: Path) -> Reader:
    return open_split(root, "train", resident_bytes=KINDS[request.param])


def test_what_is_known_without_reading(reader: Reader, root: Path) -> None:
    assert len(reader) == 50
    assert reader.shard_sizes == (7, 7, 7, 7, 7, 7, 7, 1)
    assert reader.digest == reader.manifest.digest == read_manifest(root).digest
    assert reader.quarantined == ()
    np.testing.assert_array_equal(reader.labels, ARRAYS.labels)
    np.testing.assert_array_equal(reader.attributes, ARRAYS.attributes)  # float64, as they were given


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_rows_in_any_order_as_often_as_asked(root: Path, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, 49), min_size=1, max_size=80)))
    for budget in KINDS.values():
        assert_drawn(open_split(root, "train", resident_bytes=budget).batch(rows), ARRAYS, rows)


def test_types_are_those_of_the_schema(reader: Reader) -> None:
    images, labels, targets, captions, attributes = reader.batch(np.arange(3))
    assert images.dtype == targets.dtype == captions.dtype == torch.uint8
    assert (labels.dtype, attributes.dtype) == (torch.int64, torch.float32)
    assert (images.shape, targets.shape, captions.shape, attributes.shape) == (
        (3, 1, 4, 4),
        (3, 3, 3, 5),
        (3, 300),
        (3, 2),
    )
    assert all(field.is_contiguous() for field in (images, labels, targets, captions, attributes))


def test_a_batch_may_be_written_to(reader: Reader) -> None:
    """Augmentations do, in place."""
    for field in reader.batch(np.arange(5)):
        field.zero_()
    assert_drawn(reader.batch(np.arange(5)), ARRAYS, np.arange(5))


def test_threads_do_not_disturb_each_other(reader: Reader) -> None:
    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rows = rng.integers(0, 50, rng.integers(1, 30))
            assert_drawn(reader.batch(rows), ARRAYS, rows)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(8)))


def test_expecting_rows_changes_nothing(reader: Reader) -> None:
    reader.expect(np.array([49, 0, 3]))
    assert_drawn(reader.batch(np.array([1])), ARRAYS, np.array([1]))


@pytest.mark.parametrize("rows", [[-1], [50], [0, 50], [3, -50]])
def test_rows_that_are_not_there(reader: Reader, rows: list[int]) -> None:
    with pytest.raises(IndexError, match="of a split of 50 samples"):
        reader.batch(np.array(rows))


def test_the_budget_is_exact(root: Path) -> None:
    needed = 50 * (4 * 4 + 3 * 5 * 3 + 300)
    assert isinstance(open_split(root, "train", resident_bytes=needed), Resident)
    assert isinstance(open_split(root, "train", resident_bytes=needed - 1), Indexed)


def test_shards_that_are_replaced_while_they_are_read(tmp_path: Path) -> None:
    """The reader goes on with what it has opened."""
    write_shards(RAW, tmp_path / "x", form=Format(samples=7))
    reader = open_split(tmp_path / "x", "train", resident_bytes=0)
    write_shards(rich({"train": 50}, seed=1), tmp_path / "x", form=Format(samples=7))
    assert_drawn(reader.batch(np.arange(50)), ARRAYS, np.arange(50))
    assert open_split(tmp_path / "x", "train").digest != reader.digest


def test_more_shards_than_a_process_may_open_files(tmp_path: Path) -> None:
    """A thousand shards are a million images, and 1,024 files a common limit."""
    write_shards(tiny({"train": 300}), tmp_path / "x", form=Format(samples=1))
    code = f"""
        import resource
        from pathlib import Path
        import numpy as np
        from gen.data.reader import open_split
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        reader = open_split(Path({str(tmp_path / "x")!r}), "train", resident_bytes=0)
        assert len(reader.batch(np.arange(300)).images) == 300
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_number_of_damages_is_told(tmp_path: Path) -> None:
    write_shards(RAW, tmp_path / "x", form=Format(samples=7))
    for k in (1, 4):
        (tmp_path / "x" / "train" / f"shard-{k:06d}.tar").unlink()
    with pytest.raises(DataError, match=r"shard-000001\.tar: is not there.*2 damages in all; `gen data verify`"):
        open_split(tmp_path / "x", "train")
    assert len(open_split(tmp_path / "x", "test")) == 5, "the other split is sound"


def test_no_shards_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json: is not there, so there are no shards to read"):
        open_split(tmp_path, "train")


def test_everything_at_once(root: Path) -> None:
    images, labels = everything(root, "test")
    arrays = arrays_of(RAW, "test")
    np.testing.assert_array_equal(images.numpy(), arrays.images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(labels.numpy(), arrays.labels)


def test_everything_of_data_without_labels(tmp_path: Path) -> None:
    write_shards(filed(photos(3)), tmp_path / "x")
    images, labels = everything(tmp_path / "x", "train")
    assert images.shape == (3, 3, 6, 8) and labels is None


def test_shapes_of_images_and_of_videos(tmp_path: Path) -> None:
    write_shards(rich(shape=(2, 4, 5, 3)), tmp_path / "x")
    manifest = read_manifest(tmp_path / "x")
    assert manifest.shape == (3, 2, 4, 5)
    space = Space.parse("levels(4)")
    assert spec_of(manifest, space, videos=True) == DataSpec((3, 4, 5), len(manifest.classes), space, frames=2)
    with pytest.raises(DataError, match=r"holds videos of shape \(3, 2, 4, 5\), where images \(C, H, W\) are needed"):
        spec_of(manifest, space)
    write_shards(tiny(), tmp_path / "y")
    manifest = read_manifest(tmp_path / "y")
    assert spec_of(manifest, space) == DataSpec((1, 4, 4), len(manifest.classes), space)
    with pytest.raises(DataError, match=r"holds images of shape \(1, 4, 4\), where videos \(C, T, H, W\) are needed"):
        spec_of(manifest, space, videos=True)
