"""The log of a softmax at given levels, where the first level's logit is 0.

    log p(k) = l_k - log sum_j exp(l_j),    d log p(k) / d l_j = [j = k] - p(j),    l_0 = 0

256 levels for every value of a colour image are the largest tensor of a small network, and passing over it is a large
part of a step. torch's cross entropy wants the first logit to be there and the levels to come first, and keeps several
copies; here one is made (`python -m benchmarks.softmax` compares the two).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_softmax_at(logits: Tensor, levels: Tensor) -> Tensor:
    """log p of the levels.

    Args:
        logits: of the levels but the first, (B, C, K - 1, ...), in single precision at least.
        levels: int64 in [0, K), (B, C, ...).

    Returns:
        In nats, (B, C, ...).
    """
    log_p: Tensor = _LogSoftmaxAt.apply(logits, levels)
    return log_p


class _LogSoftmaxAt(torch.autograd.Function):
    """See :func:`log_softmax_at`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, levels: Tensor) -> Tensor:
        index, free = (levels - 1).clamp_(min=0).unsqueeze(2), levels > 0
        highest = logits.amax(2, keepdim=True).clamp_(min=0)
        weights = (logits - highest).exp_()
        total = weights.sum(2, keepdim=True).add_((-highest).exp_())
        ctx.save_for_backward(weights, total, index, free)
        chosen = logits.gather(2, index).squeeze(2)
        return torch.where(free, chosen, 0).sub_(total.log().add_(highest).squeeze(2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        weights, total, index, free = ctx.saved_tensors
        result = weights * (-grad.unsqueeze(2) / total)
        result.scatter_add_(2, index, torch.where(free, grad, 0).unsqueeze(2))
        return result, None
