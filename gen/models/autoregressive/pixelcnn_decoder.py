"""PixelCNN auto-encoder: a code for what an image shows, and a PixelCNN for how it may look.

The decoder of an autoencoder puts out one value for every pixel, so its code has to hold every detail that counts in
the error, and what it does not hold comes out blurred. Here the decoder is a gated PixelCNN given the code: a
distribution of sharp images, whose texture it models by itself. The encoder is left with what neighbouring pixels do
not tell: what there is, and where. Both are trained together, end to end [1].

    -log p(x | h(x)) = -sum_i log p(x_i | x_1, ..., x_{i-1}, h(x))                             (section 2.4 of [1])

This is no likelihood of x: the code is computed from x, and what it would cost to send is not counted. Nor is there a
distribution of codes to draw new images from. It is an autoencoder, and what it is measured by is its codes.

Nets: an encoder to the code h, linear at its end; a deconvolutional net to maps s = m(h), which are told to every gate
of every layer place by place; the gated PixelCNN.
Algorithm: gradient descent on -log p(x | h(x)). A decoded image is drawn, value after value, from p(x | h): the same
code gives another image with other noise, and the same one with the same noise.

Metrics: bits_per_dim given the code.

[1] A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu. Conditional Image Generation
    with PixelCNN Decoders. 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.inference.pixels import Canvas, ancestral
from gen.losses.heads import Softmax
from gen.model import Adam, Batch, GenerativeModel, Metrics, Optim
from gen.nets.coders import Activation, Net, decoder, encoder
from gen.nets.gated import GatedNet
from gen.nets.gated_steps import GatedByPixel
from gen.registry import register


@register("pixelcnn_decoder")
class PixelCNNDecoder(GenerativeModel):
    """See module.

    Args:
        latents: numbers in a code.
        net: of the encoder and of m, ``mlp`` or ``conv``; see :mod:`gen.nets.coders`.
        hidden: of the encoder; m mirrors it.
        activation: of both, ``relu`` or ``tanh``.
        maps: F, in s.
        features: p, of either stack of the PixelCNN; a multiple of the image's channels.
        layers: of both stacks, at least 1; each after the first widens the field by one pixel.
        kernel: width of the first layer, odd, at least 3.
        head: features before the softmax's layer; a multiple of the image's channels.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: int = 24,
        net: Net = "conv",
        hidden: Sequence[int] = (32,),
        activation: Activation = "relu",
        maps: int = 8,
        features: int = 12,
        layers: int = 3,
        kernel: int = 5,
        head: int = 24,
    ) -> None:
        super().__init__(spec)
        at_least(1, latents=latents, maps=maps)
        colours, height, width = spec.shape
        self.head = Softmax.of(spec)
        self.encoder = encoder(spec.shape, latents, net=net, hidden=hidden, activation=activation)
        self.map = decoder(latents, maps, (1, height, width), net=net, hidden=hidden, activation=activation)
        self.net = GatedNet(
            colours,
            self.head.outputs,
            features=features,
            layers=layers,
            kernel=kernel,
            head=head,
            condition=maps,
        )

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=5e-3, clip=1.0, warmup=500, decay="cosine")}

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -log p(x | h(x)) in nats per image."""
        nats = -self.log_prob(batch.x, self.encode(batch.x)).mean()
        return nats, {"bits_per_dim": nats.detach() / (self.spec.dims * math.log(2))}

    def log_prob(self, x: Tensor, code: Tensor) -> Tensor:
        """log p(x | h) of images (B, C, H, W) given codes (B, K), nats, (B,)."""
        return self.head.log_prob(self.net(x, self.told(code)), x).flatten(1).sum(1)

    def told(self, code: Tensor) -> Tensor:
        """s = m(h): codes (B, K) -> (B, F, H, W)."""
        maps: Tensor = self.map(code)
        return maps.squeeze(2)

    def encode(self, x: Tensor) -> Tensor:
        """See base: h(x)."""
        code: Tensor = self.encoder(x)
        return code

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See base: an image drawn from p(x | h), with noise from the default generator."""
        blank = code.new_zeros(len(code), *self.spec.shape)
        net = GatedByPixel(self.net, len(code), self.spec.shape[2], self.told(code))
        return ancestral(net, Canvas.noisy(self.head, blank, torch.zeros_like(blank, dtype=torch.bool)))
