"""Annealed importance sampling: log Z of an RBM, from both sides.

A path of RBMs leads from independent visible units (beta = 0: no weights, visible energy A(v), log Z known) to the RBM
in question (beta = 1), whose hidden units are summed out at every beta:

    log p*_beta(v) = - (1 - beta) A(v) - beta E_0(v) + sum_j softplus(beta a_j(v)).                [1, eq. 16]

The path says nothing of the kind of the visible units: given h, they follow the geometric mean of their distributions
at the two ends, which for bits and for reals is of the same kind again.

Particles walk the path, a Gibbs step at every temperature, and collect w = prod_k p*_k(v_k) / p*_{k-1}(v_k). Forwards,
from exact samples of the base, E[w] = Z / Z_0. Backwards, from samples of the RBM, E[w] = Z_0 / Z. By Jensen's
inequality the logarithm of an average of w leans low, so the forward estimate of log Z leans low (and log p(v) high)
and the reverse one leans high; the gap between them is the honest error [2, 3]. The forward side holds for any RBM, the
reverse side as far as its starting points are samples of the RBM.

[1] Ruslan Salakhutdinov and Iain Murray. On the quantitative analysis of deep belief networks. ICML 2008.
[2] Yuri Burda, Roger Grosse and Ruslan Salakhutdinov. Accurate and conservative estimates of MRF log-likelihood using
    reverse annealing. AISTATS 2015.
[3] Roger Grosse, Zoubin Ghahramani and Ryan Adams. Sandwiching the marginal likelihood using bidirectional Monte Carlo.
    2015.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.nets.boltzmann import Harmonium
from gen.nets.units import Units, sample_bits


class LogZ(NamedTuple):
    """An estimate of log Z.

    Attributes:
        value: the estimate in nats, scalar.
        error: its standard error over the particles, scalar; blind to modes that no particle has found.
    """

    value: Tensor
    error: Tensor


class Bracket(NamedTuple):
    """log Z between two estimates: ``forward`` leans low, ``reverse`` leans high."""

    forward: LogZ
    reverse: LogZ


@torch.no_grad()
def bracket(rbm: Harmonium, v: Tensor, temperatures: int) -> Bracket:
    """Estimate log Z from both sides with as many particles as there are samples.

    Args:
        v: samples of the RBM, (N, D): the base rates are theirs, and the reverse particles start there.
        temperatures: number of steps from the base-rate RBM to this one.
    """
    base = base_rates(rbm, v)
    betas = linear_path(temperatures)
    return Bracket(forward(rbm, base, betas, len(v)), reverse(rbm, base, betas, v))


def linear_path(temperatures: int) -> list[float]:
    """Evenly spaced inverse temperatures from 0 to 1. On digits no other spacing tried did clearly better."""
    return [k / temperatures for k in range(temperatures + 1)]


@torch.no_grad()
def base_rates(rbm: Harmonium, v: Tensor) -> Units:
    """Independent visible units (D,) like those of samples v, (N, D), each taken as p(v | h) after a step to h."""
    return rbm.visible(sample_bits(rbm.hidden_logits(v))).pooled()


@torch.no_grad()
def forward(rbm: Harmonium, base: Units, betas: list[float], particles: int) -> LogZ:
    """log Z from particles that start at the base-rate RBM.

    Args:
        base: its visible units, one row (D,).
        betas: the path, increasing from 0 to 1.
    """
    value, error = log_mean_exp(anneal(rbm, base, base.repeated(particles).sample(), betas))
    return LogZ(base_log_z(rbm, base) + value, error)


@torch.no_grad()
def reverse(rbm: Harmonium, base: Units, betas: list[float], v: Tensor) -> LogZ:
    """log Z from particles that start at samples v of the RBM, (N, D), and walk the path of :func:`forward` back."""
    value, error = log_mean_exp(anneal(rbm, base, v, betas[::-1]))
    return LogZ(base_log_z(rbm, base) - value, error)


def base_log_z(rbm: Harmonium, base: Units) -> Tensor:
    """log Z_0 of the base-rate RBM, whose H hidden units are fair coins, scalar."""
    return len(rbm.c_0) * math.log(2) + base.log_z()


@torch.no_grad()
def anneal(rbm: Harmonium, base: Units, v: Tensor, betas: list[float]) -> Tensor:
    """Walk particles along a path of inverse temperatures.

    Args:
        base: visible units of the base-rate RBM, one row (D,).
        v: samples of the RBM at betas[0], (N, D).
        betas: inverse temperatures, in the order of the walk.

    Returns:
        log w of each particle, (N,).
    """
    alone = rbm.alone()
    log_w = v.new_zeros(len(v))
    logits = rbm.hidden_logits(v)
    for last, beta in pairwise(betas):
        log_w += (beta - last) * (base.energy(v) - alone.energy(v))
        log_w += (F.softplus(beta * logits) - F.softplus(last * logits)).sum(1)
        h = sample_bits(beta * logits)
        v = base.power(1 - beta).times(rbm.visible(h).power(beta)).sample()
        logits = rbm.hidden_logits(v)
    return log_w


def log_mean_exp(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean of w, and its standard error by the delta method: std(w) / (mean(w) sqrt(N)). (N,) -> scalars."""
    w = torch.exp(log_w - log_w.max())
    return log_w.max() + w.mean().log(), w.std() / (w.mean() * math.sqrt(len(w)))


@torch.no_grad()
def exact_log_z(rbm: Harmonium) -> Tensor:
    """log Z, scalar, by summing over all states of the hidden units: 2^20 of them take half a minute at 784 pixels."""
    units = torch.arange(len(rbm.c_0), device=rbm.c_0.device)
    sums = []
    for states in torch.arange(2 ** len(units), device=units.device).split(2**13):
        h = ((states[:, None] >> units) & 1).to(rbm.c_0.dtype)
        sums.append(torch.logsumexp(-rbm.hidden_free_energy(h), 0))
    return torch.logsumexp(torch.stack(sums), 0)
