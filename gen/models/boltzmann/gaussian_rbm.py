"""Gaussian RBM: a restricted Boltzmann machine over grey values, a mixture of 2^H Gaussians.

The pixels of a binary RBM are coins. Here [1] they are normal: given the hidden bits h, pixel i has a mean to which
every bit that is on adds its filter, and a deviation sigma_i of its own. Summing over h leaves a mixture of 2^H
Gaussians with one diagonal covariance, whose centres are all sums of subsets of H filters and whose weights follow
from the energy. With unit deviations the machine detects features and takes much of the pixels for noise; deviations
that are learnt, as log-variances [2], make it a density of pixels. The sharper they get, the farther apart are the
centres in units of sigma, and the worse Gibbs chains mix between them: it is what limits this model.

    E(v, h) = sum_i exp(-z_i) (u_i - b_i)^2 / 2 - c.h - h.W (exp(-z) u),
    u = (v - mu) / s,    sigma_i = s_i exp(z_i / 2),    p(v_i | h) = N(mu_i + s_i (b_i + (W'h)_i), sigma_i^2)

    L = mean F(v) - mean F([v_k]) + weight_cost |W|^2 / 2,    F(v) = -log sum_h exp(-E(v, h))

with v_k from k Gibbs steps, held constant, as for the binary machine (`gen.nets.boltzmann` has the algebra).

Standardisation: mu and s are the means and deviations of the pixels in the first training images, s at least
``floor``, and stay; v itself stays in [0, 1), so that densities need no Jacobian. After every step z is raised to
where sigma is at least the floor: a pixel that is black in all of training varies by its dequantisation only, and
without a floor a test image that lights it costs 10^5 nats. A dead pixel at the default floor is worth 3.7 nats, so
nats can be compared at equal floors only; the default is that of the factor model.

How far to train is a matter of the chains. On digits, with 500 units and twice the rate, reverse AIS put log p(v) 30
nats above forward AIS, which cannot be if both start from what they should: the chains were no samples of the model any
more. At the default size and rate the two differed by 0 and 2 nats for two seeds.

Algorithm: draw v; run the chains k steps from v (CD-k) or from where they are (PCD-k); step on L; project z.

Logged: ``free_energy`` of the batch, ``chain_free_energy`` of the chains and ``deviation``, the mean of exp(z / 2). On
held-out images ``free_energy`` and ``reconstruction``, the squared error of one step up and down, per image.

[1] Geoffrey Hinton and Ruslan Salakhutdinov. Reducing the dimensionality of data with neural networks. Science, 2006.
[2] KyungHyun Cho, Alexander Ilin and Tapani Raiko. Improved learning of Gaussian-Bernoulli restricted Boltzmann
    machines. ICANN 2011.
[3] Ruslan Salakhutdinov and Iain Murray. On the quantitative analysis of deep belief networks. ICML 2008.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference import ais
from gen.inference.gibbs import gibbs
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.nets.boltzmann import GaussianRBMLayer
from gen.nets.units import sample_bits
from gen.registry import register

ENUMERABLE = 20  # up to so many hidden units, log Z is summed exactly
PICTURED = 100  # filters and fantasies drawn
VARIANCES = ("learnt", "unit")


@register("gaussian_rbm")
class GaussianRBM(GenerativeModel):
    """A restricted Boltzmann machine over real pixels.

    Args:
        hidden: H, number of hidden units.
        variances: of the standardised pixels given h: ``learnt``, one for each pixel, or ``unit``.
        floor: smallest deviation of a pixel, in units of x; the default is 2.6 grey levels.
        steps: k, Gibbs steps per update.
        chains: persistent chains on each rank (PCD); 0 starts the chains at the data (CD).
        weight_cost: factor of the penalty |W|^2 / 2 on the weights, not the biases.
        burn_in: Gibbs steps between the persistent chains (or, without them, noise) and a sample.
        particles: AIS particles.
        temperatures: AIS steps from independent pixels.
    """

    spaces = ("dequantized",)
    rank_local = ("chains",)
    chains: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: int = 300,
        variances: Literal["learnt", "unit"] = "learnt",
        floor: float = 0.01,
        steps: int = 1,
        chains: int = 100,
        weight_cost: float = 0.0,
        burn_in: int = 1000,
        particles: int = 200,
        temperatures: int = 1500,
    ) -> None:
        super().__init__(spec)
        at_least(0, chains=chains, weight_cost=weight_cost, burn_in=burn_in)
        at_least(1, hidden=hidden, steps=steps, temperatures=temperatures)
        at_least(2, particles=particles)
        if variances not in VARIANCES:
            raise RecipeError(f"hyper.variances: found '{variances}', allowed {', '.join(VARIANCES)}.")
        if not floor > 0:
            raise RecipeError(
                f"hyper.floor: found {floor}, allowed above 0; 0.0011 is the deviation of dequantisation."
            )
        self.steps, self.burn_in, self.particles, self.temperatures = steps, burn_in, particles, temperatures
        self.weight_cost = weight_cost
        self.rbm = GaussianRBMLayer(spec.dims, hidden, learnt=variances == "learnt", floor=floor)
        self.register_buffer("chains", torch.zeros(chains, spec.dims))

    def optimizers(self) -> dict[str, Optim]:
        """Adam, whose rate falls linearly to 0: the curvature of W goes with exp(-z), which changes in training."""
        return {"model": Adam(lr=1.5e-3, decay="linear")}

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Standardise the pixels; chains at samples of this first model, independent pixels."""
        self.rbm.set_base_rates(x.flatten(1))
        self.chains.copy_(self.rbm.start(len(self.chains)))

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """CD-k or PCD-k."""
        v = next(batches).x.flatten(1)
        v_k = gibbs(self.rbm, self.chains if len(self.chains) else v, self.steps)
        data, model = self.rbm.mean_free_energies(v, v_k)
        loss = data - model + 0.5 * self.weight_cost * self.rbm.W.square().sum()
        deviation = torch.exp(self.rbm.z.detach() / 2).mean()
        metrics = {"free_energy": data.detach(), "chain_free_energy": model.detach(), "deviation": deviation}
        yield Update("model", loss, metrics)
        self.rbm.project()
        if len(self.chains):
            self.chains.copy_(v_k)

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """Free energy and reconstruction error of held-out images."""
        error = (self.decode(self.encode(batch.x)) - batch.x).square().flatten(1).sum(1)
        return {"free_energy": self.rbm.free_energy(batch.x.flatten(1)).mean(), "reconstruction": error.mean()}

    @torch.no_grad()
    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See :class:`gen.model.Samples`: ``burn_in`` steps from the persistent chains or from noise, at E / T.

        Grey values outside [0, 1) become black or white.
        """
        return self._sample(count, temperature).clamp(0, 255 / 256).view(count, *self.spec.shape)

    def _sample(self, count: int, temperature: float = 1.0) -> Tensor:
        """Visible states of the model, (count, D)."""
        if len(self.chains):
            v = self.chains[torch.randint(len(self.chains), (count,), device=self.chains.device)]
        else:
            v = self.rbm.start(count)
        return gibbs(self.rbm, v, self.burn_in, temperature=temperature)

    @torch.no_grad()
    def likelihoods(self) -> dict[str, Likelihood]:
        """See :class:`gen.model.Scores`: log p(v) = -F(v) - log Z, with log Z by AIS [3], and exact where it can be."""
        estimates = ais.bracket(self.rbm, self._sample(self.particles), self.temperatures)
        found = {
            "ais_reverse": Likelihood("estimate", partial(self._log_prob, log_z=estimates.reverse.value)),
            "ais": Likelihood("estimate", partial(self._log_prob, log_z=estimates.forward.value)),
        }
        if len(self.rbm.c_0) <= ENUMERABLE:
            found["exact"] = Likelihood("exact", partial(self._log_prob, log_z=ais.exact_log_z(self.rbm)))
        return found

    @torch.no_grad()
    def _log_prob(self, x: Tensor, *, log_z: Tensor) -> Tensor:
        """log p(x) of images (B, C, H, W) in nats, (B,)."""
        return -self.rbm.free_energy(x.flatten(1)) - log_z

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`: p(h = 1 | v), (B, hidden)."""
        return torch.sigmoid(self.rbm.hidden_logits(x.flatten(1)))

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`: E[v | h], which may leave [0, 1)."""
        return self.rbm.visible(code).mean().view(-1, *self.spec.shape)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`: filters s W of the first hidden units, grey where zero; fantasies, E[v | h];
        the deviations sigma, in units of the largest."""
        filters = (self.rbm.scale * self.rbm.W)[:PICTURED]
        filters = 0.5 + 0.5 * filters / filters.abs().amax(1, keepdim=True)
        chains = self.chains[:PICTURED] if len(self.chains) else self._sample(PICTURED)
        fantasies = self.decode(sample_bits(self.rbm.hidden_logits(chains))).clamp(0, 1)
        sigma = self.rbm.scale * torch.exp(self.rbm.z / 2)
        return {
            "filters": filters.view(-1, *self.spec.shape),
            "fantasies": fantasies,
            "deviations": (sigma / sigma.max()).view(1, *self.spec.shape),
        }
