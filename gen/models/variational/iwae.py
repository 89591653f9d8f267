"""IWAE: a VAE trained on a tighter bound, in which K samples of the posterior compete to explain each image.

The VAE's bound asks every sample of q(z|x) to explain the image, and so punishes a posterior that places one sample
badly; q learns to be cautious, and the model learns to have posteriors that such a q can match. Importance weighting
forgives: K samples are drawn, and the image is credited with their average probability, to which the good ones
contribute and the bad ones do no harm [1]. The bound rises with K to log p(x). The nets are those of the VAE and K = 1
is the VAE, but more units of the code are used and the likelihood is higher, at K times the cost of the decoder.

    w_k    = p(x|z_k) p(z_k) / q(z_k|x),   z_k = mu + sigma eps_k
    L_K(x) = E log 1/K sum_k w_k,   L_1 <= L_K <= L_{K+1} <= log p(x)                             (eq. 8 of [1])
    grad L_K = E sum_k v_k grad log w_k,   v_k = w_k / sum_j w_j                                 (eq. 13 of [1])

A tighter bound is not better in everything. The gradient of the decoder gains from K, but that of the encoder becomes
noise: its signal falls with K faster than its standard deviation, their ratio as 1 / sqrt(K) [2], since with many
samples hardly anything depends on q. The culprit is the term in which q's parameters enter log w_k directly rather than
through z_k; its expectation can be rewritten by reparameterising once more, and it cancels [3]:

    encoder:  grad_phi L_K = E sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi)                     (eq. 7 of [3])

which has the same mean, and a ratio of signal to noise that rises with K. ``gradient: dreg`` takes it.

Nets: two multilayer perceptrons, or strided convolutions. Algorithm: gradient descent on -L_K.

Metrics: bound, an estimate of L_K, and elbo, of L, from the same samples, in nats per image; effective_samples,
1 / sum_k v_k^2, how many of the K count. At validation also active_units, as for the VAE.

[1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2016.
[2] T. Rainforth, A. Kosiorek, T. Le, C. Maddison, M. Igl, F. Wood, Y. Teh. Tighter Variational Bounds are Not
    Necessarily Better. 2018.
[3] G. Tucker, D. Lawson, S. Gu, C. Maddison. Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives.
    2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference.importance import elbo, gaussian_codes, iwae
from gen.losses.likelihoods import gaussian_kl
from gen.losses.observation import LikelihoodName, observation
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim
from gen.nets.coders import Activation, Net, decoder, encoder, set_bias
from gen.registry import register


@register("iwae")
class IWAE(GenerativeModel):
    """See module.

    Args:
        latents: dimensions of z.
        samples: K.
        gradient: ``total``, of [1], or ``dreg``, doubly reparameterised [3]: same mean, less noise in the encoder.
        net: ``mlp`` or ``conv``; see :mod:`gen.nets.coders`.
        hidden: of the encoder, units of its hidden layers or channels after each halving; the decoder mirrors it.
        activation: ``relu`` or ``tanh``.
        likelihood: of spaces with more than two levels; see :mod:`gen.losses.observation`.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: int = 50,
        samples: int = 5,
        gradient: Literal["total", "dreg"] = "total",
        net: Net = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: Activation = "tanh",
        likelihood: LikelihoodName = "categorical",
    ) -> None:
        super().__init__(spec)
        at_least(1, latents=latents, samples=samples)
        if gradient not in ("total", "dreg"):
            raise RecipeError(f"hyper.gradient: found '{gradient}'. Allowed: total, dreg.")
        self.latents, self.samples, self.gradient = latents, samples, gradient
        self.observation = observation(spec.space, likelihood)
        outputs = self.observation.outputs
        self.encoder = encoder(spec.shape, 2 * latents, net=net, hidden=hidden, activation=activation)
        self.decoder = decoder(latents, outputs, spec.shape, net=net, hidden=hidden, activation=activation)

    def optimizers(self) -> dict[str, Optim]:
        """See base. Adam as in [1], whose rate falls there from 1e-3 to 1e-4."""
        return {"model": Adam(lr=1e-3)}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at pixels by themselves, so that z need not explain what all images share."""
        set_bias(self.decoder, self.observation.start(x))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log-variance of q(z|x), each (B, latents)."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """log w_k of fresh z_k ~ q(z|x): images (B, C, H, W) -> nats, (samples, B)."""
        z, log_ratio = gaussian_codes(*self.posterior(x), samples)
        return log_ratio + self._log_likelihood(x, z)

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z_k) of codes (samples, B, latents), nats, (samples, B)."""
        images = x.expand(len(z), *x.shape).flatten(0, 1)
        return self.observation.log_prob(self.decoder(z.flatten(0, 1)), images).view(len(z), len(x))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -L_K(x) in nats per image; its gradient is ``gradient``'s."""
        if self.gradient == "total":
            return self._summary(self.log_weights(batch.x, self.samples))
        mean, log_var = self.posterior(batch.x)
        z, _ = gaussian_codes(mean, log_var, self.samples)
        m, v = mean.detach(), log_var.detach()  # q enters log w_k through z_k alone
        log_ratio = 0.5 * ((z - m).square() * torch.exp(-v) + v - z.square()).sum(2)
        log_w = log_ratio + self._log_likelihood(batch.x, z)
        # What arrives at z_k has been weighted by v_k once; the decoder keeps it so, the encoder is weighted again.
        weight = log_w.detach().softmax(0)
        if z.requires_grad:
            z.register_hook(lambda gradient: gradient * weight.unsqueeze(2))
        return self._summary(log_w)

    def _summary(self, log_w: Tensor) -> tuple[Tensor, Metrics]:
        """-L_K and what to watch, of log-weights (K, B)."""
        loss = math.log(len(log_w)) - log_w.logsumexp(0).mean()
        with torch.no_grad():
            effective = 1 / log_w.softmax(0).square().sum(0)
            return loss, {"bound": -loss.detach(), "elbo": log_w.mean(), "effective_samples": effective.mean()}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. Adds the number of active units."""
        loss, metrics = self._summary(self.log_weights(batch.x, self.samples))
        return {"loss": loss, **metrics, "active_units": (self.encode(batch.x).var(0) > 0.01).sum().to(loss)}

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: z ~ N(0, T^2 I), then every pixel from p(x|z) at the temperature T."""
        z = temperature * next(self.parameters()).new_empty(count, self.latents).normal_()
        return self.observation.sample(self.decoder(z), temperature)

    def encode(self, x: Tensor) -> Tensor:
        """See base: the mean of q(z|x), (B, latents); q is what is drawn from, not what L_K believes of z."""
        return self.posterior(x)[0]

    def decode(self, code: Tensor) -> Tensor:
        """See base: E[x|z], for bits the probability of a 1, (B, C, H, W)."""
        return self.observation.mean(self.decoder(code))

    @torch.no_grad()
    def latent_units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`gen.model.Infers`."""
        mean, log_var = self.posterior(x)
        return mean, gaussian_kl(mean, log_var)

    def likelihoods(self) -> dict[str, Likelihood]:
        """See base. ``elbo`` draws 16 codes per image, ``iwae_K`` draws K."""
        outputs = self.observation.outputs
        return {
            "elbo": Likelihood("lower bound", partial(elbo, self.log_weights, samples=16, outputs=outputs)),
            "iwae_50": Likelihood("lower bound", partial(iwae, self.log_weights, samples=50, outputs=outputs)),
            "iwae_500": Likelihood("lower bound", partial(iwae, self.log_weights, samples=500, outputs=outputs)),
        }
