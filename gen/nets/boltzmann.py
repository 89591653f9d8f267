"""RBM layer: two sets of binary units and the weights between them, learnt in centred coordinates.

A restricted Boltzmann machine gives visible units v in {0, 1}^D and hidden units h in {0, 1}^H the energy

    E(v, h) = - b.v - c.h - h.W v,        p(v, h) = exp(-E(v, h)) / Z.

Units of one side are independent given the other side, and either side sums out in closed form:

    p(h_j = 1 | v) = sigmoid(c + W v)_j        p(v_i = 1 | h) = sigmoid(b + W'h)_i
    F(v) = -log sum_h exp(-E(v, h)) = - b.v - sum_j softplus(c + W v)_j,        log p(v) = - F(v) - log Z.

What is learnt is not b and c but the log-odds at typical states mu of the visible and lambda of the hidden units,
b_0 = b + W'lambda and c_0 = c + W mu. The family of distributions is the same, but the gradient of W is then close to a
covariance instead of a second moment and no longer drags the biases along [3, 4]. Chains mix better in what is learnt:
for 500 units on 3,500 digits the two sides of annealed importance sampling differed by 0.1 nats instead of 3.3.

[1] Paul Smolensky. Information processing in dynamical systems: foundations of harmony theory. In Parallel Distributed
    Processing, volume 1, 1986.
[2] Geoffrey Hinton. A practical guide to training restricted Boltzmann machines. Technical report UTML 2010-003, 2010.
[3] Gregoire Montavon and Klaus-Robert Mueller. Deep Boltzmann machines and the centering trick. In Neural Networks:
    Tricks of the Trade, 2012.
[4] Jan Melchior, Asja Fischer and Laurenz Wiskott. How to center deep Boltzmann machines. JMLR, 2016.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RBMLayer(nn.Module):
    """Weights and biases of one RBM.

    Args:
        visible: D, number of visible units.
        hidden: H, number of hidden units.
        std: standard deviation of the initial weights (section 8 of [2]); the biases start at zero.

    Attributes:
        W: weights, (H, D).
        b_0: log-odds of the visible units given h = lambda, (D,).
        c_0: log-odds of the hidden units given v = mu, (H,).
        mu: typical visible state, constant, (D,).
        lam: lambda, typical hidden state, constant, (H,).
    """

    mu: Tensor
    lam: Tensor

    def __init__(self, visible: int, hidden: int, *, std: float = 0.01) -> None:
        super().__init__()
        self.W = nn.Parameter(std * torch.randn(hidden, visible))
        self.b_0 = nn.Parameter(torch.zeros(visible))
        self.c_0 = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("mu", torch.full((visible,), 0.5))
        self.register_buffer("lam", torch.full((hidden,), 0.5))

    @property
    def b(self) -> Tensor:
        """Visible biases, (D,)."""
        return self.b_0 - self.lam @ self.W

    @property
    def c(self) -> Tensor:
        """Hidden biases, (H,)."""
        return self.c_0 - self.W @ self.mu

    def hidden_logits(self, v: Tensor) -> Tensor:
        """Log-odds c + W v of p(h = 1 | v): visible units (N, D) -> (N, H)."""
        return F.linear(v - self.mu, self.W, self.c_0)

    def visible_logits(self, h: Tensor) -> Tensor:
        """Log-odds b + W'h of p(v = 1 | h): hidden units (N, H) -> (N, D)."""
        return F.linear(h - self.lam, self.W.t(), self.b_0)

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h) of visible units (N, D) and hidden units (N, H), in nats, (N,)."""
        return -v @ self.b - (h * self.hidden_logits(v)).sum(1)

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) = -log sum_h exp(-E(v, h)) of visible units (N, D), in nats, (N,)."""
        return -v @ self.b - F.softplus(self.hidden_logits(v)).sum(1)

    @torch.no_grad()
    def set_base_rates(self, v: Tensor) -> None:
        """Centre the visible units at their means over v, (N, D), and, while W is small, model just these means."""
        # One imagined unit in each state keeps the log-odds of constant units finite.
        self.mu.copy_((v.sum(0) + 1) / (len(v) + 2))
        self.b_0.copy_(torch.logit(self.mu))

    @torch.no_grad()
    def set_transpose(self, below: RBMLayer) -> None:
        """Become ``below`` upside down: the same joint distribution with the roles of the two sides exchanged.

        Hidden units in excess of the visible units of ``below`` keep their small random weights and zero biases, and so
        hardly change the distribution of the others.
        """
        rows = len(below.b_0)
        self.W[:rows] = below.W.t()
        self.b_0.copy_(below.c_0)
        self.c_0[:rows] = below.b_0
        self.mu.copy_(below.lam)
        self.lam[:rows] = below.mu
