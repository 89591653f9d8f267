"""Ladder VAE: several levels of causes, inferred from below and from above at once.

Causes have causes: in p(x|z_1) p(z_1|z_2) .. p(z_L) each level is a Gaussian whose mean and variance a network computes
from the level above, and the units of z_1 need not be independent any more. A posterior that only runs upwards,
q(z_1|x) q(z_2|z_1) .., tends to leave the upper levels unused. The ladder's runs downwards, as the model does [1]: a
deterministic pass upwards gathers what the image says about each level, in the form of a Gaussian likelihood
N(m_i, s_i^2); from the top down, this is multiplied with what the level above leads to expect, N(mu_p, sigma_p^2). Each
counts by its precision, so the posterior departs from the prior only where the image has something to say.

    q(z_L|x) = N(m_L, s_L^2),   q(z_i|z_{i+1}, x) = N(mu_q, sigma_q^2) for i < L, where
    1 / sigma_q^2 = 1 / s_i^2 + 1 / sigma_p^2,   mu_q = sigma_q^2 (m_i / s_i^2 + mu_p / sigma_p^2)
    L(x) = E_q log p(x|z_1) - sum_i E_q KL(q(z_i|z_{i+1}, x) || p(z_i|z_{i+1})) <= log p(x)

A unit of no use early on is switched off by its KL and seldom comes back. So the KL is phased in: its weight beta rises
from 0 to 1 over the first images [1]. The paper's batch normalisation is left out: the code of an image does not
depend on its batch, and two levels train without.

Nets: between image and first level those of the VAE, between levels perceptrons with one hidden layer. Algorithm:
gradient descent on -(E_q log p(x|z_1) - beta KL), one code per image.

Metrics: reconstruction and kl, in nats per image, their sum being -L; the KL of each level, kl_1 (next to the image) to
kl_L; beta; at validation also active_units, over all levels. Units are looked at where their prior is a standard
normal, e_i = (z_i - mu_p) / sigma_p, which is the same model in other coordinates: there, a unit that merely repeats
what the level above says has a mean that does not move, and is not active.

[1] C. Sonderby, T. Raiko, L. Maaloe, S. Sonderby, O. Winther. Ladder Variational Autoencoders. 2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference.importance import elbo, iwae
from gen.losses.likelihoods import gaussian_kl, gaussian_log_prob
from gen.losses.observation import LikelihoodName, observation
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.nets.coders import Net, decoder, encoder, set_bias
from gen.nets.mlp import mlp
from gen.registry import register


class Normal(NamedTuple):
    """Independent normal units, (B, K)."""

    mean: Tensor
    log_var: Tensor


class Level(NamedTuple):
    """One level of the way down: a draw z ~ q, q given the level above, and p given the level above."""

    z: Tensor
    q: Normal
    p: Normal

    def standardized(self) -> Normal:
        """q where p is N(0, I). A divergence does not change with the coordinates."""
        return Normal((self.q.mean - self.p.mean) * torch.exp(-0.5 * self.p.log_var), self.q.log_var - self.p.log_var)

    def kl(self) -> Tensor:
        """KL(q || p) of each unit in nats, (B, K)."""
        return gaussian_kl(*self.standardized())


def fuse(likelihood: Normal, prior: Normal) -> Normal:
    """The product of two normal densities, normalised: precisions add, means count by their precision."""
    # The likelihood's share of the precision, 1/s^2 / (1/s^2 + 1/p^2) = p^2 / (p^2 + s^2), is a sigmoid.
    difference = prior.log_var - likelihood.log_var
    mean = torch.lerp(prior.mean, likelihood.mean, torch.sigmoid(difference))
    return Normal(mean, likelihood.log_var + F.logsigmoid(difference))


@register("ladder_vae")
class LadderVAE(GenerativeModel):
    """See module.

    Args:
        latents: units of each level, from the image upwards.
        width: units of the networks between the levels.
        warm_up: images over which the weight of the KL rises from 0 to 1.
        net: ``mlp`` or ``conv``; see :mod:`gen.nets.coders`.
        hidden: between image and first level, units of hidden layers or channels after each halving; the decoder
            mirrors it.
        likelihood: of spaces with more than two levels; see :mod:`gen.losses.observation`.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: Sequence[int] = (20, 10),
        width: int = 200,
        warm_up: int = 100_000,
        net: Net = "mlp",
        hidden: Sequence[int] = (400,),
        likelihood: LikelihoodName = "categorical",
    ) -> None:
        super().__init__(spec)
        if not latents or any(units < 1 for units in latents):
            raise RecipeError(f"hyper.latents: found {list(latents)}, allowed units of each level, as in [20, 10].")
        at_least(1, width=width)
        at_least(0, warm_up=warm_up)
        self.latents, self.warm_up = tuple(latents), warm_up
        self.observation = observation(spec.space, likelihood)
        levels = len(self.latents)
        image = encoder(spec.shape, width, net=net, hidden=hidden)
        self.up = nn.ModuleList([image, *(nn.Linear(width, width) for _ in range(levels - 1))])
        self.evidence_heads = nn.ModuleList(nn.Linear(width, 2 * units) for units in self.latents)
        self.down = nn.ModuleList(mlp([above, width, 2 * below]) for below, above in pairwise(self.latents))
        self.decoder = decoder(self.latents[0], self.observation.outputs, spec.shape, net=net, hidden=hidden)

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=1e-3)}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at pixels by themselves, so that z need not explain what all images share."""
        set_bias(self.decoder, self.observation.start(x))

    def evidence(self, x: Tensor) -> list[Normal]:
        """The way up: images (B, C, H, W) -> the likelihood of each level's units, from the image upwards."""
        found, d = [], x
        for step, head in zip(self.up, self.evidence_heads, strict=True):
            d = F.relu(step(d))
            found.append(Normal(*head(d).chunk(2, dim=1)))
        return found

    def infer(self, evidence: list[Normal]) -> list[Level]:
        """The way down: each level's q and p given a draw of the level above, from the image upwards."""
        levels: list[Level] = []
        for i in reversed(range(len(evidence))):
            if levels:
                p = self.prior(i, levels[0].z)
                q = fuse(evidence[i], p)
            else:
                q = evidence[i]
                p = Normal(torch.zeros_like(q.mean), torch.zeros_like(q.log_var))
            levels.insert(0, Level(q.mean + torch.exp(0.5 * q.log_var) * torch.randn_like(q.mean), q, p))
        return levels

    def prior(self, level: int, above: Tensor) -> Normal:
        """p(z_i|z_{i+1}), levels counted from 0: codes of the level above, (B, K_{i+1}) -> units (B, K_i)."""
        return Normal(*self.down[level](above).chunk(2, dim=1))

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """See base: the bound, its KL phased in."""
        x = next(batches).x
        beta = min(1.0, progress.images / self.warm_up) if self.warm_up else 1.0
        loss, metrics, _ = self.bound(x, beta)
        yield Update("model", loss, {**metrics, "beta": torch.full_like(loss, beta).detach()})

    def bound(self, x: Tensor, beta: float) -> tuple[Tensor, Metrics, list[Level]]:
        """-(E log p(x|z_1) - beta KL) in nats per image with one code each, its parts, and what was inferred."""
        levels = self.infer(self.evidence(x))
        reconstruction = -self.observation.log_prob(self.decoder(levels[0].z), x).mean()
        kls = [level.kl().sum(1).mean() for level in levels]
        kl = torch.stack(kls).sum()
        metrics = {"reconstruction": reconstruction.detach(), "kl": kl.detach()}
        metrics |= {f"kl_{i}": of_level.detach() for i, of_level in enumerate(kls, start=1)}
        return reconstruction + beta * kl, metrics, levels

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base: with the whole KL. Adds the number of active units."""
        loss, metrics, levels = self.bound(batch.x, 1.0)
        means = torch.cat([level.standardized().mean for level in levels], dim=1)
        return {"loss": loss, **metrics, "active_units": (means.var(0) > 0.01).sum().to(loss)}

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: down the levels, each at T times its standard deviation; every pixel at the temperature T."""
        z = temperature * next(self.parameters()).new_empty(count, self.latents[-1]).normal_()
        for level in reversed(range(len(self.down))):
            p = self.prior(level, z)
            z = p.mean + temperature * torch.exp(0.5 * p.log_var) * torch.randn_like(p.mean)
        return self.observation.sample(self.decoder(z), temperature)

    def encode(self, x: Tensor) -> Tensor:
        """See base: the mean of q(z_1|z_2, x) with every level above at its mean, (B, latents[0])."""
        *below, q = self.evidence(x)
        for level in reversed(range(len(below))):
            q = fuse(below[level], self.prior(level, q.mean))
        return q.mean

    def decode(self, code: Tensor) -> Tensor:
        """See base: E[x|z_1], for bits the probability of a 1, (B, C, H, W)."""
        return self.observation.mean(self.decoder(code))

    @torch.no_grad()
    def latent_units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`gen.model.Infers`: the units e_i of all levels, from the image upwards, given one draw above."""
        levels = self.infer(self.evidence(x))
        return torch.cat([level.standardized().mean for level in levels], 1), torch.cat([e.kl() for e in levels], 1)

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """log p(x, z) - log q(z|x) with fresh z ~ q(z|x): images (B, C, H, W) -> nats, (samples, B)."""
        evidence = [Normal(*(t.repeat(samples, 1) for t in of_level)) for of_level in self.evidence(x)]
        levels = self.infer(evidence)
        log_w = self.observation.log_prob(self.decoder(levels[0].z), x.repeat(samples, 1, 1, 1))
        for z, q, p in levels:
            log_w = log_w + gaussian_log_prob(z, *p) - gaussian_log_prob(z, *q)
        return log_w.view(samples, len(x))

    def likelihoods(self) -> dict[str, Likelihood]:
        """See base. ``elbo`` draws 16 codes per image, ``iwae_K`` draws K."""
        outputs = self.observation.outputs
        return {
            "elbo": Likelihood("lower bound", partial(elbo, self.log_weights, samples=16, outputs=outputs)),
            "iwae_50": Likelihood("lower bound", partial(iwae, self.log_weights, samples=50, outputs=outputs)),
            "iwae_500": Likelihood("lower bound", partial(iwae, self.log_weights, samples=500, outputs=outputs)),
        }
