"""How much longer does a training step take if pixels wait for each other?

    python -m benchmarks.recurrences [--batch 16] [--steps N] [--rounds N] [--json]

One thread, single precision, 28 x 28 binary images. Networks of equal width (h = 16) and depth (7 layers) behind the
same first convolution and in front of the same last ones; the plain LSTM, which has no such layers, with 64 units.
Forward, backward and the optimizer's step, by CPU time, which on a machine that others use as well is the only time
that means anything. They take turns; the medians over the rounds are printed, and the ratio to PixelCNN's.

    pixelcnn            masked convolutions: nothing waits
    row_lstm            28 steps a layer, one for each row
    diagonal_lstm       55 steps a layer, one for each anti-diagonal
    diagonal_bilstm     the same, in two directions at once
    pixel_lstm          784 steps

The claim: a step of the Diagonal BiLSTM takes at most 6 times as long as PixelCNN's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

from gen.data.spaces import DataSpec, Space
from gen.model import Batch, GenerativeModel
from gen.registry import build
from gen.train.optim import make_optimizer

SIDE, CLAIM = 28, 6.0
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelcnn": ("pixelcnn", {"features": 16, "blocks": 7}),
    "row_lstm": ("row_lstm", {"features": 16, "layers": 7}),
    "diagonal_lstm": ("diagonal_bilstm", {"features": 16, "layers": 7, "directions": 1}),
    "diagonal_bilstm": ("diagonal_bilstm", {"features": 16, "layers": 7}),
    "pixel_lstm": ("pixel_lstm", {"hidden": 64}),
}


class Stepped:
    """A model and its optimizer."""

    def __init__(self, name: str, hyper: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.model: GenerativeModel = build(name, DataSpec((1, SIDE, SIDE), 0, Space.parse("binary_fixed")), **hyper)
        self.optimizer = make_optimizer(self.model.optimizers()["model"], list(self.model.parameters()))

    def seconds(self, x: torch.Tensor, steps: int) -> float:
        """CPU seconds of a training step, the mean of some."""
        start = time.process_time()
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            self.model.loss(Batch(x))[0].backward()
            self.optimizer.step()
        return (time.process_time() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--steps", type=int, default=4, help="in a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    x = (torch.rand(arguments.batch, 1, SIDE, SIDE) < 0.2).float()
    nets = {label: Stepped(name, hyper) for label, (name, hyper) in NETS.items()}
    for net in nets.values():
        net.seconds(x, 1)  # warms up
    rounds = [{label: net.seconds(x, arguments.steps) for label, net in nets.items()} for _ in range(arguments.rounds)]
    found = {
        label: {
            "seconds": statistics.median(each[label] for each in rounds),
            "ratio": statistics.median(each[label] / each["pixelcnn"] for each in rounds),
            "parameters": sum(p.numel() for p in nets[label].model.parameters()),
        }
        for label in nets
    }
    if arguments.json:
        claim = {"diagonal_bilstm": CLAIM}
        print(json.dumps({"batch": arguments.batch, "rounds": len(rounds), "nets": found, "claim": claim}, indent=1))
        return
    print(f"a training step of {arguments.batch} images, 28 x 28, CPU time, median of {len(rounds)}, one thread")
    for label, row in found.items():
        print(f"{label:16} {1000 * row['seconds']:8.1f} ms {row['ratio']:6.2f} x {row['parameters']:8,} parameters")
    verdict = "holds" if found["diagonal_bilstm"]["ratio"] <= CLAIM else "DOES NOT HOLD"
    print(f"claim: the Diagonal BiLSTM at most {CLAIM:.0f} x: {verdict}")


if __name__ == "__main__":
    main()
