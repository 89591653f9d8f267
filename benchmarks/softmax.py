"""How fast is the softmax over 256 levels, against torch's cross entropy?

    python -m benchmarks.softmax [--batch 16] [--side 32] [--levels 256] [--rounds N] [--json]

The log-probability of every value of colour images and its gradient, from the outputs of a network, on one thread, by
CPU time:

    torch    cross_entropy on logits whose first one, which is 0, was put before the others
    ours     gen.losses.levels.log_softmax_at

They take turns; medians over the rounds are printed. Both must give the same numbers and gradients, or the run fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.step_time.times import in_turns, median_ratio
from gen.losses.levels import log_softmax_at

COLOURS = 3


def cross_entropy(logits: Tensor, levels: Tensor) -> Tensor:
    """The same by torch: (B, C, K - 1, H, W), (B, C, H, W) -> (B, C, H, W)."""
    return -F.cross_entropy(F.pad(logits.transpose(1, 2), (0, 0) * 3 + (1, 0)), levels, reduction="none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--side", type=int, default=32, help="of the square images, pixels")
    parser.add_argument("--levels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = (arguments.batch, COLOURS, arguments.side, arguments.side)
    outputs = torch.randn(arguments.batch, COLOURS * (arguments.levels - 1), *size[2:], requires_grad=True)
    levels = torch.randint(arguments.levels, size)

    def step(log_p: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        found = log_p(outputs.unflatten(1, (COLOURS, arguments.levels - 1)), levels)
        return found.detach(), *torch.autograd.grad(found.sum(), outputs)

    ways = {"torch": cross_entropy, "ours": log_softmax_at}
    for found, expected in zip(step(log_softmax_at), step(cross_entropy), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    seconds = in_turns({way: partial(step, log_p) for way, log_p in ways.items()}, arguments.rounds)
    medians = {way: statistics.median(taken) for way, taken in seconds.items()}
    ratio = median_ratio(seconds["torch"], seconds["ours"])
    if arguments.json:
        facts = {"torch": torch.__version__, "size": size, "levels": arguments.levels, "rounds": arguments.rounds}
        print(json.dumps({**facts, "seconds": medians, "ratio": ratio}, indent=1))
        return
    told = ", ".join(f"{way} {1000 * each:.1f} ms" for way, each in medians.items())
    print(f"{size} values of {arguments.levels} levels, one thread: {told}; {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
