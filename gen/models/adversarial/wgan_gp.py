"""WGAN-GP: a critic that measures how far samples are from data, and a generator that shortens the way.

The divergence behind the original game is flat where data and samples do not overlap, so a good discriminator leaves
nothing to learn from. The earth mover's distance W1, the least average way that mass must travel to turn one
distribution into the other, is not: it is the largest difference in mean score that a 1-Lipschitz critic D can make
[1]. An optimal critic has gradient norm 1 on the straight lines between data and samples that it couples, so the
squared deviation from 1 is penalised at random points of such lines [2]. The better the critic, the better the
generator's gradient: the critic takes several steps to one of the generator, and its difference is a curve that means
something, falling as the samples improve.

    D:  min  E D(G(z)) - E D(x) + lambda E (|grad_x D(x_hat)|_2 - 1)^2
    G:  min  -E D(G(z))                          x_hat = epsilon x + (1 - epsilon) G(z),  epsilon ~ U[0, 1]

Algorithm: 1 of [2]. The critic has no batch norm, which would make the penalty at one point depend on the others; the
generator has, with the statistics of a replica's batch. The penalty is differentiated twice, in float32 whatever the
precision. torch.compile has no double backward, so the critic stays eager.

Metrics: wasserstein = E D(x) - E D(G(z)), the estimate of W1 between images as vectors in [-1, 1]^dims; slope, the mean
|grad_x D(x_hat)|; penalty, without lambda. The penalty is soft: an optimal critic overshoots, with a slope of about
1 + W1 / (2 lambda), and so does the estimate, by that factor. Held-out: wasserstein on images that the critic has not
seen. Where it falls below its training value, the critic has memorised the training images ([2], figure 5b).

[1] M. Arjovsky, S. Chintala, L. Bottou. Wasserstein Generative Adversarial Networks. 2017.
[2] I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville. Improved Training of Wasserstein GANs. 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.losses.adversarial import wasserstein_critic_loss, wasserstein_generator_loss
from gen.losses.penalties import gradient_penalty
from gen.model import Adam, Batch, GenerativeModel, Metrics, Optim, Progress, Update
from gen.nets.conv import conv_discriminator, conv_generator
from gen.registry import register


@register("wgan_gp")
class WGANGP(GenerativeModel):
    """See module.

    Args:
        latents: length of z.
        width: both networks have 4 width channels at a quarter of the resolution and 2 width at half of it.
        critic_steps: n_critic, critic steps to one of the generator; each draws its own batch.
        penalty: lambda, weight of the gradient penalty.
    """

    spaces: ClassVar[tuple[str, ...]] = ("signed",)
    eager: ClassVar[tuple[str, ...]] = ("critic",)

    def __init__(
        self, spec: DataSpec, *, latents: int = 64, width: int = 16, critic_steps: int = 3, penalty: float = 10.0
    ) -> None:
        super().__init__(spec)
        for name, value, usual in (("latents", latents, 64), ("width", width, 16), ("critic_steps", critic_steps, 3)):
            if value < 1:
                raise RecipeError(f"hyper.{name}: found {value}, allowed 1 and more. Use {usual}.")
        if not penalty > 0:
            raise RecipeError(
                f"hyper.penalty: found {penalty}, allowed numbers above 0; without it the critic is not Lipschitz and "
                "its score runs away. Use 10."
            )
        self.latents, self.critic_steps, self.penalty = latents, critic_steps, penalty
        self.generator = conv_generator(latents, spec.shape, width=width)
        self.critic = conv_discriminator(spec.shape, width=width, norm=None)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """See base."""
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    def optimizers(self) -> dict[str, Optim]:
        """See base. No momentum, as in [2]; its rate, 1e-4, is for millions of images."""
        return {
            "critic": Adam(lr=1e-3, betas=(0.0, 0.9)),
            "generator": Adam(lr=1e-3, betas=(0.0, 0.9)),
        }

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """See base: Algorithm 1, lines 2-10 and 11-12."""
        for _ in range(self.critic_steps):
            x = next(batches).x
            yield Update("critic", *self.critic_loss(x))
        yield Update("generator", *self.generator_loss(len(x)))

    def critic_loss(self, x: Tensor) -> tuple[Tensor, Metrics]:
        """[2], eq. 3, on images (B, C, H, W) and as many fakes."""
        with torch.no_grad():
            fake = self.sample(len(x)).to(x.dtype)
        loss = wasserstein_critic_loss(*self.critic(torch.cat([x, fake])).chunk(2))
        penalty, norm = gradient_penalty(self.critic, x, fake)
        return loss + self.penalty * penalty, {
            "wasserstein": -loss.detach(),
            "penalty": penalty.detach(),
            "slope": norm.mean(),
        }

    def generator_loss(self, count: int) -> tuple[Tensor, Metrics]:
        """-E D(G(z)) on ``count`` fakes."""
        return wasserstein_generator_loss(self.critic(self.sample(count))), {}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base: the critic's difference between held-out images and as many fresh fakes."""
        loss = wasserstein_critic_loss(self.critic(batch.x), self.critic(self.sample(len(batch.x))))
        return {"wasserstein": -loss}

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: G(T z), z ~ N(0, I) as in [2]."""
        like = next(self.generator.parameters())
        z = torch.randn(count, self.latents, dtype=like.dtype, device=like.device)
        images: Tensor = self.generator(temperature * z)
        return images
