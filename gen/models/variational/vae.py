"""VAE: a latent-variable model and its amortised posterior, trained together on a lower bound of log p(x).

An image is explained by a few Gaussian causes z, through a decoder network p(x|z). The posterior over causes has no
closed form, so an encoder network proposes a Gaussian q(z|x) for every image at once [1]. Their gap, KL(q || p(z|x)),
is what the bound loses; maximising the bound fits the decoder and tightens the encoder in one gradient. Writing
z = mu + sigma eps moves the randomness out of the way, so that the gradient reaches the encoder with little variance.
The bound is not the likelihood: K samples, weighted by importance, come closer to it from below [2].

    log p(x) = E_q [log p(x,z) - log p(z|x)]                                     for any q(z), as p(x) has no z in it
             = E_q [log p(x,z) - log q(z|x)] + E_q [log q(z|x) - log p(z|x)]
             = L(x) + KL(q(z|x) || p(z|x))                                                        (eq. 1 of [1])
    L(x)     = E_q log p(x|z) - KL(q(z|x) || p(z)),   p(z) = N(0, I)                              (eq. 3 of [1])
    L_K(x)   = E log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),   L = L_1 <= L_K <= L_{K+1} <= log p(x)  (eq. 8 of [2])

with KL(q || p) = 1/2 sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2) for the Gaussian q. A unit whose KL is near 0 is
not used: its posterior has collapsed to the prior. beta > 1 makes codes dearer until units fall away, and
what remains may align with the data's factors [3]; reported likelihoods are those of beta = 1. Early on, when the
decoder does not heed z yet, all units may collapse at once and for good: let the KL's weight rise from 0 [4].

Nets: two multilayer perceptrons, or strided convolutions; p(x|z) is a Bernoulli for bits, and for levels a categorical
or a discretised logistic. Algorithm: gradient descent on -(E_q log p(x|z) - beta KL(q || p)), one z per image.

Metrics: reconstruction and kl, in nats per image, their sum being -L; at validation also active_units, the latent
dimensions whose mean moves with the image: Var_x(mu) > 0.01 over the batch [2].

[1] D. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014.
[2] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2016.
[3] I. Higgins, L. Matthey, A. Pal, C. Burgess, X. Glorot, M. Botvinick, S. Mohamed, A. Lerchner. beta-VAE: Learning
    Basic Visual Concepts with a Constrained Variational Framework. 2017.
[4] S. Bowman, L. Vilnis, O. Vinyals, A. Dai, R. Jozefowicz, S. Bengio. Generating Sentences from a Continuous Space.
    2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference.importance import elbo, gaussian_codes, iwae
from gen.losses.likelihoods import gaussian_kl
from gen.losses.observation import LikelihoodName, observation
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.nets.coders import Activation, Net, decoder, encoder, set_bias
from gen.registry import register


@register("vae")
class VAE(GenerativeModel):
    """See module.

    Args:
        latents: dimensions of z.
        net: ``mlp`` or ``conv``; see :mod:`gen.nets.coders`.
        hidden: of the encoder, units of its hidden layers or channels after each halving; the decoder mirrors it.
        activation: ``relu`` or ``tanh``.
        likelihood: of spaces with more than two levels; see :mod:`gen.losses.observation`.
        beta: weight of the KL in training; 1 is the bound.
        warm_up: images over which that weight rises from 0.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: int = 20,
        net: Net = "mlp",
        hidden: Sequence[int] = (400,),
        activation: Activation = "relu",
        likelihood: LikelihoodName = "categorical",
        beta: float = 1.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(spec)
        if latents < 1:
            raise RecipeError(f"hyper.latents: found {latents}, allowed 1 and more. Use 2 to draw the latent plane.")
        if beta < 0:
            raise RecipeError(f"hyper.beta: found {beta}, allowed 0 and more. Use 1 for the bound.")
        if warm_up < 0:
            raise RecipeError(f"hyper.warm_up: found {warm_up}, allowed 0 images and more. Use 0 for none.")
        self.latents, self.beta, self.warm_up = latents, beta, warm_up
        self.observation = observation(spec.space, likelihood)
        outputs = self.observation.outputs
        self.encoder = encoder(spec.shape, 2 * latents, net=net, hidden=hidden, activation=activation)
        self.decoder = decoder(latents, outputs, spec.shape, net=net, hidden=hidden, activation=activation)

    def optimizers(self) -> dict[str, Optim]:
        """See base. Adam, by the same first author, replaces the paper's Adagrad."""
        return {"model": Adam(lr=1e-3)}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at pixels by themselves, so that z need not explain what all images share."""
        set_bias(self.decoder, self.observation.start(x))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log-variance of q(z|x), each (B, latents)."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both terms of L(x) with one z per image, and the mean of q.

        Args:
            x: (B, C, H, W).

        Returns:
            log p(x|z) in nats, (B,); KL(q || p) in nats, in closed form, (B,); mean of q(z|x), (B, latents).
        """
        mean, log_var = self.posterior(x)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return self.observation.log_prob(self.decoder(z), x), gaussian_kl(mean, log_var).sum(1), mean

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """See base: the loss, with the KL's weight on its way up to beta."""
        log_likelihood, kl, _ = self.parts(next(batches).x)
        rise = 1.0 if progress.images >= self.warm_up else progress.images / self.warm_up
        yield Update("model", *_weighted(log_likelihood, kl, rise * self.beta))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -L(x) in nats per image, its KL weighted by beta."""
        log_likelihood, kl, _ = self.parts(batch.x)
        return _weighted(log_likelihood, kl, self.beta)

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. Adds the number of active units."""
        log_likelihood, kl, mean = self.parts(batch.x)
        loss, metrics = _weighted(log_likelihood, kl, self.beta)
        return {"loss": loss, **metrics, "active_units": (mean.var(0) > 0.01).sum().to(loss)}

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: z ~ N(0, T^2 I), then every pixel from p(x|z) at the temperature T.

        The means alone are ``decode(z)``.
        """
        z = temperature * next(self.parameters()).new_empty(count, self.latents).normal_()
        return self.observation.sample(self.decoder(z), temperature)

    def encode(self, x: Tensor) -> Tensor:
        """See base: the mean of q(z|x), (B, latents)."""
        return self.posterior(x)[0]

    def decode(self, code: Tensor) -> Tensor:
        """See base: E[x|z], for bits the probability of a 1, (B, C, H, W)."""
        return self.observation.mean(self.decoder(code))

    @torch.no_grad()
    def latent_units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`gen.model.Infers`."""
        mean, log_var = self.posterior(x)
        return mean, gaussian_kl(mean, log_var)

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """log p(x, z_k) - log q(z_k|x) with z_k ~ q(z|x): images (B, C, H, W) -> nats, (samples, B)."""
        z, log_ratio = gaussian_codes(*self.posterior(x), samples)
        images = x.expand(samples, *x.shape).flatten(0, 1)
        return log_ratio + self.observation.log_prob(self.decoder(z.flatten(0, 1)), images).view(samples, len(x))

    def likelihoods(self) -> dict[str, Likelihood]:
        """See base. ``elbo`` draws 16 codes per image, ``iwae_K`` draws K."""
        outputs = self.observation.outputs
        return {
            "elbo": Likelihood("lower bound", partial(elbo, self.log_weights, samples=16, outputs=outputs)),
            "iwae_50": Likelihood("lower bound", partial(iwae, self.log_weights, samples=50, outputs=outputs)),
            "iwae_500": Likelihood("lower bound", partial(iwae, self.log_weights, samples=500, outputs=outputs)),
        }


def _weighted(log_likelihood: Tensor, kl: Tensor, beta: float) -> tuple[Tensor, Metrics]:
    """-(log p(x|z) - beta KL), mean over the batch, and its two parts."""
    loss, kl = ((kl if beta == 1 else beta * kl) - log_likelihood).mean(), kl.detach().mean()
    return loss, {"reconstruction": loss.detach() - beta * kl, "kl": kl}
