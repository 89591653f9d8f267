"""Patches: small squares cut from images, and images put together from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gen.errors import RecipeError


class Patches(nn.Module):
    """How images are cut. A patch is named by its corner, the pixel of the flat image where it begins.

    Args:
        shape: (C, H, W) of an image.
        side: height and width of a patch, s.

    Attributes:
        dims: numbers in a patch, d = C s^2.
        offsets: pixels of a patch, counted in the flat image from its corner, (d,).
        tiles: corners of the fewest evenly spaced patches that cover an image, (P,).
    """

    offsets: Tensor
    tiles: Tensor

    def __init__(self, shape: tuple[int, int, int], side: int) -> None:
        super().__init__()
        _, height, width = shape
        if not 2 <= side <= min(height, width):
            raise RecipeError(
                f"hyper.patch: found {side}, allowed 2 to {min(height, width)}; a patch must fit into the "
                f"{height}x{width} images."
            )
        self.shape, self.side, self.dims = shape, side, shape[0] * side**2
        pixel = torch.arange(math.prod(shape)).view(shape)
        self.register_buffer("offsets", pixel[:, :side, :side].flatten(), persistent=False)
        rows, columns = (torch.linspace(0, n - side, math.ceil(n / side)).round().long() for n in (height, width))
        self.register_buffer("tiles", pixel[0][rows][:, columns].flatten(), persistent=False)

    def cut(self, x: Tensor, corners: Tensor) -> Tensor:
        """Patches (B * P, d) of images (B, C, H, W) at the corners, (P,) for all images or (B, P) for each."""
        pixels = (corners.unsqueeze(-1) + self.offsets).expand(len(x), -1, -1)  # (B, P, d)
        return x.flatten(1).gather(1, pixels.flatten(1)).view(-1, self.dims)

    def covering(self, x: Tensor) -> Tensor:
        """The patches that cover images (B, C, H, W), image by image, (B * P, d)."""
        return self.cut(x, self.tiles)

    def random(self, x: Tensor, count: int) -> Tensor:
        """``count`` patches of each image, anywhere in it, (B * count, d)."""
        _, height, width = self.shape
        row = torch.randint(height - self.side + 1, (len(x), count), device=x.device)
        column = torch.randint(width - self.side + 1, (len(x), count), device=x.device)
        return self.cut(x, row * width + column)

    def join(self, patches: Tensor) -> Tensor:
        """Images (B, C, H, W) from the patches that cover them, (B * P, d); pixels in several patches are averaged."""
        pixels = (self.tiles.unsqueeze(1) + self.offsets).flatten()
        values = patches.view(-1, len(pixels))
        total = patches.new_zeros(len(values), math.prod(self.shape)).index_add_(1, pixels, values)
        return (total / pixels.bincount(minlength=total.shape[1])).unflatten(1, self.shape)

    def pictures(self, patches: Tensor) -> Tensor:
        """Patches (N, d) as images in [0, 1], (N, C, s, s), from coarse to fine (by squared differences); grey is 0."""
        images = patches.unflatten(1, (-1, self.side, self.side))
        fineness = images.diff(dim=2).square().sum((1, 2, 3)) + images.diff(dim=3).square().sum((1, 2, 3))
        return (images / images.abs().amax((1, 2, 3), keepdim=True) / 2 + 1 / 2)[fineness.argsort()]
