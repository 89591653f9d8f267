"""What a run shows of itself: means of what was logged, validation, grids of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gen.data.loader import evaluation_batches
from gen.data.reader import Reader
from gen.data.sample import Drawn
from gen.data.spaces import Space
from gen.evaluate.predictions import film_strips
from gen.model import Batch, GenerativeModel, Pictures, Predicts, Samples
from gen.train.parallel import Parallel
from gen.train.step import seed_step

VALIDATION_BATCH = 250
GRID_IMAGES = 64  # samples on a grid
PENDING = 256  # scalars of a metric that are kept before they are added up
SHOWN = 256  # at most so many filters or atoms
VALIDATE = 3  # random stream of validation: seed_step(seed, VALIDATE, batch)


class Sums:
    """Sums of the metrics since the last report, on the device: no synchronisation between reports.

    Scalars are kept and added up many at a time, because steps of small models take no longer than a few operations.
    """

    def __init__(self, saved: Mapping[str, tuple[float, float]] | None = None, *, device: torch.device) -> None:
        """Start at nothing, or at what :meth:`totals` gave."""
        self.device = device
        self.sums = {
            name: torch.tensor(pair, dtype=torch.float64, device=device) for name, pair in (saved or {}).items()
        }
        self.pending: dict[str, list[Tensor]] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Take in the metrics of one step, scalars."""
        for name, value in metrics.items():
            self.pending.setdefault(name, []).append(value)
        if any(len(values) >= PENDING for values in self.pending.values()):
            self._settle()

    def _settle(self) -> None:
        for name, values in self.pending.items():
            settled = torch.stack([v.to(self.device, torch.float64) for v in values]).sum()
            pair = torch.stack([settled, torch.full_like(settled, len(values))])
            self.sums[name] = self.sums[name] + pair if name in self.sums else pair
        self.pending = {}

    def totals(self, parallel: Parallel) -> dict[str, tuple[float, float]]:
        """Per metric its sum over ranks and the number of steps in it, on every rank."""
        self._settle()
        if not self.sums:
            return {}
        names = sorted(self.sums)
        table = parallel.sum(torch.stack([self.sums[name] for name in names])).tolist()
        return {name: (total, count / parallel.world) for name, (total, count) in zip(names, table, strict=True)}


@torch.no_grad()
def validate(
    model: GenerativeModel, reader: Reader, encode: Callable[[Drawn], Batch], parallel: Parallel, *, seed: int
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


@torch.no_grad()
def predict(model: Predicts, space: Space, x: Tensor) -> Tensor:
    """Film strips of held-out videos (N, C, T, H, W), and below each one way to go on that the model draws."""
    future = model.predict(x[:, :, : model.given()], x.shape[2] - model.given())
    return film_strips(space.decode(x), [space.decode(future)])
