"""Encoders and decoders: the two networks of a model with latent variables, and nothing about its objective.

An encoder turns an image into some numbers, a decoder turns a code into P numbers for every value of the image, which
:mod:`gen.losses.observation` gives their meaning. Both come fully connected (``mlp``) or convolutional (``conv``);
``hidden`` lists the encoder's layers from the image to the code, and the decoder mirrors them:

    mlp   units of each layer, e.g. (200, 200)
    conv  channels after each halving of height and width, e.g. (32, 64): no pooling, no batch norm
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from gen.errors import RecipeError
from gen.nets.conv import strided_decoder, strided_encoder
from gen.nets.mlp import mlp

Net = Literal["mlp", "conv"]
Activation = Literal["relu", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}
Shape = tuple[int, int, int]
"""(C, H, W) of an image."""


def encoder(
    shape: Shape,
    outputs: int,
    *,
    net: Net = "mlp",
    hidden: Sequence[int] = (400,),
    activation: Activation = "relu",
) -> nn.Sequential:
    """Images (B, C, H, W) -> (B, outputs).

    Args:
        shape: of an image.
        outputs: numbers to put out.
        net: see module.
        hidden: see module.
        activation: after every hidden layer.

    Raises:
        RecipeError: no such net or activation, widths below 1, or an image that cannot be halved so often.
    """
    _check(net, hidden, activation)
    if net == "conv":
        return strided_encoder(shape, outputs, channels=hidden, activation=ACTIVATIONS[activation])
    dense = mlp([prod(shape), *hidden, outputs], ACTIVATIONS[activation])
    # Layers are named, not numbered, so that weights are called the same with and without what only changes shapes.
    return nn.Sequential(OrderedDict([("flatten", nn.Flatten()), *dense.named_children()]))


def decoder(
    latents: int,
    outputs: int,
    shape: Shape,
    *,
    net: Net = "mlp",
    hidden: Sequence[int] = (400,),
    activation: Activation = "relu",
) -> nn.Sequential:
    """Codes (B, latents) -> (B, outputs, C, H, W).

    Args:
        latents: numbers in a code.
        outputs: P, numbers for every value of the image.
        shape: of an image.
        net: see module.
        hidden: of the encoder; see module.
        activation: after every hidden layer.

    Raises:
        RecipeError: see :func:`encoder`.
    """
    _check(net, hidden, activation)
    if net == "conv":
        return strided_decoder(latents, outputs, shape, channels=hidden, activation=ACTIVATIONS[activation])
    dense = mlp([latents, *reversed(hidden), outputs * prod(shape)], ACTIVATIONS[activation])
    return nn.Sequential(OrderedDict([*dense.named_children(), ("image", nn.Unflatten(1, (outputs, *shape)))]))


@torch.no_grad()
def set_bias(decoder: nn.Module, start: Tensor) -> None:
    """Put the outputs that model each pixel by itself, (P, C, H, W), into the decoder's last bias."""
    *_, last = (module for module in decoder.modules() if isinstance(getattr(module, "bias", None), Tensor))
    assert isinstance(last.bias, Tensor)
    last.bias.copy_(start.view_as(last.bias))


def _check(net: str, hidden: Sequence[int], activation: str) -> None:
    if net not in ("mlp", "conv"):
        raise RecipeError(f"hyper.net: found '{net}'. Allowed: mlp, conv.")
    if activation not in ACTIVATIONS:
        raise RecipeError(f"hyper.activation: found '{activation}'. Allowed: {', '.join(ACTIVATIONS)}.")
    if any(width < 1 for width in hidden):
        raise RecipeError(
            f"hyper.hidden: found {list(hidden)}, allowed widths from 1. Try [400], or conv with [32, 64]."
        )
