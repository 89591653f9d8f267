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
    "pixelcnn-mixture": Tiny(
        "pixelcnn",
        {"features": 12, "blocks": 1, "kernel": 3, "head": 12, "likelihood": "logistic_mixture", "components": 3},
        enumerable=(((1, 2, 4), "levels(3)"), (COLOUR, "levels(2)")),
        larger=(((1, 5, 6), "levels(16)"), ((3, 5, 4), "levels(16)")),
    ),
    "pixelcnn_pp": Tiny(
        "pixelcnn_pp",
        {"features": 4, "resnets": 1, "scales": 2, "components": 2},
        enumerable=(((1, 2, 4), "levels(3)"), (COLOUR, "levels(2)")),
        larger=(((1, 5, 6), "levels(16)"), ((3, 5, 4), "levels(16)")),
    ),
    "pixelcnn_pp-bits": Tiny(
        "pixelcnn_pp",
        {"features": 4, "resnets": 2, "scales": 2},
        enumerable=(((1, 3, 4), "binary_fixed"),),
        larger=(((1, 7, 5), "binary_fixed"),),
    ),
    "multiscale_pixelrnn": Tiny(  # not in raster order: the rest is in test_multiscale.py
        "multiscale_pixelrnn",
        {"features": 6, "layers": 2, "small_layers": 2, "kernel": 3, "head": 6, "maps": 3},
        enumerable=(((1, 3, 4), "binary_fixed"), ((3, 2, 3), "levels(2)")),
        larger=(),
    ),
    "gated_pixelcnn": Tiny("gated_pixelcnn", {"features": 6, "layers": 3, "kernel": 3, "head": 12}),
    "pixel_lstm": Tiny("pixel_lstm", {"hidden": 8, "layers": 2}),
    "row_lstm": Tiny("row_lstm", {"features": 6, "layers": 2, "kernel": 3, "head": 24}),
    "diagonal_bilstm": Tiny("diagonal_bilstm", {"features": 6, "layers": 2, "kernel": 3, "head": 24}),
    "diagonal_bilstm, one direction": Tiny(
        "diagonal_bilstm", {"features": 6, "layers": 2, "directions": 1, "kernel": 3, "head": 24}
    ),
    "spatial_lstm": Tiny(
        "spatial_lstm",
        {"hidden": 6, "components": 3, "scales": 2, "features": 4, "neighbourhood": 3},
        enumerable=((GREY, "levels(2)"), ((1, 2, 3), "levels(4)")),
        larger=(((1, 5, 6), "levels(5)"), ((1, 5, 4), "dequantized")),
    ),
    "spatial_lstm, two layers and a softmax": Tiny(
        "spatial_lstm",
        {"hidden": 6, "layers": 2, "likelihood": "softmax"},
        enumerable=((GREY, "binary_fixed"),),
        larger=(((1, 4, 5), "levels(3)"),),
    ),
    "spatial_lstm, no layer": Tiny(
        "spatial_lstm",
        {"layers": 0, "components": 3, "scales": 2, "features": 4},
        enumerable=((GREY, "levels(2)"),),
        larger=(((1, 6, 7), "dequantized"),),
    ),
    "conditional_pixelcnn, everywhere": Tiny(
        "conditional_pixelcnn",
        {"where": "everywhere", "embedding": 4, "features": 6, "layers": 3, "kernel": 3, "head": 12},
        condition=lambda count: torch.randint(5, (count,)),
        classes=5,
    ),
    "conditional_pixelcnn, by location": Tiny(
        "conditional_pixelcnn",
        {"where": "by_location", "embedding": 3, "hidden": (), "features": 6, "layers": 3, "kernel": 3, "head": 12},
        condition=lambda count: torch.randint(5, (count,)),
        classes=5,
    ),
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
