"""What a run shows of itself: means of what was logged, validation, grids of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


class Sums:
    """Sums of the metrics since the last report, on the device: no synchronisation between reports.

    A step's metrics are added as one vector, because steps of small models take no longer than a few such operations.
    """

    def __init__(self, saved: Mapping[str, tuple[float, float]] | None = None, *, device: torch.device) -> None:
        """Start at nothing, or at what :meth:`totals` gave."""
        self.device = device
        self.saved = dict(saved or {})
        self.vectors: dict[tuple[str, ...], Tensor] = {}  # names -> their sums and, last, the number of steps

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Take in the metrics of one step, scalars."""
        names = tuple(metrics)
        if names not in self.vectors:
            self.vectors[names] = self._start(names)
        values = [value.to(self.device) for value in metrics.values()]
        self.vectors[names] += torch.stack([*values, torch.ones_like(values[0])]) if values else 1.0

    def _start(self, names: tuple[str, ...]) -> Tensor:
        """Zeros; or the saved sums, so that a resumed sum adds up in the same order, to the same bits."""
        counts = {self.saved[name][1] for name in names if name in self.saved}
        if len(counts) == 1 and all(name in self.saved for name in names):
            start = [*(self.saved.pop(name)[0] for name in names), counts.pop()]
        else:
            start = [0.0] * (len(names) + 1)
        return torch.tensor(start, dtype=torch.float64, device=self.device)

    def totals(self, parallel: Parallel) -> dict[str, tuple[float, float]]:
        """Per metric its sum over ranks and the number of steps in it, on every rank."""
        totals = dict(self.saved)
        for names, vector in self.vectors.items():
            *sums, count = parallel.sum(vector.clone()).tolist()
            for name, value in zip(names, sums, strict=True):
                old_sum, old_count = totals.get(name, (0.0, 0.0))
                totals[name] = (old_sum + value, old_count + count / parallel.world)
        return totals


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
