"""Block Gibbs sampling in an RBM.

All hidden units are drawn given the visible ones, then all visible units given the hidden ones. As a move of v alone,
a step is in detailed balance with p(v), which is what annealed importance sampling runs backwards on:

    p(v) T(v' | v) = sum_h p(v, h) p(v', h) / p(h) = p(v') T(v | v').

[1] Stuart Geman and Donald Geman. Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images.
    PAMI, 1984.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Bipartite(Protocol):
    """An RBM: two sets of binary units, those of one set independent given the other."""

    @property
    def W(self) -> Tensor:
        """Weights, (H, D)."""
        ...

    @property
    def b(self) -> Tensor:
        """Visible biases, (D,)."""
        ...

    @property
    def c(self) -> Tensor:
        """Hidden biases, (H,)."""
        ...

    def hidden_logits(self, v: Tensor) -> Tensor:
        """Log-odds of p(h = 1 | v): (N, D) -> (N, H)."""
        ...

    def visible_logits(self, h: Tensor) -> Tensor:
        """Log-odds of p(v = 1 | h): (N, H) -> (N, D)."""
        ...


def sample_bits(logits: Tensor) -> Tensor:
    """Independent bits with the given log-odds, 0.0 or 1.0, of the same shape and dtype."""
    # Comparing with uniforms is 2.5 times as fast as torch.bernoulli on a CPU.
    return (torch.rand_like(logits) < torch.sigmoid(logits)).to(logits.dtype)


@torch.no_grad()
def gibbs(rbm: Bipartite, v: Tensor, steps: int, *, temperature: float = 1.0) -> Tensor:
    """Run one chain per row for ``steps`` steps v -> h -> v.

    Args:
        v: where the chains start, bits (N, D).
        temperature: T; the chains' distribution is that of the energy E / T, proportional to p(v, h)^(1/T).

    Returns:
        Where they end, bits (N, D).
    """
    for _ in range(steps):
        h = sample_bits(rbm.hidden_logits(v) / temperature)
        v = sample_bits(rbm.visible_logits(h) / temperature)
    return v
