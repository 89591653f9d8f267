"""Flow VAE: a VAE whose posterior is a Gaussian bent by a normalizing flow, and so need not be a Gaussian.

What the bound of a VAE loses against log p(x) is KL(q(z|x) || p(z|x)), and a Gaussian with independent dimensions may
be far from a posterior whose causes compete, curve or come in several kinds. So the encoder proposes a Gaussian z_0
and, by features of the image, sets the parameters of a chain of invertible steps z_t = f_t(z_{t-1}; x) [1]. Where z_T
comes to lie, its density is known: that of z_0, divided by the volumes the steps spread it over. Every step makes
the family of posteriors richer, while drawing a code and scoring it remain one pass. Without steps this is the VAE.

    log q(z_T|x) = log q_0(z_0|x) - sum_t log |det df_t/dz_{t-1}|                                    (eq. 7 of [1])
    L(x) = E_{z_0 ~ q_0} [log p(x, z_T) - log q_0(z_0|x) + sum_t log |det df_t/dz_{t-1}|] <= log p(x)  (eq. 15 of [1])

Steps (:mod:`gen.nets.flows`): planar [1]; householder [2], reflections, which give the Gaussian a full covariance; and
iaf, inverse autoregressive [3], the most flexible, in which each dimension moves as those before it say. A richer q has
to be learnt from the same images: where they are few, it may fit the posteriors of those it has seen and no others,
which the difference between the bounds of training and of test images tells.

Nets: those of the VAE; beside mean and log-variance the encoder gives the features. Algorithm: gradient descent on -L,
one z_0 per image, where E log q(z_T|x) / p(z_T) is written

    KL(q_0 || p) + E [log p(z_0) - log p(z_T) - sum_t log |det df_t/dz_{t-1}|],   p = N(0, I)

with the first term in closed form: no noise comes from it, and none from the rest if the steps only turn.

Metrics: reconstruction and kl, in nats per image, their sum being -L; at validation also active_units, the dimensions
whose code moves with the image: variance above 0.01 over the batch. The KL is given as a whole: once steps have mixed
the dimensions, each in an order of its own, no share of it that belongs to one dimension is a divergence.

[1] D. Rezende, S. Mohamed. Variational Inference with Normalizing Flows. 2015.
[2] J. Tomczak, M. Welling. Improving Variational Auto-Encoders using Householder Flow. 2016.
[3] D. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever, M. Welling. Improving Variational Inference with
    Inverse Autoregressive Flow. 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.inference.importance import elbo, gaussian_codes, iwae
from gen.losses.likelihoods import gaussian_kl
from gen.losses.observation import LikelihoodName, observation
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim
from gen.nets.coders import Net, decoder, encoder, set_bias
from gen.nets.flows import FlowName, make_flow
from gen.registry import register


@register("flow_vae")
class FlowVAE(GenerativeModel):
    """See module.

    Args:
        latents: dimensions of z.
        flow: ``iaf``, ``planar`` or ``householder``.
        steps: T; 0 is a VAE.
        features: numbers the encoder tells the flow about an image.
        width: hidden units of the network in each step of an IAF.
        net: ``mlp`` or ``conv``; see :mod:`gen.nets.coders`.
        hidden: of the encoder, units of its hidden layers or channels after each halving; the decoder mirrors it.
        likelihood: of spaces with more than two levels; see :mod:`gen.losses.observation`.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: int = 20,
        flow: FlowName = "iaf",
        steps: int = 2,
        features: int = 50,
        width: int = 100,
        net: Net = "mlp",
        hidden: Sequence[int] = (400,),
        likelihood: LikelihoodName = "categorical",
    ) -> None:
        super().__init__(spec)
        at_least(1, latents=latents, features=features, width=width)
        self.latents = latents
        self.observation = observation(spec.space, likelihood)
        self.flow = make_flow(flow, steps, dims=latents, context=features, hidden=width)
        self.outputs = [latents, latents, features if steps else 0]
        self.encoder = encoder(spec.shape, sum(self.outputs), net=net, hidden=hidden)
        self.decoder = decoder(latents, self.observation.outputs, spec.shape, net=net, hidden=hidden)

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=1e-3)}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at pixels by themselves, so that z need not explain what all images share."""
        set_bias(self.decoder, self.observation.start(x))

    def base(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log-variance of q_0(z_0|x), each (B, latents); features for the flow."""
        mean, log_var, context = self.encoder(x).split(self.outputs, dim=1)
        return mean, log_var, F.elu(context)

    def bend(self, z_0: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Codes z_0 (B, latents) -> z_T; log p(z_T) - log p(z_0) + sum_t log |det|: what log p - log q gains, (B,)."""
        z, log_det = self.flow(z_0, context)
        return z, 0.5 * (z_0.square() - z.square()).sum(1) + log_det

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both terms of L(x), with one code per image.

        Args:
            x: (B, C, H, W).

        Returns:
            log p(x|z_T) in nats, (B,); log q(z_T|x) - log p(z_T) in nats, as the module writes it, (B,).
        """
        mean, log_var, context = self.base(x)
        z, gain = self.bend(mean + torch.exp(0.5 * log_var) * torch.randn_like(mean), context)
        return self.observation.log_prob(self.decoder(z), x), gaussian_kl(mean, log_var).sum(1) - gain

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -L(x) in nats per image."""
        log_likelihood, kl = self.parts(batch.x)
        reconstruction, divergence = -log_likelihood.mean(), kl.mean()
        return reconstruction + divergence, {"reconstruction": reconstruction.detach(), "kl": divergence.detach()}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. Adds the number of active units."""
        loss, metrics = self.loss(batch)
        return {"loss": loss, **metrics, "active_units": (self.encode(batch.x).var(0) > 0.01).sum().to(loss)}

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: z ~ N(0, T^2 I), then every pixel from p(x|z) at the temperature T."""
        z = temperature * next(self.parameters()).new_empty(count, self.latents).normal_()
        return self.observation.sample(self.decoder(z), temperature)

    def encode(self, x: Tensor) -> Tensor:
        """See base: where the flow takes the mean of q_0(z_0|x), (B, latents); not quite the mean of q(z_T|x)."""
        mean, _, context = self.base(x)
        z, _ = self.flow(mean, context)
        return z

    def decode(self, code: Tensor) -> Tensor:
        """See base: E[x|z], for bits the probability of a 1, (B, C, H, W)."""
        return self.observation.mean(self.decoder(code))

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """log p(x, z_T) - log q(z_T|x) with fresh z_0 ~ q_0(z_0|x): images (B, C, H, W) -> nats, (samples, B)."""
        mean, log_var, context = self.base(x)
        z_0, log_ratio = gaussian_codes(mean, log_var, samples)
        z, gain = self.bend(z_0.flatten(0, 1), context.repeat(samples, 1))
        images = x.expand(samples, *x.shape).flatten(0, 1)
        return log_ratio + (gain + self.observation.log_prob(self.decoder(z), images)).view(samples, len(x))

    def likelihoods(self) -> dict[str, Likelihood]:
        """See base. ``elbo`` draws 16 codes per image, ``iwae_K`` draws K."""
        outputs = self.observation.outputs
        return {
            "elbo": Likelihood("lower bound", partial(elbo, self.log_weights, samples=16, outputs=outputs)),
            "iwae_50": Likelihood("lower bound", partial(iwae, self.log_weights, samples=50, outputs=outputs)),
            "iwae_500": Likelihood("lower bound", partial(iwae, self.log_weights, samples=500, outputs=outputs)),
        }
