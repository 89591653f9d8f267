"""Sampling images value by value: three ways to the same image.

    for every row i, column j, channel c:   x_ijc = d(o_ij(x), u_ijc)

o_ij(x) is what an autoregressive network computes for pixel (i, j); it depends on the values before x_ijc only. d is a
head's draw (:mod:`gen.losses.heads`), and the uniform noise u is drawn for the whole image at once, before the first
value. So an image is a function of its noise: however the outputs are computed, the same seed gives the same image.

    naive      the whole network for every value: what the formula says, and what all else is measured against
    ancestral  only the features of the new pixel, from what is remembered of those before it [1]
    jacobi     x <- d(o(x), u), all values at once, until nothing changes: the fixed point is the image [2, 3]. Values
               are right from the first on, at least one more after every round, so C H W rounds suffice; as most
               values do not depend on the last digit of those before them, far fewer do. It asks nothing of a model

[1] P. Ramachandran et al. Fast Generation for Convolutional Autoregressive Models. 2017.
[2] A. Wiggers, E. Hoogeboom. Predictive Sampling with Forecasting Autoregressive Models. 2020.
[3] Y. Song, C. Meng, R. Liao, S. Ermon. Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving.
    2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

Whole = Callable[[Tensor, Tensor], Tensor]
"""Images (B, C, H, W), and which of all the images they are, int64 (B,) -> what the network computes, (B, P, H, W)."""


class Draws(Protocol):
    """What is needed of a head; see :class:`gen.losses.heads.Head`."""

    @property
    def noise(self) -> int:
        """Uniform random numbers per value."""
        ...

    @property
    def ordered_by_net(self) -> bool:
        """Whether the outputs for a channel depend on the channels of the pixel before it."""
        ...

    def draw(self, outputs: Tensor, x: Tensor, channel: int, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Outputs (N, P), pixels (N, C), a channel, noise (N, n) -> values (N,)."""
        ...


class Incremental(Protocol):
    """A network pixel by pixel, for images that grow in raster order.

    Pixels are read, and in the end written, one after the other; both may be repeated, channel by channel. Whatever was
    written last counts, and what is still to be drawn of a pixel holds 0.
    """

    def read(self, i: int, j: int) -> Tensor:
        """What the network computes at pixel (i, j) of the images written so far, (B, P)."""
        ...

    def write(self, i: int, j: int, values: Tensor) -> None:
        """Pixel (i, j) holds these values, (B, C)."""
        ...


@dataclass(frozen=True, slots=True)
class Canvas:
    """Images of which some values are known, and all that is needed to draw the others but the network.

    Attributes:
        head: turns what a network computes into values.
        x: images in the model's space, (B, C, H, W). What it holds where ``known`` is false is never looked at.
        known: bool, (B, C, H, W): values to keep, bit for bit.
        noise: all that is random about the images: uniform in [0, 1), (B, C, n, H, W) with n = ``head.noise``.
        temperature: of every draw.
    """

    head: Draws
    x: Tensor
    known: Tensor
    noise: Tensor
    temperature: float = 1.0

    @classmethod
    def noisy(cls, head: Draws, x: Tensor, known: Tensor, temperature: float = 1.0) -> Canvas:
        """With noise from the default generator."""
        batch, channels, height, width = x.shape
        noise = torch.rand(batch, channels, head.noise, height, width, dtype=x.dtype, device=x.device)
        return cls(head, torch.where(known, x, torch.zeros_like(x)), known, noise, temperature)

    def rows(self, rows: Tensor) -> Canvas:
        """Some of the images, int64 (b,), as copies."""
        return Canvas(self.head, self.x[rows], self.known[rows], self.noise[rows], self.temperature)

    def redrawn(self, outputs: Tensor) -> Tensor:
        """The images with all unknown values drawn at once, given what a network computes for them, (B, P, H, W)."""
        batch, channels, height, width = self.x.shape
        outputs = outputs.movedim(1, 3).flatten(0, 2)  # (N, P) with N = B H W
        pixels, kept = (t.movedim(1, 3).reshape(-1, channels) for t in (self.x, self.known))
        u, new = self.noise.permute(0, 3, 4, 1, 2).flatten(0, 2), pixels.clone()
        for c in range(channels):
            new[:, c] = torch.where(
                kept[:, c], pixels[:, c], self.head.draw(outputs, new, c, u[:, c], self.temperature)
            )
        return new.view(batch, height, width, channels).movedim(3, 1)


@torch.no_grad()
def ancestral(net: Incremental, canvas: Canvas) -> Tensor:
    """Draws the unknown values, each given the known and the drawn ones before it.

    What is known *after* a value does not inform it: this is the chain rule cut short, not the posterior of the
    unknown values given all known ones.

    Args:
        net: no pixel has been written to it yet.
        canvas: is not changed.

    Returns:
        The completed images, (B, C, H, W).
    """
    head, known, x = canvas.head, canvas.known, torch.where(canvas.known, canvas.x, torch.zeros_like(canvas.x))
    _, channels, height, width = x.shape
    for i, j in product(range(height), range(width)):
        pixel = x[:, :, i, j]  # a view: what is drawn into it is drawn into the image
        outputs = net.read(i, j)
        for c in range(channels):
            if c and head.ordered_by_net:
                net.write(i, j, pixel)
                outputs = net.read(i, j)
            drawn = head.draw(outputs, pixel, c, canvas.noise[:, c, :, i, j], canvas.temperature)
            pixel[:, c] = torch.where(known[:, c, i, j], pixel[:, c], drawn)
        net.write(i, j, pixel)
    return x


@torch.no_grad()
def naive(whole: Whole, canvas: Canvas) -> Tensor:
    """As :func:`ancestral`, with the whole network on the whole images for every value."""
    return ancestral(Repeated(whole, torch.zeros_like(canvas.x)), canvas)


class Repeated:
    """:class:`Incremental` without a memory: every reading runs the network on the whole images.

    Args:
        whole: the network.
        blank: zeros, (B, C, H, W); written to.
    """

    def __init__(self, whole: Whole, blank: Tensor) -> None:
        self.whole, self.x = whole, blank

    def read(self, i: int, j: int) -> Tensor:
        """See base."""
        return self.whole(self.x, torch.arange(len(self.x), device=self.x.device))[:, :, i, j]

    def write(self, i: int, j: int, values: Tensor) -> None:
        """See base."""
        self.x[:, :, i, j] = values


@torch.no_grad()
def jacobi(whole: Whole, canvas: Canvas) -> Tensor:
    """As :func:`ancestral`, by fixed-point iteration; images that have settled leave the batch."""
    x = torch.where(canvas.known, canvas.x, torch.zeros_like(canvas.x))
    moving = torch.arange(len(x), device=x.device)
    for _ in range(x[0].numel() + 1):
        part = replace(canvas, x=x).rows(moving)
        drawn = part.redrawn(whole(part.x, moving))
        changed = (drawn != part.x).flatten(1).any(1)
        x[moving] = drawn
        moving = moving[changed]
        if not len(moving):
            return x
    raise RuntimeError("fixed-point sampling did not settle: the network is not causal")
