"""What a run shows of itself: means of what was logged, validation, grids of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gen.data.loader import Slice, evaluation_batches
from gen.data.reader import Reader
from gen.model import Batch, GenerativeModel, Pictures, Samples
from gen.train.parallel import Parallel
from gen.train.step import seed_step

VALIDATION_BATCH = 250
GRID_IMAGES = 64  # samples on a grid
SHOWN = 256  # at most so many filters or atoms
VALIDATE = 3  # random stream of validation: seed_step(seed, VALIDATE, batch)


@dataclass(slots=True)
class Sums:
    """Sums of the metrics since the last report, on the device: no synchronisation between reports."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Take in the metrics of one step."""
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.to(torch.float64)
        self.count += 1

    def totals(self, parallel: Parallel) -> dict[str, float]:
        """Sums over ranks, on every rank."""
        if not self.sums:
            return {}
        names = sorted(self.sums)
        totals = parallel.sum(torch.stack([self.sums[name] for name in names]))
        return dict(zip(names, totals.tolist(), strict=True))


@torch.no_grad()
def validate(
    model: GenerativeModel, reader: Reader, encode: Callable[[Slice], Batch], parallel: Parallel, *, seed: int
) -> dict[str, float]:
    """Means of ``model.validate`` over a split: every image once for any number of ranks, the same noise every time.

    Args:
        model: to be watched.
        reader: the split.
        encode: stored images to a batch in the model's space.
        parallel: the ranks that share the work.
        seed: of the noise.
    """
    model.eval()
    sums: dict[str, Tensor] = {}
    for number, drawn in evaluation_batches(reader, VALIDATION_BATCH, parallel.rank, parallel.world):
        seed_step(seed, VALIDATE, number)
        batch = encode(drawn)
        for name, value in model.validate(batch).items():
            share = value.detach().to(torch.float64) * (len(batch.x) / len(reader))
            sums[name] = sums[name] + share if name in sums else share
    names = parallel.agree(sorted(sums))  # a rank without a batch has none
    zero = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    totals = parallel.sum(torch.stack([sums.get(name, zero) for name in names]))
    return dict(zip(names, totals.tolist(), strict=True))


@torch.no_grad()
def draw(model: GenerativeModel) -> dict[str, Tensor]:
    """Pictures by name, (N, C, h, w): samples as 8-bit images, and whatever else the model shows of itself."""
    model.eval()
    stacks: dict[str, Tensor] = {}
    if isinstance(model, Samples):
        stacks["samples"] = model.spec.space.decode(model.sample(GRID_IMAGES))
    if isinstance(model, Pictures):
        stacks |= {name: images[:SHOWN] for name, images in model.pictures().items()}
    return stacks
