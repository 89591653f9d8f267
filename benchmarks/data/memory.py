"""How much memory reading and writing take, and that ten times the data hardly change it.

    python -m benchmarks.data.memory writing ROOT COUNT
    python -m benchmarks.data.memory reading ROOT COUNT

Each prints, in bytes, the peak of the memory that the process has to itself (``RssAnon``) above what it had before it
began, and the peak of all its memory. The latter includes the pages of mapped tars; they belong to the kernel's cache,
which takes them back when memory is short. What is bounded is the former: 16 MB, and 400 bytes for each sample. When
reading that is the index and the order of a few epochs, when writing it is the index and the digest of the pixels.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.data.cases import CLASSES, SOURCE
from gen.data.loader import Loader, arrange
from gen.data.reader import open_split
from gen.data.sample import Collection, Listed, Sample, Split
from gen.shards.write import write_shards

SHAPE = (64, 64, 3)
BATCH = 64
FIXED, PER_SAMPLE = 16 << 20, 400


class Peak(NamedTuple):
    """Attributes: samples; bytes of the tars; bytes of private memory above those at the start; bytes of all memory."""

    samples: int
    stored: int
    private: int
    all: int

    @property
    def bound(self) -> int:
        """Bytes of private memory that it may take."""
        return FIXED + self.samples * PER_SAMPLE


def peak(what: str, root: Path, count: int) -> Peak:
    """Do it in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.data.memory", what, str(root), str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    stored = sum(path.stat().st_size for path in root.glob("train/*.tar"))
    private, everything = map(int, done.stdout.split())
    return Peak(count, stored, private, everything)


def compare(root: Path, count: int) -> dict[str, list[Peak]]:
    """The peaks of writing and of reading, at so many samples and at ten times as many."""
    found: dict[str, list[Peak]] = {"writing": [], "reading": []}
    for samples in (count, 10 * count):
        for what, peaks in found.items():
            peaks.append(peak(what, root / str(samples), samples))
    return found


def _write(root: Path, count: int) -> None:
    labels = np.arange(count) % 10
    split = Split(Listed(range(count), _made), labels)
    write_shards(Collection(SOURCE, {"train": split}, CLASSES), root)


def _made(number: int) -> Sample:
    """An image that exists only while it is written."""
    image = np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)
    return Sample(image=image, label=number % 10)


def _read(root: Path, count: int) -> None:
    reader = open_split(root, "train", resident_bytes=0)
    loader = Loader(reader, arrange(reader, "shuffle", seed=0), batch=BATCH, parts=(0,), of=1, prefetch=2)
    for _ in range(3 * count // BATCH):
        next(loader)
    loader.close()


def _status(entry: str) -> int:
    """Bytes of an entry in the kernel's account of this process."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{entry}:")[1].split()[0])


def main() -> None:
    what, root, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    start = highest = _status("RssAnon")
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.005):
            highest = max(highest, _status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    {"reading": _read, "writing": _write}[what](root, count)
    done.set()
    watcher.join()
    print(highest - start, _status("VmHWM"))


if __name__ == "__main__":
    main()
