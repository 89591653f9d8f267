"""How fast are shards read? Samples per second, one thread, of the same tars in the same run.

    python -m benchmarks.reading [--samples 20000] [--batch 64] [--repeats 5] [--json]

Compared, on synthetic 28 x 28 images in a temporary directory:

    webdataset, walk      stock WebDataset in stored order, the files of a sample as bytes
    webdataset, decode    the same with .decode(): arrays and integers
    mapped                our memory-mapped reader, batches in random order, crc32 of every sample checked
    mapped, unchecked     the same without the crc32
    resident              our reader of a split that is held in memory, batches in random order

The readers take turns, so that another process slows all of them down alike; medians over the repeats are printed.
The claim is that ``mapped`` is at least 20 times as fast as the faster of the two WebDataset lines, although those
neither check nor shuffle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import webdataset as wds

from gen.data.order import indices
from gen.data.raw import Raw, Source, Split
from gen.data.reader import Reader, open_split
from gen.data.shards import write_shards

CLAIM = 20.0


def synthetic(samples: int) -> Raw:
    """Noise of the size of MNIST digits: 28 x 28 grey levels and ten classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (samples, 28, 28, 1), dtype=np.uint8)
    split = Split(images, rng.integers(0, 10, samples))
    return Raw(Source("synthetic", "random numbers", "none", "none"), tuple("0123456789"), {"train": split})


def walk(tars: list[str], decode: bool) -> int:
    """Iterate over the tars once with stock WebDataset; returns the number of samples."""
    dataset = wds.WebDataset(tars, shardshuffle=False)
    return sum(1 for _ in (dataset.decode() if decode else dataset))


def shuffled(reader: Reader, batch: int, epochs: int) -> int:
    """Read ``epochs`` epochs in random order, in batches; returns the number of samples."""
    total = epochs * len(reader)
    for position in range(0, total, batch):
        reader.batch(indices(0, position, min(batch, total - position), len(reader)))
    return total


def rate(read: Callable[[], int]) -> float:
    """Samples per second of one call."""
    start = time.perf_counter()
    samples = read()
    return samples / (time.perf_counter() - start)


def measure(samples: int, batch: int, repeats: int) -> dict[str, float]:
    """Median samples per second of every reader."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "shards"
        write_shards(synthetic(samples), root)
        tars = [str(path) for path in sorted(root.glob("train/*.tar"))]
        mapped = open_split(root, "train", resident_bytes=0)
        unchecked = open_split(root, "train", resident_bytes=0, check=False)
        resident = open_split(root, "train")
        readers: dict[str, Callable[[], int]] = {
            "webdataset, walk": lambda: walk(tars, decode=False),
            "webdataset, decode": lambda: walk(tars, decode=True),
            "mapped": lambda: shuffled(mapped, batch, epochs=4),
            "mapped, unchecked": lambda: shuffled(unchecked, batch, epochs=4),
            "resident": lambda: shuffled(resident, batch, epochs=20),
        }
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(repeats):
            for name, read in readers.items():
                rates[name].append(rate(read))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000, help="images in the shards")
    parser.add_argument("--batch", type=int, default=64, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="times that every reader is run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="webdataset")
    rates = measure(arguments.samples, arguments.batch, arguments.repeats)
    base = max(rates["webdataset, walk"], rates["webdataset, decode"])
    if arguments.json:
        ratios = {name: value / base for name, value in rates.items()}
        print(
            json.dumps(
                {
                    "samples": arguments.samples,
                    "batch": arguments.batch,
                    "samples_per_second": rates,
                    "ratio": ratios,
                    "claim": CLAIM,
                },
                indent=1,
            )
        )
        return
    print(f"{arguments.samples:,} samples, batches of {arguments.batch}, median of {arguments.repeats}, one thread")
    for name, value in rates.items():
        print(f"{name:20}{value:12,.0f} samples/s {value / base:8.1f} x")
    print(f"claim: mapped at least {CLAIM:.0f} x: {'holds' if rates['mapped'] >= CLAIM * base else 'DOES NOT HOLD'}")


if __name__ == "__main__":
    main()
