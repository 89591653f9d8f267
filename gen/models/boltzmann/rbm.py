"""Restricted Boltzmann machine: an energy over pixels and binary features, learnt by contrast with its own fantasies.

The model gives an image v the free energy F(v) = -log sum_h exp(-E(v, h)) of :mod:`gen.nets.boltzmann` and the
probability exp(-F(v)) / Z. Raising the likelihood lowers F where the data are and raises it where the model believes
data to be; that second place has to be sampled. Contrastive divergence [1] runs k Gibbs steps from the data themselves:
cheap, but blind to places far from any image. Persistent contrastive divergence [2] lets a set of chains live through
the whole training: the weights move little per step, so the chains stay close to the model's distribution.

    L = mean F(v) - mean F([v_k]) + weight_cost |W|^2 / 2,
    v_k = k Gibbs steps from v (CD-k) or from the persistent chains (PCD-k)

with the chain [v_k] held constant, so that the gradient of the first two terms is minus that of mean log p(v) as far as
v_k is a sample of the model.

Algorithm: draw v; run the chains k steps; step on L; keep the chains where they are.

Logged: ``free_energy`` of the batch, ``chain_free_energy`` of the chains. On held-out images
``free_energy`` again (rising above the training curve: overfitting), ``pseudo_likelihood``, an estimate of
sum_i log p(v_i | rest) in nats, and ``reconstruction``, the cross-entropy of one step up and down, in nats, which is
easy to watch but is not what is being minimised.

[1] Geoffrey Hinton. Training products of experts by minimizing contrastive divergence. Neural Computation, 2002.
[2] Tijmen Tieleman. Training restricted Boltzmann machines using approximations to the likelihood gradient. ICML 2008.
[3] Ruslan Salakhutdinov and Iain Murray. On the quantitative analysis of deep belief networks. ICML 2008.
[4] Geoffrey Hinton. A practical guide to training restricted Boltzmann machines. Technical report UTML 2010-003, 2010.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.inference import ais
from gen.inference.gibbs import gibbs
from gen.model import SGD, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.nets.boltzmann import RBMLayer
from gen.nets.units import sample_bits
from gen.registry import register

ENUMERABLE = 20  # up to so many hidden units, log Z is summed exactly
PICTURED = 100  # filters and fantasies drawn


@register("rbm")
class RBM(GenerativeModel):
    """A restricted Boltzmann machine over binary pixels.

    Args:
        hidden: H, number of hidden units.
        steps: k, Gibbs steps per update.
        chains: persistent chains on each rank (PCD); 0 starts the chains at the data (CD).
        weight_cost: factor of the penalty |W|^2 / 2 on the weights, not the biases (section 10 of [4]).
        burn_in: Gibbs steps between the persistent chains (or, without them, noise) and a sample.
        particles: AIS particles.
        temperatures: AIS steps from the base-rate RBM.
    """

    spaces = ("binary_dynamic", "binary_fixed")
    rank_local = ("chains",)
    chains: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: int = 500,
        steps: int = 1,
        chains: int = 100,
        weight_cost: float = 2e-3,
        burn_in: int = 1000,
        particles: int = 200,
        temperatures: int = 1500,
    ) -> None:
        super().__init__(spec)
        at_least(0, chains=chains, weight_cost=weight_cost, burn_in=burn_in)
        at_least(1, hidden=hidden, steps=steps, temperatures=temperatures)
        at_least(2, particles=particles)
        self.steps, self.burn_in, self.particles, self.temperatures = steps, burn_in, particles, temperatures
        self.weight_cost = weight_cost
        self.rbm = RBMLayer(spec.dims, hidden)
        self.register_buffer("chains", torch.zeros(chains, spec.dims))

    def optimizers(self) -> dict[str, Optim]:
        """SGD whose rate falls linearly to 0, as in [2]. Momentum lets the chains fall behind."""
        return {"model": SGD(lr=0.2, decay="linear")}

    def initialize(self, x: Tensor) -> None:
        """Visible biases at the log-odds of the pixel means; chains at samples of this first model."""
        self.rbm.set_base_rates(x.flatten(1))
        with torch.no_grad():
            self.chains.copy_(self.rbm.start(len(self.chains)))

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """CD-k or PCD-k."""
        v = next(batches).x.flatten(1)
        v_k = gibbs(self.rbm, self.chains if len(self.chains) else v, self.steps)
        data, model = self.rbm.mean_free_energies(v, v_k)
        loss = data - model + 0.5 * self.weight_cost * self.rbm.W.square().sum()
        yield Update("model", loss, {"free_energy": data.detach(), "chain_free_energy": model.detach()})
        if len(self.chains):
            self.chains.copy_(v_k)

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """Free energy, pseudo-likelihood and reconstruction error of held-out images."""
        v = batch.x.flatten(1)
        energy = self.rbm.free_energy(v)
        # log p(v_i | rest) = log sigmoid(F(v with bit i flipped) - F(v)), for one random i instead of all D.
        i = torch.randint(v.shape[1], (len(v), 1), device=v.device)
        flipped = v.scatter(1, i, 1 - v.gather(1, i))
        pseudo = v.shape[1] * F.logsigmoid(self.rbm.free_energy(flipped) - energy)
        decoded = self.decode(self.encode(batch.x))
        return {
            "free_energy": energy.mean(),
            "pseudo_likelihood": pseudo.mean(),
            "reconstruction": F.binary_cross_entropy(decoded, batch.x, reduction="sum") / len(v),
        }

    @torch.no_grad()
    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See :class:`gen.model.Samples`: ``burn_in`` steps from the persistent chains or from noise, at E / T."""
        return self._sample(count, temperature).view(count, *self.spec.shape)

    def _sample(self, count: int, temperature: float = 1.0) -> Tensor:
        """Bits, (count, D)."""
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
        """See :class:`gen.model.Encodes`: p(v = 1 | h)."""
        return torch.sigmoid(self.rbm.visible_logits(code)).view(-1, *self.spec.shape)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`: weights of the first hidden units, grey where zero; fantasies, p(v | h)."""
        W = self.rbm.W[:PICTURED]
        chains = self.chains[:PICTURED] if len(self.chains) else self._sample(PICTURED)
        fantasies = self.decode(sample_bits(self.rbm.hidden_logits(chains)))
        filters = (0.5 + 0.5 * W / W.abs().amax(1, keepdim=True)).view(-1, *self.spec.shape)
        return {"filters": filters, "fantasies": fantasies}
