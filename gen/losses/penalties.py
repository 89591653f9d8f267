"""Penalties on a critic that keep it (nearly) Lipschitz.

[1] I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville. Improved Training of Wasserstein GANs. 2017.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """E (|grad_x D(x_hat)|_2 - 1)^2 at x_hat = epsilon x + (1 - epsilon) G(z): [1] eq. 3, without its lambda.

    Every sample has its own epsilon ~ U[0, 1]; the norm runs over all dimensions but the first. The critic is
    evaluated in float32 (or wider) even under autocast: the penalty's gradient is a second derivative. It must not
    couple the samples of a batch (no batch norm), or the gradient at one x_hat would depend on the others.

    Args:
        critic: (B, ...) -> logits (B,).
        real: x, (B, ...).
        fake: G(z), same shape; no gradient flows back into it.

    Returns:
        The penalty, a scalar to differentiate; and the norms, (B,), detached, to log.
    """
    real = real.detach().to(torch.promote_types(real.dtype, torch.float32))
    epsilon = torch.rand(len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
    x_hat = torch.lerp(fake.detach().to(real.dtype), real, epsilon).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        (slope,) = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)
        norm = slope.flatten(1).norm(dim=1)
    return (norm - 1).square().mean(), norm.detach()
