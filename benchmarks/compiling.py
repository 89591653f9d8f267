"""Does ``training.compile`` make a training step faster?

    python -m benchmarks.compiling [--models NAME ...] [--rounds N] [--json]

Batches of 16; binary images of 28 x 28, and one PixelCNN on colours in 256 levels (32 x 32), whose softmax is a large
part of its work. The loss and its gradient are compared, of

    eager       the model as written
    compiled    a copy of it, its networks compiled (:mod:`gen.train.compiled`); the first step, in which that happens,
                is given apart

On a CPU: one thread, by CPU time, which on a machine that others use as well is the only time that means anything. If
there is a GPU, on that, by wall time. They take turns; medians over the rounds are printed, and the ratio, which is
above 1 where compiling helps. Both must give the same loss, or the run fails.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.step_time.times import in_turns, median_ratio
from gen.data.spaces import DataSpec, Space
from gen.model import Batch
from gen.registry import build
from gen.train.compiled import compile_networks

BATCH = 16
BINARY, COLOURS = ((1, 28, 28), "binary_dynamic"), ((3, 32, 32), "levels(256)")
NETS: dict[str, tuple[str, tuple[tuple[int, ...], str], dict[str, Any]]] = {
    "vae": ("vae", BINARY, {}),
    "pixelcnn": ("pixelcnn", BINARY, {}),
    "pixelcnn_colours": ("pixelcnn", COLOURS, {"features": 30, "head": 60}),
    "gated_pixelcnn": ("gated_pixelcnn", BINARY, {}),
    "pixelcnn_pp": ("pixelcnn_pp", BINARY, {"dropout": 0.0}),
    "row_lstm": ("row_lstm", BINARY, {}),
}


def clock(device: torch.device) -> float:
    """Seconds on the clock that counts on a device."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def compare(label: str, rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of a step of one model, either way, and of the first compiled one."""
    name, (shape, space), hyper = NETS[label]
    torch.manual_seed(0)
    model = build(name, DataSpec(shape, 0, Space.parse(space)), **hyper).to(device)
    models = {"eager": model, "compiled": copy.deepcopy(model)}
    compile_networks(models["compiled"])
    batch = Batch((torch.rand(BATCH, *shape, device=device) < 0.3).float())

    def step(way: str) -> Tensor:
        torch.manual_seed(1)
        models[way].zero_grad(set_to_none=True)
        loss, _ = models[way].loss(batch)
        loss.backward()
        return loss.detach()

    expected, start = step("eager"), clock(device)
    torch.testing.assert_close(step("compiled"), expected, rtol=1e-4, atol=0)
    first = clock(device) - start
    seconds = in_turns({way: partial(step, way) for way in models}, rounds, partial(clock, device))
    return {
        **{way: statistics.median(taken) for way, taken in seconds.items()},
        "ratio": median_ratio(seconds["eager"], seconds["compiled"]),
        "first": first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(NETS), choices=list(NETS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, 1 thread"
    if not arguments.json:
        print(f"a training step of {BATCH} images on {where}, median of {arguments.rounds}")
    found = {}
    for label in arguments.models:
        found[label] = row = compare(label, arguments.rounds, device)
        torch.compiler.reset()
        if not arguments.json:
            milliseconds = f"eager {1000 * row['eager']:8.1f} ms   compiled {1000 * row['compiled']:8.1f} ms"
            print(f"{label:18} {milliseconds} {row['ratio']:6.2f} x   first step {row['first']:.0f} s", flush=True)
    if arguments.json:
        facts = {"device": where, "torch": torch.__version__, "batch": BATCH, "rounds": arguments.rounds}
        print(json.dumps({**facts, "nets": found}, indent=1))


if __name__ == "__main__":
    main()
