"""The gated PixelCNN: two stacks of convolutions that see, between them, everything before a pixel.

Masked convolutions stacked on each other never reach what lies to the upper right beyond a diagonal: the blind spot of
:mod:`gen.nets.masked`. Here a vertical stack reads whole rows, those above the pixel, so it needs no mask; a horizontal
stack reads its own row to the left. At every layer the vertical stack tells the horizontal one what it has found, never
the other way round (van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", figure 2):

    a = n x n * v                                        v' = gate(a)
    b = 1 x n * h + 1 x 1 * a                            h' = h + 1 x 1 * gate(b)
    gate(a) = tanh(a_1) sigmoid(a_2)                     with a condition s, V s is added to a and to b    (eq. 2 to 4)

The paper moves ``a`` down by one row on its way into the horizontal stack of every layer, so that row i hears of the
rows above i alone. It comes to the same, and costs less, to move the image down before the vertical stack reads it.

The features of the horizontal stack are grouped by colour as those of a masked network are; the vertical stack knows
earlier rows only, where all colours are free.

How it runs pixel by pixel is in :mod:`gen.nets.gated_steps`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least, divisible, odd
from gen.nets.masked import MaskedConv2d

Mask = Literal["A", "B"]


class AboveConv2d(nn.Conv2d):
    """An n x n convolution over the n // 2 rows above, and its own row or not: (B, I, H, W) -> (B, O, H, W).

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: n, odd, at least 3.
        own_row: for every layer but the one that reads the image.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, own_row: bool) -> None:
        half = kernel_size // 2
        super().__init__(in_channels, out_channels, (half + own_row, kernel_size), padding=(0, half))
        self.pad = (0, 0, half, 0 if own_row else -1)

    def forward(self, x: Tensor) -> Tensor:
        """See base."""
        return super().forward(F.pad(x, self.pad))


class LeftConv2d(nn.Conv2d):
    """A 1 x n convolution over the n // 2 pixels to the left and the pixel itself: (B, I, H, W) -> (B, O, H, W).

    Args:
        in_channels: I, a multiple of ``colours``.
        out_channels: O, a multiple of ``colours``.
        kernel_size: n, odd, at least 3.
        mask: what a pixel may look at of itself; see :mod:`gen.nets.masked`.
        colours: channels of the image, i.e. groups of features.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, mask: Mask, colours: int) -> None:
        half = kernel_size // 2
        super().__init__(in_channels, out_channels, (1, half + 1))
        allowed = torch.ones_like(self.weight)
        allowed[..., -1] = MaskedConv2d(in_channels, out_channels, 1, mask=mask, colours=colours).mask[..., 0]
        self.register_buffer("mask", allowed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """See base. The weights themselves are never written to."""
        return F.conv2d(F.pad(x, (self.kernel_size[1] - 1, 0)), self.weight * self.mask, self.bias)


def gate(x: Tensor, colours: int, dim: int) -> Tensor:
    """tanh of one half of the features times the sigmoid of the other: 2p of them in a dimension become p.

    Every colour has its own halves: cut in the middle of all, the features of one colour would be gated by another's.
    """
    candidate, opening = x.unflatten(dim, (colours, 2, -1)).unbind(dim + 1)
    return (candidate.tanh() * opening.sigmoid()).flatten(dim, dim + 1)


class GatedLayer(nn.Module):
    """One layer of both stacks, without what is added around it.

    Args:
        in_features: of either stack.
        features: p, of either stack after the gates; a multiple of ``colours``.
        kernel_size: n, odd, at least 3.
        mask: ``A`` for the layer that reads the image, ``B`` for the others.
        colours: channels of the image.
        condition: features F of what all is conditioned on, 0 for nothing.
    """

    def __init__(
        self, in_features: int, features: int, kernel_size: int, *, mask: Mask, colours: int, condition: int
    ) -> None:
        super().__init__()
        self.colours = colours
        self.above = AboveConv2d(in_features, 2 * features, kernel_size, own_row=mask == "B")
        self.left = LeftConv2d(in_features, 2 * features, kernel_size, mask=mask, colours=colours)
        self.down = nn.Conv2d(2 * features, 2 * features, 1, bias=False)
        self.told = nn.Conv2d(condition, 4 * features, 1, bias=False) if condition else None

    def forward(self, v: Tensor, h: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The stacks' features (B, I, H, W) and the condition (B, F, H or 1, W or 1) -> two times (B, p, H, W)."""
        above, left = self.above(v), self.left(h)
        if self.told is not None:
            of_above, of_left = self.told(condition).chunk(2, 1)
            above, left = above + of_above, left + of_left
        return gate(above, self.colours, 1), gate(left + self.down(above), self.colours, 1)


class GatedNet(nn.Module):
    """Layers of both stacks; what every layer of the horizontal one finds goes into the outputs, through one ReLU.

    Args:
        colours: channels C of the image.
        outputs: P, a multiple of C.
        features: p of all layers, a multiple of C.
        layers: at least 1. Each after the first widens the field by one pixel.
        kernel: width of the first layer, odd, at least 3; all others are 3 x 3.
        head: features before the last map, a multiple of C.
        condition: features F of what all is conditioned on, 0 for nothing.

    Raises:
        RecipeError: one of them is not possible.
    """

    def __init__(
        self, colours: int, outputs: int, *, features: int, layers: int, kernel: int, head: int, condition: int = 0
    ) -> None:
        super().__init__()
        at_least(1, layers=layers)
        divisible(colours, features=features, head=head)
        odd(kernel=kernel)
        self.first = GatedLayer(colours, features, kernel, mask="A", colours=colours, condition=condition)
        self.layers = nn.ModuleList(
            GatedLayer(features, features, 3, mask="B", colours=colours, condition=condition) for _ in range(layers - 1)
        )
        self.residual = nn.ModuleList(
            MaskedConv2d(features, features, 1, mask="B", colours=colours) for _ in range(layers - 2)
        )
        self.skip = nn.ModuleList(MaskedConv2d(features, head, 1, mask="B", colours=colours) for _ in range(layers))
        self.head = nn.Sequential(nn.ReLU(), MaskedConv2d(head, outputs, 1, mask="B", colours=colours))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images to outputs.

        Args:
            x: (B, C, H, W).
            condition: (B, F, H, W), or (B, F, 1, 1) if it is the same everywhere.

        Returns:
            (B, P, H, W).
        """
        v, h = self.first(x, x, condition)
        found = self.skip[0](h)
        for k, layer in enumerate(self.layers):
            v, g = layer(v, h, condition)
            found = found + self.skip[k + 1](g)
            if k < len(self.residual):  # what the last layer adds to h nobody reads
                h = h + self.residual[k](g)
        outputs: Tensor = self.head(found)
        return outputs
