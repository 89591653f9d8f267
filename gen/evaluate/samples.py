"""Samples: draw them, time them, and the real images and baselines they are compared with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import GenError
from gen.evaluate.seeds import fixed_seed
from gen.model import Samples


@torch.no_grad()
def draw(
    model: Samples, spec: DataSpec, count: int, *, seed: int = 0, batch_size: int = 100, condition: Tensor | None = None
) -> Tensor:
    """``count`` samples as 8-bit images, uint8 (count, C, H, W) on the CPU.

    Args:
        model: what draws them.
        spec: shape and space.
        count: how many.
        seed: of the generator; the result also depends on ``batch_size``.
        batch_size: samples at a time.
        condition: class labels to ask for, int64 (count,), for a conditional model.

    Raises:
        GenError: the model draws fewer images than it was asked for, of another shape, or not finite ones.
    """
    parts = []
    with fixed_seed(seed):
        for rows in torch.arange(count).split(batch_size):
            x = model.sample(len(rows), condition=None if condition is None else condition[rows])
            wanted = (len(rows), *spec.shape)
            if x.shape != wanted:
                raise GenError(f"sample({len(rows)}): found shape {tuple(x.shape)}, asked for {wanted}.")
            if not x.isfinite().all():
                raise GenError(f"sample({len(rows)}): some pixels are not finite. Training has diverged.")
            parts.append(spec.space.decode(x).cpu())
    return torch.cat(parts)


def random_rows(total: int, count: int, *, seed: int = 0) -> Tensor:
    """``count`` different rows out of ``total``, or all of them if there are fewer, in random order."""
    with fixed_seed(seed):
        return torch.randperm(total)[:count]


def independent_pixels(images: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """The model with no structure: ``count`` images whose every pixel is that of another image of the set."""
    pixels = images.flatten(1)
    with fixed_seed(seed):
        rows = torch.randint(len(pixels), (count, pixels.shape[1]))
    return pixels.gather(0, rows).view(count, *images.shape[1:])


class Speed(NamedTuple):
    """How fast samples come.

    Attributes:
        images_per_second: median over the repeats.
        repeats: runs measured, after one that is not.
        batch: samples drawn at a time.
        threads: CPU threads of torch.
    """

    images_per_second: float
    repeats: int
    batch: int
    threads: int


def sampling_speed(
    model: Samples,
    spec: DataSpec,
    batch: int,
    *,
    repeats: int = 5,
    seconds: float = 10.0,
    condition: Tensor | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time ``batch`` samples, up to 8-bit images on the CPU, until ``repeats`` runs or ``seconds`` are over."""
    draw(model, spec, batch, batch_size=batch, condition=condition)
    times: list[float] = []
    while not times or (len(times) < repeats and sum(times) < seconds):
        start = clock()
        draw(model, spec, batch, batch_size=batch, condition=condition)
        times.append(clock() - start)
    return Speed(batch / statistics.median(times), len(times), batch, torch.get_num_threads())
