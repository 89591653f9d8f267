"""Classes: which classes the samples belong to, in the eyes of the judge.

A model that has lost a mode draws some class rarely or never; one that draws rubbish leaves the judge unsure. Neither
shows in a likelihood.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ClassBalance(NamedTuple):
    """Classes of a set of images, each image counted for its most probable class.

    Attributes:
        shares: share of each class, sums to 1.
        min_share: the smallest of them.
        kl: KL(shares || shares of the training labels), nats; 0 if the balance is that of the data.
        present: classes with at least ``threshold`` of the images.
        threshold: three tenths of an even share, which is 3 % for ten classes.
        confidence: mean probability of the most probable class.
    """

    shares: list[float]
    min_share: float
    kl: float
    present: int
    threshold: float
    confidence: float


def class_balance(probabilities: Tensor, train_labels: Tensor) -> ClassBalance:
    """Balance of a set of images.

    Args:
        probabilities: the judge's, (N, K).
        train_labels: int64 (M,); set the balance that is right.
    """
    num_classes = probabilities.shape[1]
    top = probabilities.max(dim=1)
    shares = top.indices.bincount(minlength=num_classes).double() / len(probabilities)
    wanted = train_labels.cpu().bincount(minlength=num_classes).double() / len(train_labels)
    kl = torch.xlogy(shares, shares).sum() - torch.xlogy(shares, wanted).sum()
    threshold = 0.3 / num_classes
    return ClassBalance(
        shares=shares.tolist(),
        min_share=float(shares.min()),
        kl=float(kl),
        present=int((shares >= threshold).sum()),
        threshold=threshold,
        confidence=float(top.values.mean()),
    )
