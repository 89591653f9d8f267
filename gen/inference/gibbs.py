"""Block Gibbs sampling in an RBM.

All hidden units are drawn given the visible ones, then all visible units given the hidden ones. As a move of v alone,
a step is in detailed balance with p(v), which is what annealed importance sampling runs backwards on:

    p(v) T(v' | v) = sum_h p(v, h) p(v', h) / p(h) = p(v') T(v | v').

[1] Stuart Geman and Donald Geman. Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images.
    PAMI, 1984.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen.nets.boltzmann import Harmonium
from gen.nets.units import sample_bits


@torch.no_grad()
def gibbs(rbm: Harmonium, v: Tensor, steps: int, *, temperature: float = 1.0) -> Tensor:
    """Run one chain per row for ``steps`` steps v -> h -> v.

    Args:
        v: where the chains start, (N, D).
        temperature: T; the chains' distribution is that of the energy E / T, proportional to p(v, h)^(1/T).

    Returns:
        Where they end, (N, D).
    """
    for _ in range(steps):
        h = sample_bits(rbm.hidden_logits(v) / temperature)
        v = rbm.visible(h).power(1 / temperature).sample()
    return v
