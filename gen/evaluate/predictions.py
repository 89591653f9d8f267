"""Predictions: how well a model of videos knows what comes next, and what it makes up where nobody can know.

A model of videos is given some frames and scored on those that follow, each given the true ones before it: a
conditional likelihood, comparable only at equal numbers of frames given and predicted, so both are part of its
protocol. What every model must beat are independent pixels, each with its frequencies in the training videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gen.data.spaces import DataSpec
from gen.errors import GenError
from gen.evaluate.bench import Bench, Measured
from gen.evaluate.grids import PAPER, SMALL
from gen.evaluate.samples import random_rows
from gen.evaluate.seeds import fixed_seed
from gen.model import Predicts

STRIPS = 8
"""Videos whose continuations are shown."""
DRAWS = 2
"""Continuations of each: what cannot be known differs between them."""
GAP = 2
"""Pixels between two frames of a strip."""


@torch.no_grad()
def predictions(model: Predicts, bench: Bench) -> Measured:
    """``nats`` and ``bits_per_dim`` of a predicted frame; and film strips: what was, and two of what might have been.

    Raises:
        GenError: the model gives something else than one finite number per predicted frame.
    """
    log_p, given = frame_nats(model, bench), model.given()
    predicted = log_p.shape[1]
    nats, dims = float(log_p.mean()), math.prod(bench.spec.shape)
    bits = bench.spec.space.bits_per_dim(nats, dims)
    facts = {
        "n_real": len(log_p),
        "split": "test",
        "per": "frame",
        "frames_given": given,
        "frames_predicted": predicted,
    }
    scores = bench.scores(
        {"nats_exact": nats, "bits_per_dim_exact": bits, "nats": nats, "bits_per_dim": bits},
        **facts,
        estimator="exact",
        kind="exact",
        standard_error_nats=float(log_p.mean(1).std()) / math.sqrt(len(log_p)),
        nats_of_frames=[round(each, 2) for each in log_p.mean(0).tolist()],
    )
    if (levels := bench.spec.space.levels) is not None:
        train, test = (view[:, :, given:] for view in (bench.train_view, bench.test_view))
        independent = independent_nats(train, test, levels)
        values = {"independent_nats": independent / predicted, "independent_bits_per_dim": -independent}
        values["independent_bits_per_dim"] /= predicted * dims * math.log(2)
        scores |= bench.scores(values, n_train=len(train), **facts)
    shown = random_rows(len(log_p), STRIPS, seed=bench.seed)
    futures = [continued(model, bench.spec, bench.test_x[shown], seed=bench.seed + k) for k in range(DRAWS)]
    return scores, {"predictions": film_strips(bench.test_view[shown], futures)}


@torch.no_grad()
def frame_nats(model: Predicts, bench: Bench) -> Tensor:
    """log p of every predicted frame of the test videos, nats, float64 (N, t) on the CPU.

    Raises:
        GenError: the model gives something else than one finite number per predicted frame.
    """
    x = bench.test_x
    with fixed_seed(bench.seed):
        log_p = torch.cat([model.frame_log_probs(part) for part in x.split(bench.batch_size)]).double().cpu()
    predicted = x.shape[2] - model.given()
    if log_p.shape != (len(x), predicted) or not log_p.isfinite().all():
        raise GenError(
            f"frame_log_probs: found shape {tuple(log_p.shape)}, {int((~log_p.isfinite()).sum())} of them not finite; "
            f"wanted one finite number for each of {predicted} frames of {len(x)} videos."
        )
    return log_p


@torch.no_grad()
def continued(model: Predicts, spec: DataSpec, x: Tensor, *, seed: int = 0) -> Tensor:
    """What might have followed the first frames of videos (N, C, T, H, W) that are given: T - T0 frames each, as 8-bit
    images, uint8 (N, C, T - T0, H, W) on the CPU."""
    given = model.given()
    with fixed_seed(seed):
        frames = model.predict(x[:, :, :given], x.shape[2] - given)
    return spec.space.decode(frames).cpu()


def independent_nats(train: Tensor, test: Tensor, levels: int) -> float:
    """Mean log p of a test video if every value were drawn on its own, from the frequencies of its levels in training.

    Args:
        train: videos as a space sees them, uint8 (N, ...), levels k / (K - 1) of 255.
        test: likewise.
        levels: K. Each one counts once more than it occurs, so that none is impossible.
    """
    of_train, of_test = ((x.double() * ((levels - 1) / 255)).round().long() for x in (train, test))
    total = 0.0
    for level in range(levels):
        log_p = (((of_train == level).sum(0) + 1) / (len(train) + levels)).double().log()
        total += float(((of_test == level).sum(0) * log_p).sum())
    return total / len(test)


def film_strips(videos: Tensor, futures: Sequence[Tensor]) -> Tensor:
    """Each video as a row of frames, and below it what might have followed, where the frames given are left blank.

    Args:
        videos: uint8 (N, C, T, H, W).
        futures: continuations, uint8 (N, C, t, H, W) each, with t up to T.

    Returns:
        uint8 (N (1 + number of futures), C, h, w), small frames enlarged by a whole factor.
    """
    frames, (height, width) = videos.shape[2], videos.shape[3:]
    rows = [videos, *(F.pad(each, (0, 0, 0, 0, frames - each.shape[2], 0), value=PAPER) for each in futures)]
    scale = max(1, SMALL // max(height, width))
    large = torch.stack(rows, 1).flatten(0, 1).repeat_interleave(scale, 3).repeat_interleave(scale, 4)
    apart = F.pad(large, (0, GAP), value=PAPER)
    return apart.movedim(2, 3).flatten(3)[..., :-GAP]
