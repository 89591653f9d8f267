"""Autoencoder: two networks that carry an image through a narrow code and back.

An encoder maps an image to a few numbers, a decoder maps them back, and both are trained to lose as little as they can
[1]. What fits through the bottleneck is what images have in common, so the code is a description: nearby codes are
similar images, and a classifier needs fewer labels on it. Without hidden layers everything is linear, and the best
code is the projection on the principal components, up to an invertible matrix [2]; hidden layers bend that plane, and
the same number of code units loses less [3]. It is *no* generative model: nothing says which codes belong to images, so
decoding random ones gives what lies between the data. A VAE mends just this.

    min over f, g of  E_x  d(x, g(f(x))),    f: R^D -> R^K,  g: R^K -> R^D
    d(x, y) = |x - y|^2, or the cross-entropy of bits with the log-odds y        (`gen.losses.reconstruction`)

Nets: `gen.nets.coders`, fully connected or convolutional; `hidden: []` is the linear autoencoder. Algorithm: gradient
descent, Adam.

Logged: `error`, d in nats or in units of x^2 per image, which is the loss; `mse`, the squared error of a pixel, in
units of x^2 whatever d is.

[1] D. Rumelhart, G. Hinton, R. Williams. Learning internal representations by error propagation. 1986.
[2] P. Baldi, K. Hornik. Neural networks and principal component analysis: learning from examples without local minima.
    1989.
[3] G. Hinton, R. Salakhutdinov. Reducing the dimensionality of data with neural networks. 2006.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.losses.reconstruction import KINDS, reconstruction
from gen.model import Adam, Batch, GenerativeModel, Metrics, Optim
from gen.nets.coders import Net, decoder, encoder, set_bias
from gen.nets.filters import last_layer
from gen.registry import register


@register("autoencoder")
class Autoencoder(GenerativeModel):
    """See module.

    Args:
        latents: K, numbers in a code.
        net: ``mlp`` or ``conv``.
        hidden: the encoder's hidden layers, which the decoder mirrors; none for the linear autoencoder.
    """

    spaces = KINDS

    def __init__(self, spec: DataSpec, *, latents: int = 32, net: Net = "mlp", hidden: Sequence[int] = (400,)) -> None:
        super().__init__(spec)
        if latents < 1:
            raise RecipeError(f"hyper.latents: found {latents}, allowed 1 and more. Use 2 to draw the plane of codes.")
        self.reconstruction = reconstruction(spec.space)
        self.encoder = encoder(spec.shape, latents, net=net, hidden=hidden)
        self.decoder = decoder(latents, 1, spec.shape, net=net, hidden=hidden)

    def optimizers(self) -> dict[str, Optim]:
        """See base. Steps shrink to nothing, so that training ends at a minimum and not around it."""
        return {"model": Adam(lr=1e-3, decay="linear")}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at the mean image, so that codes need not explain what all images share."""
        set_bias(self.decoder, self.reconstruction.start(x))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """d(x, g(f(x))), mean over the batch."""
        outputs = self.decoder(self.encoder(batch.x))
        error = self.reconstruction.error(outputs, batch.x).mean()
        rebuilt = self.reconstruction.image(outputs.detach())
        return error, {"error": error.detach(), "mse": (rebuilt - batch.x).square().mean()}

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`: f(x), (B, K)."""
        code: Tensor = self.encoder(x)
        return code

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`: g(code), of bits the probabilities. Real values may leave the space."""
        return self.reconstruction.image(self.decoder(code))

    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`: what units of the last hidden layer, or of a linear code, paint."""
        return {"dictionary": last_layer(self.decoder, self.spec.shape)}
