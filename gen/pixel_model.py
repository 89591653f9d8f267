"""The base of the autoregressive family: images as sequences of values, one conditional distribution for each.

    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1}),    values in raster order, the channels of a pixel one by one

A chapter of the family brings a network and a head. The network computes some outputs for every pixel, all of them in
one pass, from the values before it; the head says what they mean (:mod:`gen.losses.heads`). Likelihoods, samples,
completions and pictures follow from these two and are written here, once. A network that can also run pixel by pixel
(:class:`gen.inference.pixels.Incremental`) samples that way; any other by fixed-point iteration. Both draw what the
definition draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen.inference.pixels import Canvas, Incremental, ancestral, jacobi
from gen.losses.heads import Head
from gen.model import Batch, GenerativeModel, Likelihood, Metrics

SHOWN = 8  # images in the pictures of conditionals


class PixelModel(GenerativeModel):
    """Base of the models that factor over the values of an image. A subclass sets ``head`` and writes ``outputs``.

    Models of p(x | condition) take the condition in ``outputs`` and ``incremental`` and say in ``of_batch`` what it is.

    Attributes:
        head: what the network's outputs mean.
    """

    head: Head

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the head needs to know about every pixel, from the values before it.

        Args:
            x: images in the model's space, (B, C, H, W).
            condition: one for each image, (B, ...), in models that have one.

        Returns:
            (B, P, H, W), P being ``head.outputs``.
        """
        raise NotImplementedError

    def incremental(self, count: int, condition: Tensor | None = None) -> Incremental | None:
        """The network pixel by pixel, for ``count`` images, with the weights as they are; ``None`` if it has no such
        form."""
        return None

    def condition_of(self, batch: Batch) -> Tensor | None:
        """What the images of a batch are conditioned on."""
        return None

    def log_probs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p of every value given those before it, in nats: (B, C, H, W) -> (B, C, H, W)."""
        return self.head.log_prob(self.outputs(x, condition), x)

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) -> log p(x | condition) in nats, (B,)."""
        return self.log_probs(x, condition).flatten(1).sum(1)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -log p(x | condition) in nats per image."""
        nats = -self.log_prob(batch.x, self.condition_of(batch)).mean()
        zero = self.spec.space.bits_per_dim(0.0, self.spec.dims)  # of a density: the bits of a level's width
        return nats, {"bits_per_dim": zero + nats.detach() / (self.spec.dims * math.log(2))}

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base. What a temperature does to a value is the head's affair."""
        blank = next(self.parameters()).new_zeros(count, *self.spec.shape)
        return self.draw(blank, torch.zeros_like(blank, dtype=torch.bool), condition, temperature)

    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """See base. A value is drawn given those before it in raster order; known ones after it do not inform it."""
        return self.draw(x, known, None, 1.0)

    @torch.no_grad()
    def draw(self, x: Tensor, known: Tensor, condition: Tensor | None, temperature: float) -> Tensor:
        """Images (B, C, H, W) kept where ``known``, drawn elsewhere, by the fastest way that there is."""
        canvas = Canvas.noisy(self.head, x, known, temperature)
        if (net := self.incremental(len(x), condition)) is not None:
            return ancestral(net, canvas)
        # Images settle at different times and leave: each takes its condition along.
        return jacobi(lambda x, rows: self.outputs(x, None if condition is None else condition[rows]), canvas)

    def likelihoods(self) -> dict[str, Likelihood]:
        """See :class:`gen.model.Scores`."""
        return {"exact": Likelihood("exact", self.log_prob)}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`. Samples; what was expected of each value; and how surprising it was."""
        x = self.sample(SHOWN)
        outputs = self.outputs(x)
        surprise = -self.head.log_prob(outputs, x).mean(1, keepdim=True)
        lowest, highest = surprise.amin(), surprise.amax()
        surprise = ((surprise - lowest) / (highest - lowest).clamp(min=1e-12)).expand_as(x)
        return {"conditionals": torch.cat([x, self.head.mean(outputs, x).clamp(0, 1), surprise])}
