"""Normalizing flows for posteriors: maps z -> z' that bend a Gaussian into another density whose value is still known.

If z has the density q and f is invertible, z' = f(z) has the density

    log q'(z') = log q(z) - log |det df/dz|                                        [1], equation 5

so a chain of simple steps, each with a cheap determinant, makes a rich posterior of a simple one. The parameters of a
step are computed from a context, the encoder's features of the image, so every image has a flow of its own. A posterior
is only ever evaluated where it was sampled: nothing here needs the inverse of f, which has to exist all the same.

    planar        z' = z + u tanh(w'z + b): pushes along u, by an amount that varies along w   [1], section 4.1
    householder   z' = z - 2 v (v'z) / |v|^2: a reflection; a chain of them turns the axes of the Gaussian, which so
                  becomes one with a full covariance; det = -1                                           [2]
    iaf           z'_i = s_i z_i + (1 - s_i) m_i, with s_i in (0, 1) and m_i functions of z_1 .. z_{i-1}, by a masked
                  network; the Jacobian is triangular                                       [3], algorithm 1

[1] D. Rezende, S. Mohamed. Variational Inference with Normalizing Flows. 2015.
[2] J. Tomczak, M. Welling. Improving Variational Auto-Encoders using Householder Flow. 2016.
[3] D. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever, M. Welling. Improving Variational Inference with
    Inverse Autoregressive Flow. 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.errors import RecipeError, nearest
from gen.nets.made import MADE

FlowName = Literal["iaf", "planar", "householder"]
FLOWS = ("iaf", "planar", "householder")
GATE = 2.0
"""Bias of the gates of a new IAF step: sigmoid(2) = 0.88 of z is kept, like an LSTM's forget gate ([3], section 4)."""


class Planar(nn.Module):
    """Planar flow: z (B, D), context (B, C) -> z' (B, D), log |det|, (B,).

    The map is invertible if w'u > -1. So u is replaced by u_hat = u + (m(w'u) - w'u) w / |w|^2, whose product with w is
    m(w'u) > -1 ([1], appendix A.1). Here m(a) = softplus(a + log(e - 1)) - 1, the paper's but for a shift that makes
    m(0) = 0: the step that does nothing is the one with u = 0.

    Args:
        dims: D.
        context: C.
    """

    def __init__(self, dims: int, context: int) -> None:
        super().__init__()
        self.dims = dims
        self.parameters_of = nn.Linear(context, 2 * dims + 1)

    def direction(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The parameters for each image: u_hat (B, D), w (B, D), b (B, 1), and w'u_hat + 1 > 0, (B, 1)."""
        u, w, b = self.parameters_of(context).split([self.dims, self.dims, 1], dim=1)
        product = (w * u).sum(1, keepdim=True)
        stretch = F.softplus(product + math.log(math.e - 1))
        squared = w.square().sum(1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
        return u + (stretch - 1 - product) * w / squared, w, b, stretch

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """See class."""
        u, w, b, stretch = self.direction(context)
        pushed = torch.tanh((w * z).sum(1, keepdim=True) + b)
        # 1 + (1 - tanh^2) w'u_hat, written as a mean of 1 and w'u_hat + 1: nothing cancels, and it stays positive.
        flat = pushed.square()
        return z + u * pushed, torch.log(flat + (1 - flat) * stretch).squeeze(1)


class Householder(nn.Module):
    """Reflection at the plane orthogonal to v: z (B, D), context (B, C) -> z' (B, D), log |det| = 0, (B,).

    Args:
        dims: D.
        context: C.
    """

    def __init__(self, dims: int, context: int) -> None:
        super().__init__()
        self.normal = nn.Linear(context, dims)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """See class."""
        v = F.normalize(self.normal(context), dim=1)
        return z - 2 * v * (v * z).sum(1, keepdim=True), z.new_zeros(len(z))


class InverseAutoregressive(nn.Module):
    """One IAF step, in its numerically stable, gated form: z (B, D), context (B, C) -> z' (B, D), log |det|, (B,).

    It is called inverse because the slow direction of an autoregressive model, sampling, would be its inverse.

    Args:
        dims: D.
        context: C.
        hidden: width of the masked network's one hidden layer.
        reverse: z_D is the first to move, and hears of no other.
    """

    def __init__(self, dims: int, context: int, *, hidden: int, reverse: bool) -> None:
        super().__init__()
        self.net = MADE(dims, 2, hidden=(hidden,), context=context, reverse=reverse)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """See class."""
        m, gate = self.net(z, context).unbind(1)
        gate = gate + GATE
        s = torch.sigmoid(gate)
        return s * z + (1 - s) * m, F.logsigmoid(gate).sum(1)


class Flow(nn.Module):
    """Steps one after the other: z (B, D), context (B, C) -> z' (B, D), log |det| of them all, (B,).

    Args:
        steps: modules of that form; with none of them, z' = z.
    """

    def __init__(self, steps: Iterable[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """See class."""
        log_det = z.new_zeros(len(z))
        for step in self.steps:
            z, of_step = step(z, context)
            log_det = log_det + of_step
        return z, log_det


def make_flow(name: FlowName, steps: int, *, dims: int, context: int, hidden: int) -> Flow:
    """A flow of equal steps; those of IAF go through the dimensions forwards and backwards in turn.

    Args:
        name: see module.
        steps: how many; 0 is the identity.
        dims: D.
        context: C, features of an image.
        hidden: of each step's network, if it has one.

    Raises:
        RecipeError: no such flow, or a negative number of steps.
    """
    if steps < 0:
        raise RecipeError(f"hyper.steps: found {steps}, allowed 0 (a Gaussian) and more.")
    match name:
        case "iaf":
            return Flow(InverseAutoregressive(dims, context, hidden=hidden, reverse=i % 2 == 1) for i in range(steps))
        case "planar":
            return Flow(Planar(dims, context) for _ in range(steps))
        case "householder":
            return Flow(Householder(dims, context) for _ in range(steps))
    raise RecipeError(f"hyper.flow: there is no flow '{name}'. Allowed: {', '.join(FLOWS)}.{nearest(name, FLOWS)}")
