"""Likelihoods: log p(x) of held-out images, by every estimator a model offers.

A number of nats is comparable only with one of the same space, the same split and the same kind of estimate, so each
travels with all three. Images enter the space once, under a fixed seed: whoever compares two models in
``binary_dynamic`` compares them on the same bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import GenError
from gen.evaluate.seeds import fixed_seed
from gen.model import Likelihood, Scores


class LogLikelihood(NamedTuple):
    """Mean log-likelihood by one estimator.

    Attributes:
        estimator: its name, e.g. ``iwae_500``.
        kind: ``exact``, ``lower bound`` or ``estimate``.
        nats: mean of log p(x) over images.
        standard_error: of that mean, over images; the noise of the estimator is inside, its bias is not.
        bits_per_dim: see :meth:`gen.data.spaces.Space.bits_per_dim`.
        n: number of images.
    """

    estimator: str
    kind: str
    nats: float
    standard_error: float
    bits_per_dim: float
    n: int


def log_likelihoods(
    model: Scores, spec: DataSpec, x: Tensor, *, seed: int = 0, batch_size: int = 100
) -> list[LogLikelihood]:
    """Run every estimator over all the images, the one to quote last.

    Args:
        model: what scores them.
        spec: shape and space.
        x: images in the model's space, (N, C, H, W); see :attr:`gen.evaluate.bench.Bench.test_x`.
        seed: of the estimators' own randomness. Each starts from it.
        batch_size: images at a time.

    Raises:
        GenError: an estimator returns something else than one finite number per image.
    """
    results = []
    for name, likelihood in estimators(model, seed=seed).items():
        log_p = log_probs(name, likelihood, x, seed=seed, batch_size=batch_size)
        nats, error = float(log_p.mean()), float(log_p.std()) / math.sqrt(len(log_p))
        bits = spec.space.bits_per_dim(nats, spec.dims)
        results.append(LogLikelihood(name, likelihood.kind, nats, error, bits, len(log_p)))
    return results


@torch.no_grad()
def estimators(model: Scores, *, seed: int = 0) -> dict[str, Likelihood]:
    """A model's estimators by name, the one to quote last; what they share (log Z) is estimated under the seed."""
    with fixed_seed(seed):
        return model.likelihoods()


@torch.no_grad()
def log_probs(name: str, likelihood: Likelihood, x: Tensor, *, seed: int = 0, batch_size: int = 100) -> Tensor:
    """log p(x) of every image by one estimator, nats, float64 (N,) on the CPU. See :func:`log_likelihoods`."""
    with fixed_seed(seed):
        log_p = torch.cat([likelihood.log_prob(part) for part in x.split(batch_size)]).double().cpu()
    if log_p.shape != (len(x),):
        raise GenError(f"likelihood '{name}': {len(x)} images, but log p has shape {tuple(log_p.shape)}.")
    if bad := int((~log_p.isfinite()).sum()):
        raise GenError(
            f"likelihood '{name}': log p is not finite for {bad} of {len(x)} images, so there is no mean. "
            "Either training diverged, or the estimator gives some images no probability at all."
        )
    return log_p
