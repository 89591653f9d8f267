"""Who writes: the images of a mapped file, stored as raw arrays or as PNG, by one process or two.

Ours takes three checksums of every sample, indexes it and syncs every file to the disk; WebDataset's ShardWriter does
none of that. Each compresses PNG as it does by default. Processes are told where the images are, and map them.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webdataset as wds
from numpy.typing import NDArray

from benchmarks.data.cases import Labelled, Rows, mapped
from benchmarks.data.clock import Rate, call_rate, in_turns
from gen.shards.write import Format, write_shards
from pipelines.writers import writers

PER_SHARD = 1000


def write_ours(root: Path, rows: Rows, encoding: str, processes: int) -> None:
    """Write our shards, as ``gen data shard`` does."""
    with writers(processes) as run:
        write_shards(rows.collection(), root, form=Format(encode=encoding, samples=PER_SHARD), run=run)


def write_webdataset(root: Path, rows: Rows, encoding: str, processes: int) -> None:
    """Write with ShardWriter; several processes write a part each."""
    parts = np.array_split(np.arange(len(rows.labels)), processes)
    if processes == 1:
        _write_part(root, rows, encoding, parts[0])
        return
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=_write_part, args=(root / str(k), rows, encoding, p)) for k, p in enumerate(parts)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a writer of WebDataset failed with {process.exitcode}")


def _write_part(folder: Path, rows: Rows, encoding: str, part: NDArray[np.int64]) -> None:
    folder.mkdir(parents=True)
    images = mapped(rows.file)
    with wds.ShardWriter(f"{folder}/%06d.tar", maxcount=PER_SHARD, verbose=0) as writer:
        for row in part.tolist():
            image = images[row]
            if encoding == "png" and image.shape[-1] == 1:
                image = image[..., 0]
            writer.write({"__key__": f"{row:08d}", f"image.{encoding}": image, "cls": int(rows.labels[row])})


def compare(root: Path, data: Labelled, encoding: str, rounds: int) -> tuple[dict[str, Rate], float]:
    """Samples per second of both with one writer and two, the fork server of ours started before; bytes a sample."""
    count = len(data.images)
    np.save(root / "images.npy", data.images)
    rows = Rows(root / "images.npy", data.labels)
    write_ours(root / "warm", rows, encoding, 2)
    size = sum(path.stat().st_size for path in (root / "warm").rglob("*.tar")) / count

    def once(write: Callable[[Path, Rows, str, int], None], processes: int) -> Callable[[], Rate]:
        def measured() -> Rate:
            shutil.rmtree(root / "written", ignore_errors=True)
            os.sync()  # what the others left to be written is not ours to wait for
            return call_rate(count, lambda: write(root / "written", rows, encoding, processes))

        return measured

    rates = in_turns(
        {
            f"{name}, {processes} writer{'s' if processes > 1 else ''}": once(write, processes)
            for name, write in {"ours": write_ours, "webdataset": write_webdataset}.items()
            for processes in (1, 2)
        },
        rounds,
    )
    return rates, size


def disk_rate(root: Path, size: int, files: int) -> float:
    """Bytes per second of plain files of ``size`` bytes, synced to the disk, as `dd conv=fsync` writes them."""
    contents = os.urandom(size)
    start = time.perf_counter()
    for number in range(files):
        with (root / f"plain-{number}").open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
    return files * size / (time.perf_counter() - start)
