"""Filters: the weights of a network's outermost layer as small pictures.

What a unit of an encoder's first layer looks for, and what a unit of a decoder's last layer paints, are images
themselves if the layer is fully connected, and patches of the kernel's size if it is convolutional.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHOWN = 64
"""Units of a layer that are pictured: those of the largest weights, strongest first."""

Shape = tuple[int, int, int]
"""(C, H, W) of an image."""


def first_layer(encoder: nn.Module, shape: Shape) -> Tensor:
    """What every unit of the first layer responds to: (N, C, h, w) in [0, 1], grey where the weight is 0.

    Args:
        encoder: of :func:`gen.nets.coders.encoder`.
        shape: of its images.
    """
    layer = next(module for module in encoder.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    return _pictures(layer.weight.view(-1, *shape) if isinstance(layer, nn.Linear) else layer.weight)


def last_layer(decoder: nn.Module, shape: Shape) -> Tensor:
    """What every input of the last layer adds to the image: (N, C, h, w) in [0, 1], grey where the weight is 0.

    Args:
        decoder: of :func:`gen.nets.coders.decoder`, with one output for every value of the image.
        shape: of its images.
    """
    *_, layer = (module for module in decoder.modules() if isinstance(module, nn.Linear | nn.ConvTranspose2d))
    return _pictures(layer.weight.T.reshape(-1, *shape) if isinstance(layer, nn.Linear) else layer.weight)


@torch.no_grad()
def _pictures(weights: Tensor) -> Tensor:
    """The strongest (N, C, h, w), each scaled so that its largest weight is black or white."""
    weights = weights[weights.flatten(1).norm(dim=1).argsort(descending=True)[:SHOWN]]
    largest = weights.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return 0.5 + 0.5 * weights / largest
