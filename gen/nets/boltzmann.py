"""RBM layers: visible and hidden units with weights between the sides and none within.

A restricted Boltzmann machine gives visible units v and hidden units h in {0, 1}^H the energy and the probability

    E(v, h) = E_0(v) - h.a(v),        p(v, h) = exp(-E(v, h)) / Z,

where a(v), linear in v, are the log-odds of the hidden units. Units of one side are independent given the other side,
and either side sums out in closed form:

    p(h_j = 1 | v) = sigmoid(a_j(v)),      F(v) = -log sum_h exp(-E(v, h)) = E_0(v) - sum_j softplus(a_j(v)),
    p(v | h) ~ exp(h.a(v) - E_0(v)),       log p(v) = - F(v) - log Z.

The kind of the visible units is in E_0 alone, and machines of all kinds are used in one way [2]. As p(v | h = 0) is
exp(-E_0(v)) up to its own normaliser, E_0 is the energy of ``visible(0)``.

What is learnt is not the biases but the log-odds or means at typical states of the other side. The family of
distributions is the same, but the gradient of W is then close to a covariance instead of a second moment and no longer
drags the biases along [4, 5]. Chains mix better in what is learnt: for 500 binary units on 3,500 digits the two sides
of annealed importance sampling differed by 0.1 nats instead of 3.3.

[1] Paul Smolensky. Information processing in dynamical systems: foundations of harmony theory. In Parallel Distributed
    Processing, volume 1, 1986.
[2] Max Welling, Michal Rosen-Zvi and Geoffrey Hinton. Exponential family harmoniums with an application to information
    retrieval. NIPS 2004.
[3] Geoffrey Hinton. A practical guide to training restricted Boltzmann machines. Technical report UTML 2010-003, 2010.
[4] Gregoire Montavon and Klaus-Robert Mueller. Deep Boltzmann machines and the centering trick. In Neural Networks:
    Tricks of the Trade, 2012.
[5] Jan Melchior, Asja Fischer and Laurenz Wiskott. How to center deep Boltzmann machines. JMLR, 2016.
[6] KyungHyun Cho, Alexander Ilin and Tapani Raiko. Improved learning of Gaussian-Bernoulli restricted Boltzmann
    machines. ICANN 2011.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.nets.units import Bits, Reals, Units


class Harmonium(nn.Module, ABC):
    """What all kinds of visible units share.

    Args:
        visible: D, number of visible units.
        hidden: H, number of hidden units.
        std: standard deviation of the initial weights (section 8 of [3]); the biases start at zero.

    Attributes:
        W: weights, (H, D).
        b_0: parameters of the visible units given h = lambda, (D,).
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

    @abstractmethod
    def hidden_logits(self, v: Tensor) -> Tensor:
        """Log-odds a(v) of p(h = 1 | v): visible units (N, D) -> (N, H)."""

    @abstractmethod
    def visible(self, h: Tensor) -> Units:
        """p(v | h): hidden units (N, H) or (H,) -> rows (N, D) or one (D,)."""

    @abstractmethod
    def set_base_rates(self, v: Tensor) -> None:
        """Centre the visible units at their means over v, (N, D), and, while W is small, model just these means."""

    def alone(self) -> Units:
        """The visible units without the hidden ones, p(v | h = 0), whose energy is E_0; one row (D,)."""
        return self.visible(torch.zeros_like(self.lam))

    def start(self, count: int) -> Tensor:
        """``count`` draws from p(v | h = lambda), (count, D): of the model itself while W is small."""
        return self.visible(self.lam).repeated(count).sample()

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h) of visible units (N, D) and hidden units (N, H), in nats, (N,)."""
        return self.alone().energy(v) - (h * self.hidden_logits(v)).sum(1)

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) = -log sum_h exp(-E(v, h)) of visible units (N, D), in nats, (N,)."""
        return self.alone().energy(v) - F.softplus(self.hidden_logits(v)).sum(1)

    def mean_free_energies(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """Mean F(v) of each batch of visible units (N, D), in nats, scalars, with all of them in one pass."""
        sizes = [len(batch) for batch in batches]
        return tuple(each.mean() for each in self.free_energy(torch.cat(batches)).split(sizes))

    def hidden_free_energy(self, h: Tensor) -> Tensor:
        """-log sum_v exp(-E(v, h)), or its integral, of hidden units (N, H), in nats, (N,)."""
        # sum_v exp(-E(v, h)) = exp(-E(v, h)) / p(v | h) for any v; at v = mu the log-odds are c_0.
        units = self.visible(h)
        return self.alone().energy(self.mu) - h @ self.c_0 - units.energy(self.mu) - units.log_z()


class RBMLayer(Harmonium):
    """Visible units in {0, 1}, with E(v, h) = - b.v - c.h - h.W v [1]."""

    @property
    def b(self) -> Tensor:
        """Visible biases, (D,)."""
        return self.b_0 - self.lam @ self.W

    @property
    def c(self) -> Tensor:
        """Hidden biases, (H,)."""
        return self.c_0 - self.W @ self.mu

    def hidden_logits(self, v: Tensor) -> Tensor:
        """See base: c + W v."""
        return F.linear(v - self.mu, self.W, self.c_0)

    def visible_logits(self, h: Tensor) -> Tensor:
        """Log-odds b + W'h of p(v = 1 | h): hidden units (N, H) -> (N, D)."""
        return F.linear(h - self.lam, self.W.t(), self.b_0)

    def visible(self, h: Tensor) -> Bits:
        """See base."""
        return Bits(self.visible_logits(h))

    @torch.no_grad()
    def set_base_rates(self, v: Tensor) -> None:
        """See base."""
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


class GaussianRBMLayer(Harmonium):
    """Real visible units, standardised to u = (v - mu) / s and with variances s^2 exp(z), z learnt or zero [6]:

        E(v, h) = sum_i exp(-z_i) (u_i - b_i)^2 / 2 - c.h - h.W (exp(-z) u),      b = b_0 - W'lambda,
        p(v | h) = N(mu + s (b + W'h), s^2 exp(z)).

    W is in deviations of the pixels, so that one learning rate fits all of them.

    Args:
        learnt: whether z is a parameter.
        floor: smallest s, in units of v.

    Attributes:
        z: log-variances of the standardised units given h, (D,).
        scale: s, (D,).
    """

    z: Tensor
    scale: Tensor

    def __init__(
        self, visible: int, hidden: int, *, std: float = 0.01, learnt: bool = True, floor: float = 0.01
    ) -> None:
        super().__init__(visible, hidden, std=std)
        self.floor = floor
        if learnt:
            self.z = nn.Parameter(torch.zeros(visible))
        else:
            self.register_buffer("z", torch.zeros(visible))
        self.register_buffer("scale", torch.ones(visible))

    def hidden_logits(self, v: Tensor) -> Tensor:
        """See base."""
        return F.linear((v - self.mu) * (torch.exp(-self.z) / self.scale), self.W, self.c_0)

    def visible(self, h: Tensor) -> Reals:
        """See base."""
        u = F.linear(h - self.lam, self.W.t(), self.b_0)
        return Reals(torch.addcmul(self.mu, self.scale, u), torch.exp(-self.z) / self.scale.square())

    @torch.no_grad()
    def set_base_rates(self, v: Tensor) -> None:
        """See base; s are the deviations over v, floored, and z and b_0 as they are, zero."""
        self.mu.copy_(v.mean(0))
        self.scale.copy_(v.std(0, correction=0).clamp(min=self.floor))

    @torch.no_grad()
    def project(self) -> None:
        """Raise z to where the deviation s exp(z / 2) is at least the floor."""
        self.z.clamp_(min=2 * (self.floor / self.scale).log())
