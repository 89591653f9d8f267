"""Deep belief network: a stack of RBMs, each trained on what the one below infers.

The top two layers of a DBN are an RBM; below it, every layer is generated from the one above:

    p(x, h^1, ..., h^L) = p(x | h^1) p(h^1 | h^2) ... p(h^{L-1}, h^L).

It is learnt greedily [1]. A trained RBM p(x) = sum_h p(x | h) p(h) is opened up: p(x | h) and the inference Q(h | x)
are frozen, and its prior over h is replaced by the next RBM, which is trained on h ~ Q(h | x). That maximises the last
term under the expectation of the bound

    log p(x) >= E_Q[log p(x | h^1) + ... + log p*(h^{L-1})] + H(Q) - log Z,       p* = exp(-F) of the top RBM,

and since a next RBM that starts as the transpose of the last one *is* the old prior, where the bound is tight, every
layer can only improve the bound on the training data (section 4 of [1]).

Algorithm: the budget is shared equally by the layers. In its share, each one is trained as an RBM by persistent
contrastive divergence [2] on bits sampled from Q, its learning rate falling linearly to 0 (with SGD, scaling the loss
does just that). When the next share begins, the next RBM starts as the transpose, if it is wide enough, and its chains
start at the hidden states of the chains below.

Until then the layers above the one in training do not exist: samples, codes and bounds are those of the lower stack.

Logged: ``free_energy`` of what the layer in training sees and ``chain_free_energy`` of its chains, in nats. On held-out
images ``free_energy`` too, and ``reconstruction``: the cross-entropy of a way up and down the stack, in nats.

[1] Geoffrey Hinton, Simon Osindero and Yee-Whye Teh. A fast learning algorithm for deep belief nets. Neural
    Computation, 2006.
[2] Tijmen Tieleman. Training restricted Boltzmann machines using approximations to the likelihood gradient. ICML 2008.
[3] Ruslan Salakhutdinov and Iain Murray. On the quantitative analysis of deep belief networks. ICML 2008.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference import ais
from gen.inference.gibbs import gibbs
from gen.losses.likelihoods import bernoulli_log_prob
from gen.model import SGD, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.nets.boltzmann import RBMLayer
from gen.nets.units import sample_bits
from gen.registry import register

PICTURED = 100  # filters and fantasies drawn


@register("dbn")
class DBN(GenerativeModel):
    """A deep belief network over binary pixels.

    Args:
        hidden: units of each hidden layer, from the pixels up. A layer at least as wide as the second one below it
            (for the second: the number of pixels) starts as the transpose of the last RBM.
        steps: k, Gibbs steps per update.
        chains: persistent chains on each rank.
        weight_cost: factor of the penalty |W|^2 / 2 on the weights, not the biases.
        burn_in: Gibbs steps in the top RBM between the chains and a sample.
        particles: AIS particles.
        temperatures: AIS steps from the base-rate RBM.
        posterior_samples: draws from Q per image in the bound.
    """

    spaces = ("binary_dynamic", "binary_fixed")
    rank_local = ("chains",)
    chains: Tensor
    top: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: Sequence[int] = (500, 784),
        steps: int = 1,
        chains: int = 100,
        weight_cost: float = 2e-3,
        burn_in: int = 1000,
        particles: int = 100,
        temperatures: int = 1500,
        posterior_samples: int = 10,
    ) -> None:
        super().__init__(spec)
        if not hidden or min(hidden) < 1:
            raise RecipeError(f"hyper.hidden: found {list(hidden)}, allowed one or more positive numbers of units.")
        at_least(0, weight_cost=weight_cost, burn_in=burn_in)
        at_least(1, steps=steps, chains=chains, temperatures=temperatures, posterior_samples=posterior_samples)
        at_least(2, particles=particles)
        self.steps, self.burn_in, self.particles, self.temperatures = steps, burn_in, particles, temperatures
        self.weight_cost, self.posterior_samples = weight_cost, posterior_samples
        sizes = (spec.dims, *hidden)
        self.layers = nn.ModuleList(RBMLayer(below, above) for below, above in pairwise(sizes))
        # Index of the top RBM, which is the one in training.
        self.register_buffer("top", torch.tensor(0))
        # Visible states of the top RBM's chains, in the first columns.
        self.register_buffer("chains", torch.zeros(chains, max(sizes[:-1])))

    @property
    def stack(self) -> list[RBMLayer]:
        """The RBMs up to the top one."""
        return [cast(RBMLayer, layer) for layer in self.layers[: int(self.top) + 1]]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """One group per RBM, from the pixels up."""
        return {f"rbm{index}": list(layer.parameters()) for index, layer in enumerate(self.layers)}

    def optimizers(self) -> dict[str, Optim]:
        """Plain SGD; the decay within each share of the budget is in the loss.

        The upper RBMs start at a good model, which the rate of the first would undo before it learns anything.
        """
        return {name: SGD(lr=0.2 if name == "rbm0" else 0.05) for name in self.groups()}

    def initialize(self, x: Tensor) -> None:
        """Visible biases at the log-odds of the pixel means; chains at samples of this first model."""
        self.stack[0].set_base_rates(x.flatten(1))
        with torch.no_grad():
            self._keep(self.stack[0].start(len(self.chains)))

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """PCD-k on the RBM whose share of the budget it is."""
        share = progress.fraction * len(self.layers)
        self._grow(min(int(share), len(self.layers) - 1))
        *lower, rbm = self.stack
        v = self._infer(next(batches).x, lower)
        v_k = gibbs(rbm, self._chains(rbm), self.steps)
        data, model = rbm.mean_free_energies(v, v_k)
        loss = data - model + 0.5 * self.weight_cost * rbm.W.square().sum()
        rate = 1 - (share - len(lower))
        metrics = {"free_energy": data.detach(), "chain_free_energy": model.detach()}
        yield Update(f"rbm{len(lower)}", rate * loss, metrics)
        self._keep(v_k)

    @torch.no_grad()
    def _grow(self, top: int) -> None:
        """Put RBMs up to index ``top`` on the stack; nothing happens if they are there."""
        while int(self.top) < top:
            below, above = self.stack[-1], cast(RBMLayer, self.layers[int(self.top) + 1])
            if len(above.c_0) >= len(below.b_0):
                above.set_transpose(below)
            else:
                above.b_0.copy_(below.c_0)
            self._keep(sample_bits(below.hidden_logits(self._chains(below))))
            self.top += 1

    def _chains(self, rbm: RBMLayer) -> Tensor:
        """Visible states of the top RBM's chains, (chains, D)."""
        return self.chains[:, : len(rbm.b_0)]

    def _keep(self, v: Tensor) -> None:
        """Leave the chains at v, (chains, D)."""
        self.chains[:, : v.shape[1]] = v

    @torch.no_grad()
    def _infer(self, x: Tensor, layers: Sequence[RBMLayer]) -> Tensor:
        """Bits of the top of ``layers``, drawn from Q: images (B, C, H, W) -> (B, units)."""
        h = x.flatten(1)
        for rbm in layers:
            h = sample_bits(rbm.hidden_logits(h))
        return h

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """Free energy and reconstruction error of held-out images."""
        *lower, rbm = self.stack
        decoded = self.decode(self.encode(batch.x))
        reconstruction = F.binary_cross_entropy(decoded, batch.x, reduction="sum") / len(batch.x)
        free_energy = rbm.free_energy(self._infer(batch.x, lower))
        return {"free_energy": free_energy.mean(), "reconstruction": reconstruction}

    @torch.no_grad()
    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See :class:`gen.model.Samples`: ``burn_in`` Gibbs steps of the top RBM's chains, then down the stack.

        The temperature divides the energy of the top RBM and the log-odds on the way down.
        """
        h = self._sample_top(count, temperature)
        return self._generate(h, temperature).view(count, *self.spec.shape)

    def _sample_top(self, count: int, temperature: float = 1.0) -> Tensor:
        """Visible states of the top RBM, (count, units)."""
        rbm = self.stack[-1]
        chosen = torch.randint(len(self.chains), (count,), device=self.chains.device)
        return gibbs(rbm, self._chains(rbm)[chosen], self.burn_in, temperature=temperature)

    def _generate(self, h: Tensor, temperature: float = 1.0) -> Tensor:
        """Pixels drawn down the stack from visible states of the top RBM, (B, units) -> (B, D)."""
        for layer in reversed(self.stack[:-1]):
            h = sample_bits(layer.visible_logits(h) / temperature)
        return h

    @torch.no_grad()
    def likelihoods(self) -> dict[str, Likelihood]:
        """See :class:`gen.model.Scores`: the bound with log Z of the top RBM by AIS [3], and the first RBM on its own.

        A bound is one up to the error of its log Z: AIS leans low and lifts it, reverse AIS leans high and lowers it.
        """
        stack, h = self.stack, self._sample_top(self.particles)
        first = stack[0]
        base, path = ais.base_rates(first, self._generate(h)), ais.linear_path(self.temperatures)
        first_log_z = ais.forward(first, base, path, self.particles).value
        top_log_z = ais.bracket(stack[-1], h, self.temperatures)
        return {
            "layer1_ais": Likelihood("estimate", partial(self._bound, layers=[first], log_z=first_log_z)),
            "bound_ais_reverse": Likelihood(
                "lower bound", partial(self._bound, layers=stack, log_z=top_log_z.reverse.value)
            ),
            "bound_ais": Likelihood("lower bound", partial(self._bound, layers=stack, log_z=top_log_z.forward.value)),
        }

    @torch.no_grad()
    def _bound(self, x: Tensor, *, layers: Sequence[RBMLayer], log_z: Tensor) -> Tensor:
        """The bound of a stack of RBMs on log p(x) of images (B, C, H, W), in nats, (B,). Exact for a single RBM."""
        *lower, rbm = layers
        total = -log_z.expand(len(x))
        for _ in range(self.posterior_samples):
            h, log_w = x.flatten(1), total.new_zeros(len(x))
            for layer in lower:
                logits = layer.hidden_logits(h)
                above = sample_bits(logits)
                # log p(h^{l-1} | h^l) - log Q(h^l | h^{l-1}): the entropy by the same draw has no noise if Q is exact.
                log_w += bernoulli_log_prob(layer.visible_logits(above), h) - bernoulli_log_prob(logits, above)
                h = above
            total = total + (log_w - rbm.free_energy(h)) / self.posterior_samples
        return total

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`: probabilities up the stack, (B, hidden units of the top RBM)."""
        h = x.flatten(1)
        for rbm in self.stack:
            h = torch.sigmoid(rbm.hidden_logits(h))
        return h

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`: probabilities down the stack."""
        for rbm in reversed(self.stack):
            code = torch.sigmoid(rbm.visible_logits(code))
        return code.view(-1, *self.spec.shape)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`: filters of the first layer, grey where zero; fantasies down from chains."""
        first, W = self.stack[0], self.stack[0].W[:PICTURED]
        h = sample_bits(self.stack[-1].hidden_logits(self._chains(self.stack[-1])[:PICTURED]))
        for rbm in reversed(self.stack[1:]):
            h = rbm.visible(h).sample()
        filters, fantasies = 0.5 + 0.5 * W / W.abs().amax(1, keepdim=True), first.visible(h).mean()
        return {name: x.view(-1, *self.spec.shape) for name, x in {"filters": filters, "fantasies": fantasies}.items()}
