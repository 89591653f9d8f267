"""Annealed importance sampling: log Z of an RBM, from both sides.

A path of RBMs leads from the base-rate RBM (beta = 0: no weights, visible biases a, log Z known) to the RBM in question
(beta = 1), whose hidden units are summed out at every beta:

    log p*_beta(v) = (1 - beta) a.v + beta b.v + sum_j softplus(beta (c + W v)_j).                 [1, eq. 16]

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
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.inference.gibbs import Bipartite, sample_bits


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
def bracket(rbm: Bipartite, v: Tensor, temperatures: int) -> Bracket:
    """Estimate log Z from both sides with as many particles as there are samples.

    Args:
        v: samples of the RBM, bits (N, D): the base rates are theirs, and the reverse particles start there.
        temperatures: number of steps from the base-rate RBM to this one.
    """
    base = base_rates(rbm, v)
    betas = linear_path(temperatures)
    return Bracket(forward(rbm, base, betas, len(v)), reverse(rbm, base, betas, v))


def linear_path(temperatures: int) -> list[float]:
    """Evenly spaced inverse temperatures from 0 to 1. On digits no other spacing tried did clearly better."""
    return [k / temperatures for k in range(temperatures + 1)]


@torch.no_grad()
def base_rates(rbm: Bipartite, v: Tensor) -> Tensor:
    """Log-odds (D,) of each visible unit's mean, estimated from samples v, (N, D), by averaging p(v_i = 1 | h)."""
    h = sample_bits(rbm.hidden_logits(v))
    return torch.logit(torch.sigmoid(rbm.visible_logits(h)).mean(0), eps=1e-6)


def forward(rbm: Bipartite, base: Tensor, betas: list[float], particles: int) -> LogZ:
    """log Z from particles that start at the base-rate RBM.

    Args:
        base: a, log-odds of the base rates, (D,).
        betas: the path, increasing from 0 to 1.
    """
    log_w = anneal(rbm, base, sample_bits(base.expand(particles, -1)), betas)
    value, error = log_mean_exp(log_w)
    return LogZ(base_log_z(rbm, base) + value, error)


def reverse(rbm: Bipartite, base: Tensor, betas: list[float], v: Tensor) -> LogZ:
    """log Z from particles that start at samples v of the RBM, (N, D), and walk the path of :func:`forward` back."""
    value, error = log_mean_exp(anneal(rbm, base, v, betas[::-1]))
    return LogZ(base_log_z(rbm, base) - value, error)


def base_log_z(rbm: Bipartite, base: Tensor) -> Tensor:
    """log Z_0 = H log 2 + sum_i log(1 + exp(a_i)), scalar."""
    return len(rbm.c) * math.log(2) + F.softplus(base).sum()


@torch.no_grad()
def anneal(rbm: Bipartite, base: Tensor, v: Tensor, betas: list[float]) -> Tensor:
    """Walk particles along a path of inverse temperatures.

    Args:
        base: a, log-odds of the base rates, (D,).
        v: samples of the RBM at betas[0], bits (N, D).
        betas: inverse temperatures, in the order of the walk.

    Returns:
        log w of each particle, (N,).
    """
    bias = rbm.b - base
    log_w = v.new_zeros(len(v))
    logits = rbm.hidden_logits(v)
    for k in range(1, len(betas)):
        last, beta = betas[k - 1], betas[k]
        log_w += (beta - last) * (v @ bias)
        log_w += (F.softplus(beta * logits) - F.softplus(last * logits)).sum(1)
        h = sample_bits(beta * logits)
        v = sample_bits(beta * rbm.visible_logits(h) + (1 - beta) * base)
        logits = rbm.hidden_logits(v)
    return log_w


def log_mean_exp(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean of w, and its standard error by the delta method: std(w) / (mean(w) sqrt(N)). (N,) -> scalars."""
    w = torch.exp(log_w - log_w.max())
    return log_w.max() + w.mean().log(), w.std() / (w.mean() * math.sqrt(len(w)))


@torch.no_grad()
def exact_log_z(rbm: Bipartite) -> Tensor:
    """log Z, scalar, by summing over all states of the smaller side: 2^20 states of 784 pixels take half a minute."""
    W, b, c = (rbm.W, rbm.b, rbm.c) if rbm.W.shape[1] <= rbm.W.shape[0] else (rbm.W.t(), rbm.c, rbm.b)
    units = torch.arange(len(b), device=b.device)
    sums = []
    for states in torch.arange(2 ** len(b), device=b.device).split(2**13):
        v = ((states[:, None] >> units) & 1).to(b.dtype)
        sums.append(torch.logsumexp(v @ b + F.softplus(F.linear(v, W, c)).sum(1), 0))
    return torch.logsumexp(torch.stack(sums), 0)
