"""Codes: how much of an image survives its code, and how much of its class a straight line can read there."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.evaluate.seeds import fixed_seed
from gen.model import Encodes


@torch.no_grad()
def encode_all(model: Encodes, x: Tensor, *, seed: int = 0, batch_size: int = 100) -> Tensor:
    """Codes (N, K) of images (N, C, H, W) in the model's space, on the model's device."""
    with fixed_seed(seed):
        return torch.cat([model.encode(part) for part in x.split(batch_size)])


@torch.no_grad()
def decode_all(model: Encodes, spec: DataSpec, codes: Tensor, *, seed: int = 0, batch_size: int = 100) -> Tensor:
    """8-bit images (N, C, H, W) of codes (N, K), on the CPU."""
    with fixed_seed(seed):
        return torch.cat([spec.space.decode(model.decode(part)).cpu() for part in codes.split(batch_size)])


def mean_squared_error(a: Tensor, b: Tensor) -> float:
    """Between 8-bit images of the same shape, with pixels from 0 to 1."""
    return float(((a.double() - b.double()) / 255.0).square().mean())


def peak_signal_to_noise(mse: float) -> float:
    """PSNR in decibels of a mean squared error over all pixels of all images; infinite at 0."""
    return math.inf if mse == 0 else -10.0 * math.log10(mse)


def linear_probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Test accuracy of a logistic regression on standardised codes.

    Args:
        train: codes (N, K) and labels (N,) to fit it to; a few thousand are enough.
        test: codes and labels it is judged on.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (codes, labels), (test_codes, test_labels) = (
        (c.cpu().flatten(1).double().numpy(), y.cpu().numpy()) for c, y in (train, test)
    )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps are the budget, converged or not
        probe.fit(codes, labels)
    return float(probe.score(test_codes, test_labels))
