"""VAE: a latent-variable model and its amortised posterior, trained together on a lower bound of log p(x).

An image is explained by a few Gaussian causes z, through a decoder network p(x|z). The posterior over causes has no
closed form, so an encoder network proposes a Gaussian q(z|x) for every image at once [1]. Their gap, KL(q || p(z|x)),
is what the bound loses; maximising the bound fits the decoder and tightens the encoder in one gradient. Writing
z = mu + sigma eps moves the randomness out of the way, so that the gradient reaches the encoder with little variance.
The bound is not the likelihood: K samples, weighted by importance, come closer to it from below [2].

    L(x) = E_{z ~ q(z|x)} log p(x|z) - KL(q(z|x) || p(z)),   p(z) = N(0, I)                     (eq. 3 of [1])
    L_K(x) = E log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),   L = L_1 <= L_K <= L_{K+1} <= log p(x)   (eq. 8 of [2])

Nets: two multilayer perceptrons. Algorithm: gradient descent on -L, one z per image.

Metrics: reconstruction and kl, in nats per image, their sum being -L; at validation also active_units, the latent
dimensions whose mean moves with the image: Var_x(mu) > 0.01 over the batch [2].

[1] D. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2013.
[2] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.losses.likelihoods import bernoulli_log_prob, gaussian_kl, gaussian_log_prob, log_mean_exp
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim
from gen.nets.mlp import mlp
from gen.registry import register

ROWS = 4096
"""Most codes decoded at once when scoring: bounds the memory, whatever the batch and the number of samples."""


@register("vae")
class VAE(GenerativeModel):
    """See module.

    Args:
        latents: dimensions of z.
        hidden: widths of the encoder's hidden layers; the decoder mirrors them.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed")

    def __init__(self, spec: DataSpec, *, latents: int = 20, hidden: Sequence[int] = (400,)) -> None:
        super().__init__(spec)
        if latents < 1:
            raise RecipeError(f"hyper.latents: found {latents}, allowed 1 and more. Use 2 to draw the latent plane.")
        if any(width < 1 for width in hidden):
            raise RecipeError(f"hyper.hidden: found {list(hidden)}, allowed widths from 1. Try [400].")
        self.latents = latents
        self.encoder = mlp([spec.dims, *hidden, 2 * latents])
        self.decoder = mlp([latents, *reversed(hidden), spec.dims])

    def optimizers(self) -> dict[str, Optim]:
        """See base. Adam, by the same first author, replaces the paper's Adagrad."""
        return {"model": Adam(lr=1e-3)}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at the pixels' frequencies, so that z need not explain what all images share."""
        frequency = x.flatten(1).mean(0).clamp(1 / (len(x) + 1), len(x) / (len(x) + 1))
        output = self.decoder[-1]
        assert isinstance(output, nn.Linear)
        with torch.no_grad():
            output.bias.copy_(frequency.logit())

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log-variance of q(z|x), each (B, latents)."""
        mean, log_var = self.encoder(x.flatten(1)).chunk(2, dim=1)
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
        return bernoulli_log_prob(self.decoder(z), x.flatten(1)), gaussian_kl(mean, log_var).sum(1), mean

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -L(x) in nats per image."""
        log_likelihood, kl, _ = self.parts(batch.x)
        return _summary(log_likelihood, kl)

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. Adds the number of active units."""
        log_likelihood, kl, mean = self.parts(batch.x)
        loss, metrics = _summary(log_likelihood, kl)
        return {"loss": loss, **metrics, "active_units": (mean.var(0) > 0.01).sum().to(loss)}

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: z ~ N(0, T^2 I), then every pixel from its Bernoulli, whose log-odds are divided by T.

        The means alone are ``decode(z)``.
        """
        z = temperature * next(self.parameters()).new_empty(count, self.latents).normal_()
        return torch.bernoulli((self.decoder(z) / temperature).sigmoid().unflatten(1, self.spec.shape))

    def encode(self, x: Tensor) -> Tensor:
        """See base: the mean of q(z|x), (B, latents)."""
        return self.posterior(x)[0]

    def decode(self, code: Tensor) -> Tensor:
        """See base: the probability that a pixel is 1, (B, C, H, W)."""
        return self.decoder(code).sigmoid().unflatten(1, self.spec.shape)

    @torch.no_grad()
    def elbo(self, x: Tensor, samples: int) -> Tensor:
        """L(x), averaged over ``samples`` draws of z: images (B, C, H, W) -> nats, (B,)."""
        return torch.stack([log_likelihood - kl for log_likelihood, kl, _ in map(self.parts, [x] * samples)]).mean(0)

    @torch.no_grad()
    def iwae(self, x: Tensor, samples: int) -> Tensor:
        """L_K(x) with K = ``samples``: images (B, C, H, W) -> nats, (B,)."""
        mean, log_var = self.posterior(x)
        at_once = max(1, ROWS // len(x))
        log_w = []
        for start in range(0, samples, at_once):
            repeats = min(at_once, samples - start)
            m, v, target = (t.flatten(1).repeat(repeats, 1) for t in (mean, log_var, x))
            z = m + torch.exp(0.5 * v) * torch.randn_like(m)
            prior = gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))
            weight = bernoulli_log_prob(self.decoder(z), target) + prior - gaussian_log_prob(z, m, v)
            log_w.append(weight.unflatten(0, (repeats, len(x))))
        return log_mean_exp(torch.cat(log_w), dim=0)

    def likelihoods(self) -> dict[str, Likelihood]:
        """See base. ``elbo`` draws 16 codes per image, ``iwae_K`` draws K."""
        return {
            "elbo": Likelihood("lower bound", partial(self.elbo, samples=16)),
            "iwae_50": Likelihood("lower bound", partial(self.iwae, samples=50)),
            "iwae_500": Likelihood("lower bound", partial(self.iwae, samples=500)),
        }


def _summary(log_likelihood: Tensor, kl: Tensor) -> tuple[Tensor, Metrics]:
    """-L and its two parts, means over the batch."""
    reconstruction, divergence = -log_likelihood.mean(), kl.mean()
    return reconstruction + divergence, {"reconstruction": reconstruction.detach(), "kl": divergence.detach()}
