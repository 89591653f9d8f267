"""The autoregressive family at the size where every image can be written down: one line per model and condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.pixel_model import PixelModel
from gen.registry import build

GREY, COLOUR = (1, 3, 3), (3, 2, 2)


@dataclass(frozen=True)
class Tiny:
    """A small model.

    Attributes:
        name: in the registry.
        hyper: hyper-parameters; for colours, sizes must be multiples of 3.
        condition: a number of images -> their conditions; ``None`` in models of p(x).
        classes: of the data.
        enumerable: shapes and spaces of which every image is enumerated.
        larger: shapes and spaces for samplers and gradients.
    """

    name: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    condition: Callable[[int], Tensor] | None = None
    classes: int = 0
    enumerable: tuple[tuple[tuple[int, int, int], str], ...] = ((GREY, "binary_fixed"), (COLOUR, "levels(2)"))
    larger: tuple[tuple[tuple[int, int, int], str], ...] = (((1, 5, 6), "binary_fixed"), ((3, 5, 4), "levels(3)"))

    def model(self, shape: tuple[int, int, int], space: str) -> PixelModel:
        """In float64, in evaluation mode, with weights so large that no conditional is near uniform."""
        torch.manual_seed(0)
        spec = DataSpec(shape, self.classes, Space.parse(space))
        model = build(self.name, spec, **self.hyper).double().eval()
        assert isinstance(model, PixelModel)
        model.initialize(some_images(shape, space, 16))
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                # Noise as well: what starts at zero (a last layer, an embedding) must not hide a dependence.
                parameter.mul_(1.5).add_(torch.randn_like(parameter), alpha=0.2)
        return model

    def conditions(self, count: int, seed: int = 0) -> Tensor | None:
        """One for each image."""
        torch.manual_seed(seed)
        return None if self.condition is None else self.condition(count)


FAMILY: dict[str, Tiny] = {
    "pixelcnn": Tiny("pixelcnn", {"features": 12, "blocks": 1, "kernel": 3, "head": 12}),
}


def some_images(shape: tuple[int, int, int], space: str, count: int) -> Tensor:
    """Random images in a space, float64."""
    levels = Space.parse(space).levels
    if levels is None:
        return torch.rand(count, *shape, dtype=torch.float64)
    return torch.randint(levels, (count, *shape)).double() / (levels - 1)


def all_images(shape: tuple[int, int, int], levels: int) -> Tensor:
    """Every image of a shape, (K^(C H W), C, H, W), with values k / (K - 1)."""
    values = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    dims = shape[0] * shape[1] * shape[2]
    return torch.cartesian_prod(*[values] * dims).view(-1, *shape)


def raster(shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Indices (c, i, j) in the order of the chain rule: row, column, channel."""
    channels, height, width = shape
    return [(c, i, j) for i, j, c in product(range(height), range(width), range(channels))]
