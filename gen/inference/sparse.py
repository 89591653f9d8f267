"""Sparse codes: min_h 1/2 |x - D h|^2 + lambda |h|_1 for a batch of signals, by proximal gradient steps.

One step descends the smooth part and shrinks:  h <- S(h - D^T (D h - x) / L, lambda / L),  L = |D|_2^2, where
S(a, t) = sign(a) max(|a| - t, 0) is torch's softshrink. All steps need D and x through G = D^T D and D^T x only, so a
step costs one product with a (K, K) matrix, whatever the size of the signals.

Shapes throughout: signals x (N, d), dictionary D (d, K) with one atom per column, codes h (N, K).

[1] I. Daubechies, M. Defrise, C. De Mol (2004). An iterative thresholding algorithm for linear inverse problems with a
    sparsity constraint. (ISTA)
[2] A. Beck, M. Teboulle (2009). A fast iterative shrinkage-thresholding algorithm for linear inverse problems.
[3] B. O'Donoghue, E. Candes (2015). Adaptive restart for accelerated gradient schemes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softshrink


def objective(x: Tensor, D: Tensor, h: Tensor, penalty: float) -> Tensor:
    """1/2 |x - D h|^2 + penalty |h|_1 of every signal, (N,)."""
    return 0.5 * (x - h @ D.T).square().sum(1) + penalty * h.abs().sum(1)


def step_size(G: Tensor) -> float:
    """1 / L: the longest step that cannot overshoot, from G = D^T D, (K, K). Finite even for a dictionary of zeros."""
    return 1 / max(torch.linalg.eigvalsh(G)[-1].item(), torch.finfo(G.dtype).tiny)


def _violation(gradient: Tensor, h: Tensor, penalty: float) -> Tensor:
    on_support = (gradient + penalty * h.sign()).abs()
    off_support = gradient.abs() - penalty
    return torch.where(h != 0, on_support, off_support).amax(1).clamp(min=0) / penalty


def kkt_violation(x: Tensor, D: Tensor, h: Tensor, penalty: float) -> Tensor:
    """How far codes are from optimal, in units of the penalty, (N,). Zero if and only if h is a minimiser.

    With the gradient g = D^T (D h - x), the conditions are g_k = -penalty sign(h_k) where h_k is not 0, and
    |g_k| <= penalty elsewhere. A violation of 1e-3 implies |g|_inf <= penalty (1 + 1e-3).
    """
    return _violation((h @ D.T - x) @ D, h, penalty)


def ista(x: Tensor, D: Tensor, penalty: float, *, iterations: int, start: Tensor | None = None) -> Tensor:
    """Codes after so many proximal gradient steps [1]; the objective never increases.

    Args:
        start: codes to start from, (N, K); zeros by default.
    """
    G, c = D.T @ D, x @ D
    step = step_size(G)
    h = torch.zeros_like(c) if start is None else start
    for _ in range(iterations):
        h = softshrink(h - step * (h @ G - c), step * penalty)
    return h


def fista(x: Tensor, D: Tensor, penalty: float, *, iterations: int = 1000, tolerance: float = 5e-4) -> Tensor:
    """Codes whose :func:`kkt_violation` is at most ``tolerance``, or those after ``iterations`` accelerated steps [2].

    The momentum of a signal restarts when it points uphill [3], which makes convergence linear once the support is
    found. The conditions are checked every tenth step, at the cost of one more step, and signals that meet them leave.
    """
    G, c = D.T @ D, x @ D
    step = step_size(G)
    codes = h = y = torch.zeros_like(c)
    t = torch.ones_like(c[:, :1])
    rows = torch.arange(len(x), device=x.device)  # signals still worked on
    for i in range(1, iterations + 1):
        previous, h = h, softshrink(y - step * (y @ G - c), step * penalty)
        t = torch.where(((y - h) * (h - previous)).sum(1, keepdim=True) > 0, 1.0, t)
        t_next = (1 + (1 + 4 * t.square()).sqrt()) / 2
        y, t = h + (t - 1) / t_next * (h - previous), t_next
        if i % 10 == 0 or i == iterations:
            codes = codes.index_copy(0, rows, h)
            left = _violation(h @ G - c, h, penalty) > tolerance
            if not left.any():
                break
            rows, c, h, y, t = rows[left], c[left], h[left], y[left], t[left]
    return codes
