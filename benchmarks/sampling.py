"""How fast do autoregressive models draw images? Against the naive loop: the whole network, on the whole images, for
every value.

    python -m benchmarks.sampling [--models NAME ...] [--counts N ...] [--repeats N] [--json]

One thread, single precision, default nets with random weights on 28 x 28 binary images. What is compared:

    naive    gen.inference.pixels.naive. Every one of its 784 calls costs the same, so the mean of 16 of them is
             multiplied; all of them take minutes for a recurrent net
    fast     ``model.sample``: pixel by pixel from what is remembered, or by fixed-point iteration

They take turns; medians over the repeats are printed, in seconds of CPU time, which on a machine that others use as
well is the only time that means anything. Before that, both draw whole images of 10 x 10 from the same noise, and the
run fails if one differs. The claims: see :data:`CLAIMS`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from gen.data.spaces import DataSpec, Space
from gen.inference.pixels import Canvas, naive
from gen.pixel_model import PixelModel
from gen.registry import build

SIDE, SMALL = 28, 10
CALLS = 16  # of the network that are timed
CLAIMS = {  # model -> images -> how many times as fast as the naive loop
    "pixelcnn": {1: 5.0, 64: 60.0},
    "gated_pixelcnn": {64: 10.0},
    "pixelcnn_pp": {64: 10.0},
    "row_lstm": {64: 10.0},
    "diagonal_bilstm": {64: 10.0},
}
Seconds = dict[int, dict[str, float]]


def made(name: str, side: int) -> PixelModel:
    """A model of its default size, for binary images."""
    torch.manual_seed(0)
    model = build(name, DataSpec((1, side, side), 0, Space.parse("binary_dynamic")))
    assert isinstance(model, PixelModel)
    return model.eval()


@torch.no_grad()
def check(name: str) -> None:
    """Both ways draw the same images from the same noise, or the program ends."""
    model = made(name, SMALL)
    blank = torch.zeros(4, 1, SMALL, SMALL)
    torch.manual_seed(1)
    reference = naive(lambda x, rows: model.outputs(x), Canvas.noisy(model.head, blank, blank.bool()))
    torch.manual_seed(1)
    if not torch.equal(model.sample(4), reference):
        raise SystemExit(f"{name}: fast and naive sampling drew different images")


def timed(call: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of a call, the mean of some."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


@torch.no_grad()
def measure(name: str, counts: list[int], repeats: int) -> Seconds:
    """Median CPU seconds of both, for every number of images."""
    check(name)
    model, seconds = made(name, SIDE), {}
    model.sample(2)  # warms up
    for count in counts:
        rounds = []
        for repeat in range(repeats):
            torch.manual_seed(repeat)
            x = model.sample(count)
            calls = SIDE * SIDE * timed(partial(model.outputs, x), CALLS)
            rounds.append((calls, timed(partial(model.sample, count))))
        slow, fast = (statistics.median(column) for column in zip(*rounds, strict=True))
        seconds[count] = {"naive": slow, "fast": fast, "ratio": slow / fast}
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(CLAIMS), help="registered names")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 64], help="numbers of images")
    parser.add_argument("--repeats", type=int, default=3, help="times that each is run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measure(name, arguments.counts, arguments.repeats) for name in arguments.models}
    if arguments.json:
        print(json.dumps({"repeats": arguments.repeats, "cpu_seconds": found, "claims": CLAIMS}, indent=1))
        return
    print(f"28 x 28 pixels, default nets, median CPU seconds of {arguments.repeats}, one thread; identical images")
    for name, seconds in found.items():
        for count, s in seconds.items():
            claim = CLAIMS.get(name, {}).get(count)
            verdict = "" if claim is None else f"   claim {claim:.0f}: {'holds' if s['ratio'] >= claim else 'MISSED'}"
            print(f"{name:18} {count:5} images {s['naive']:9.2f} naive {s['fast']:7.2f} {s['ratio']:7.1f} x{verdict}")


if __name__ == "__main__":
    main()
