"""How fast does a PixelCNN draw images? Every layer once per pixel against the network once per pixel, same images.

    python -m benchmarks.sampling [--counts 1 16 64] [--repeats 3] [--json]

One thread, single precision, the default ``pixelcnn`` with random weights on 28 x 28 binary images. Compared:

    naive     a call of the network for every pixel, on the window of the image that the pixel can depend on: already
              several times as fast as calling it on the whole image
    cached    ``PixelCNN.sample``: every layer computes every pixel once, from cached neighbours

Both draw from the same noise, and the run fails if an image differs. They take turns; medians over the repeats are
printed, in seconds of CPU time, which on a machine that others use as well is the only time that means anything.
``cached`` alone is also timed for 1,000 images, which is what evaluation draws. The claims: at least 60 times as fast
for 64 images, and 1,000 images in less than 10 seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.inference.pixels import Canvas, ancestral
from gen.models.autoregressive.pixelcnn import PixelCNN

SHAPE = (1, 28, 28)
CLAIM_COUNT, CLAIM = 64, 60.0
MANY, CLAIM_S = 1000, 10.0
KERNEL, BLOCKS = 7, 7  # the model's defaults, named here for the reach of a pixel


def naive(model: PixelCNN, count: int) -> Tensor:
    """``model.sample(count)`` with a call of the network for every pixel, on the part of the images that it sees."""
    blank = torch.zeros(count, *SHAPE)
    return ancestral(Cropped(model, blank.clone()), Canvas.noisy(model.head, blank, blank.bool()))


class Cropped:
    """:class:`gen.inference.pixels.Incremental` without a memory."""

    def __init__(self, model: PixelCNN, x: Tensor) -> None:
        self.model, self.x, self.reach = model, x, KERNEL // 2 + BLOCKS

    def read(self, i: int, j: int) -> Tensor:
        """See base."""
        top, left = max(0, i - self.reach), max(0, j - self.reach)
        seen = self.x[:, :, top : i + 1, left : j + self.reach + 1]
        return self.model.outputs(seen)[..., i - top, j - left]

    def write(self, i: int, j: int, values: Tensor) -> None:
        """See base."""
        self.x[:, :, i, j] = values


def timed(draw: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """CPU seconds of a call, and what it drew from the same seed as every other call."""
    torch.manual_seed(1)
    start = time.process_time()
    images = draw()
    return time.process_time() - start, images


def measure(counts: list[int], repeats: int) -> dict[int, dict[str, float]]:
    """Median CPU seconds of both for every number of images; of ``cached`` alone for :data:`MANY`."""
    torch.manual_seed(0)
    model = PixelCNN(DataSpec(SHAPE, 0, Space.parse("binary_dynamic")), kernel=KERNEL, blocks=BLOCKS)
    model.sample(2)  # warms up
    seconds: dict[int, dict[str, float]] = {}
    for count in counts:
        rounds = []
        for _ in range(repeats):
            slow, reference = timed(lambda count=count: naive(model, count))
            fast, images = timed(lambda count=count: model.sample(count))
            if not torch.equal(images, reference):
                raise SystemExit(f"{count} images: cached and naive sampling drew different ones")
            rounds.append((slow, fast))
        slows, fasts = zip(*rounds, strict=True)
        seconds[count] = {"naive": statistics.median(slows), "cached": statistics.median(fasts)}
    seconds[MANY] = {"cached": statistics.median(timed(lambda: model.sample(MANY))[0] for _ in range(repeats))}
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 16, CLAIM_COUNT], help="numbers of images")
    parser.add_argument("--repeats", type=int, default=3, help="times that each is run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds = measure(arguments.counts, arguments.repeats)
    ratios = {count: s["naive"] / s["cached"] for count, s in seconds.items() if "naive" in s}
    if arguments.json:
        claims = {"ratio": {CLAIM_COUNT: CLAIM}, "cached_cpu_s": {MANY: CLAIM_S}}
        print(
            json.dumps(
                {"repeats": arguments.repeats, "cpu_seconds": seconds, "ratio": ratios, "claim": claims}, indent=1
            )
        )
        return
    print(f"28 x 28 pixels, default net, median CPU time of {arguments.repeats}, one thread; identical images")
    for count, s in seconds.items():
        against = f"{s['naive']:10.2f} s naive {ratios[count]:8.1f} x" if count in ratios else ""
        print(f"{count:5} images {s['cached']:8.2f} s cached {against}")
    if CLAIM_COUNT in ratios:
        verdict = "holds" if ratios[CLAIM_COUNT] >= CLAIM else "DOES NOT HOLD"
        print(f"claim: {CLAIM_COUNT} images at least {CLAIM:.0f} x: {verdict}")
    verdict = "holds" if seconds[MANY]["cached"] < CLAIM_S else "DOES NOT HOLD"
    print(f"claim: {MANY} images in less than {CLAIM_S:.0f} s: {verdict}")


if __name__ == "__main__":
    main()
