"""The mixture of conditional Gaussian scale mixtures: experts that each predict linearly, chosen by a quadratic form.

    p(y | h) = sum_cs p(c, s | h) N(y; a_c . h, exp(-alpha_cs))
    p(c, s | h)  is proportional to  exp(eta_cs - exp(alpha_cs) / 2 h' K_c h),      K_c = sum_n beta_cn^2 b_n b_n'

It is what a mixture of Gaussian scale mixtures over (h, y) says about y: c is the kind of edge or texture, s its
contrast, and how large h is in the directions of K_c says how uncertain y is. Natural images are like that: the next
pixel is nearly a linear function of its neighbours, with an error whose tails are heavy.

(Theis, Hosseini & Bethge 2012, "Mixtures of conditional Gaussian scale mixtures applied to multiscale image
representations"; in this form, Theis & Bethge 2015, section 2.1.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MCGSM(nn.Module):
    """See module. Maps features (..., D) to logits, means and log-precisions of the C S components, (..., 3, C S).

    It begins with means near 0 and, within each component, with deviations from 1 down to ``finest``.

    Args:
        inputs: D. What shall move the mean by a constant is one of the inputs, a constant 1.
        components: C.
        scales: S.
        features: N, directions b_n.
        finest: deviation of the finest scale in the beginning.
    """

    def __init__(
        self, inputs: int, *, components: int, scales: int, features: int, finest: float = math.exp(-3)
    ) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.zeros(components, scales))
        deviations = torch.linspace(0, math.log(finest), scales) if scales > 1 else torch.zeros(1)
        self.alpha = nn.Parameter((-2 * deviations).repeat(components, 1) + 0.1 * torch.randn(components, scales))
        self.beta = nn.Parameter(0.1 * torch.rand(components, features))
        self.b = nn.Parameter(torch.randn(features, inputs) / math.sqrt(inputs))
        self.a = nn.Parameter(0.1 * torch.randn(components, inputs) / math.sqrt(inputs))

    def forward(self, h: Tensor) -> Tensor:
        """See class."""
        energy = (h @ self.b.T).square() @ self.beta.square().T  # h' K_c h, (..., C)
        logits = self.eta - self.alpha.exp() / 2 * energy.unsqueeze(-1)  # (..., C, S)
        means = (h @ self.a.T).unsqueeze(-1).expand_as(logits)
        return torch.stack([logits, means, self.alpha.expand_as(logits)], -3).flatten(-2)
