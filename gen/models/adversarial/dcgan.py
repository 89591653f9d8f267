"""DCGAN: a convolutional generator and the discriminator that it learns to deceive.

A generator G turns noise z into images, a discriminator D says how probable it is that an image is real, and each is
trained against the other [1]. For a fixed G the best D is p / (p + q), p and q the densities of data and samples;
against it, G would minimise their Jensen-Shannon divergence, without either density ever being written down. The game
as stated starves G while it is bad, because D is then sure of every fake: so G maximises log D(G(z)) instead of
minimising log(1 - D(G(z))), which has the same fixed point and a gradient that does not vanish. What made the game
stable for images is the architecture of [2]: strided convolutions, batch normalisation, ReLU in G, LeakyReLU in D.
There is no likelihood, and neither loss measures quality: they say who is ahead.

    D:  min  -E log D(x) - E log(1 - D(G(z)))
    G:  min  -E log D(G(z))

Algorithm: 1 of [1] with k = 1, a step of D on a batch of images and one of fakes, then a step of G on fresh noise. The
two batches of D are normalised apart, each by its own statistics. Batch statistics are those of a replica's batch,
never of the global one; samples use the running statistics.

Metrics: d_real = mean D(x) and d_fake = mean D(G(z)), both 1/2 at the equilibrium; loss_discriminator, 2 log 2 there,
and loss_generator, log 2 there. Held-out: the same, and accuracy_real, accuracy_fake, the shares that D gets right.
NOTE: held-out figures use D's running statistics, which mix images and fakes; they lie closer to chance than those of
training. What tells of memorising is a fall of the held-out d_real over time, not its distance from training's.

[1] I. Goodfellow, J. Pouget-Abadie, M. Mirza, B. Xu, D. Warde-Farley, S. Ozair, A. Courville, Y. Bengio. Generative
    Adversarial Nets. 2014.
[2] A. Radford, L. Metz, S. Chintala. Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks. 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.losses.adversarial import discriminator_loss, non_saturating_generator_loss
from gen.model import Adam, Batch, GenerativeModel, Metrics, Optim, Progress, Update
from gen.nets.conv import conv_discriminator, conv_generator
from gen.registry import register


@register("dcgan")
class DCGAN(GenerativeModel):
    """See module.

    Args:
        latents: length of z.
        width: both networks have 4 width channels at a quarter of the resolution and 2 width at half of it.
    """

    spaces: ClassVar[tuple[str, ...]] = ("signed",)

    def __init__(self, spec: DataSpec, *, latents: int = 64, width: int = 16) -> None:
        super().__init__(spec)
        at_least(1, latents=latents, width=width)
        self.latents = latents
        self.generator = conv_generator(latents, spec.shape, width=width)
        self.discriminator = conv_discriminator(spec.shape, width=width, norm=nn.BatchNorm2d)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """See base."""
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def optimizers(self) -> dict[str, Optim]:
        """See base. The low momentum of [2] damps the game's oscillation; its rate, 2e-4, is for millions of images."""
        return {
            "discriminator": Adam(lr=1e-3, betas=(0.5, 0.999), decay="linear"),
            "generator": Adam(lr=2e-3, betas=(0.5, 0.999), decay="linear"),
        }

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """See base."""
        x = next(batches).x
        yield Update("discriminator", *self.discriminator_loss(x))
        yield Update("generator", *self.generator_loss(len(x)))

    def discriminator_loss(self, x: Tensor) -> tuple[Tensor, Metrics]:
        """What D minimises ([1], eq. 1), on images (B, C, H, W) and as many fakes."""
        with torch.no_grad():
            fakes = self.sample(len(x))
        real, fake = self.discriminator(x), self.discriminator(fakes)
        loss = discriminator_loss(real, fake)
        return loss, {
            "loss_discriminator": loss.detach(),
            "d_real": real.detach().sigmoid().mean(),
            "d_fake": fake.detach().sigmoid().mean(),
        }

    def generator_loss(self, count: int) -> tuple[Tensor, Metrics]:
        """What G minimises ([1], section 3), on ``count`` fakes."""
        loss = non_saturating_generator_loss(self.discriminator(self.sample(count)))
        return loss, {"loss_generator": loss.detach()}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base: both losses and D's accuracy, on held-out images and as many fresh fakes."""
        real, fake = self.discriminator(batch.x), self.discriminator(self.sample(len(batch.x)))
        return {
            "loss_discriminator": discriminator_loss(real, fake),
            "loss_generator": non_saturating_generator_loss(fake),
            "d_real": real.sigmoid().mean(),
            "d_fake": fake.sigmoid().mean(),
            "accuracy_real": (real > 0).float().mean(),
            "accuracy_fake": (fake < 0).float().mean(),
        }

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: G(T z), z ~ U(-1, 1) as in [2]."""
        like = next(self.generator.parameters())
        z = torch.rand(count, self.latents, dtype=like.dtype, device=like.device) * 2 - 1
        images: Tensor = self.generator(temperature * z)
        return images
