"""Causal convolutions: what a pixel computes depends on the pixels before it in raster order, and on nothing else.

The channels of an image are ordered too: red comes before green before blue. To keep that order inside the network,
the features of every layer are divided into as many equal, contiguous groups as the image has channels. Group c
may look at every group of the earlier pixels, and at its own pixel it may look at

    mask A   groups before c: for the first layer, whose input is the image, so that no value sees itself
    mask B   groups up to c: for all other layers, whose input already leaves the value itself out

(van den Oord et al. 2016, "Pixel Recurrent Neural Networks", section 3.4.)
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv2d(nn.Conv2d):
    """A k x k convolution that looks at the rows above and, in its own row, to the left: (B, I, H, W) -> (B, O, H, W).

    The rows of the kernel below the centre would all be masked, so they are neither stored nor multiplied: the
    weight has k // 2 + 1 rows of k columns, and the image is padded at the top only.

    Args:
        in_channels: I, a multiple of ``colours``.
        out_channels: O, a multiple of ``colours``.
        kernel_size: k, odd.
        mask: ``"A"`` or ``"B"``, see the module.
        colours: channels of the image, i.e. groups of features.
    """

    mask: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, mask: Literal["A", "B"], colours: int = 1
    ) -> None:
        if kernel_size % 2 == 0 or in_channels % colours or out_channels % colours:
            raise ValueError(
                f"a masked convolution needs an odd kernel and channels that are a multiple of {colours}, "
                f"found kernel {kernel_size}, channels {in_channels} -> {out_channels}"
            )
        half = kernel_size // 2
        super().__init__(in_channels, out_channels, (half + 1, kernel_size), padding=(0, half))
        source = torch.arange(in_channels) * colours // in_channels  # colour of each input feature, (I,)
        target = torch.arange(out_channels)[:, None] * colours // out_channels  # of each output feature, (O, 1)
        allowed = torch.ones_like(self.weight)
        allowed[:, :, half, half] = (source < target if mask == "A" else source <= target).to(allowed)
        allowed[:, :, half, half + 1 :] = 0
        self.register_buffer("mask", allowed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """See base. The weights themselves are never written to."""
        top = self.weight.shape[2] - 1
        x = F.pad(x, (0, 0, top, 0)) if top else x
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class ResidualBlock(nn.Module):
    """2h -> h -> h -> 2h features around an identity (figure 5, left): (B, 2h, H, W) -> same.

    Args:
        features: h, a multiple of ``colours``.
        kernel_size: of the convolution in the middle.
        colours: channels of the image.
    """

    def __init__(self, features: int, *, kernel_size: int = 3, colours: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(2 * features, features, 1, mask="B", colours=colours),
            nn.ReLU(),
            MaskedConv2d(features, features, kernel_size, mask="B", colours=colours),
            nn.ReLU(),
            MaskedConv2d(features, 2 * features, 1, mask="B", colours=colours),
        )

    def forward(self, x: Tensor) -> Tensor:
        """See class."""
        return x + self.net(x)
