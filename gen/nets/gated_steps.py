"""The gated PixelCNN pixel by pixel: the vertical stack once for every row, the horizontal one once for every pixel.

The vertical stack at row i reads the rows above, so all of it can be computed when row i begins, for every column at
once, and with it all that it says to the horizontal stack, biases and conditions included. What is left for a pixel are
small products in every layer: of the n // 2 pixels to the left and the pixel itself, and two 1 x 1 maps of what comes
through the gates (Ramachandran et al. 2017, "Fast Generation for Convolutional Autoregressive Models").

Features come first and the batch last, as in :mod:`gen.nets.masked`. No gradient flows into the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen.nets.gated import GatedLayer, GatedNet, gate
from gen.nets.masked import chain


class GatedByPixel:
    """A :class:`GatedNet` pixel by pixel; see :class:`gen.inference.pixels.Incremental`.

    Args:
        net: the network, its weights as they are now.
        batch: images, B.
        width: columns of an image.
        condition: see :meth:`GatedNet.forward`.
    """

    def __init__(self, net: GatedNet, batch: int, width: int, condition: Tensor | None = None) -> None:
        self.first, *self.layers = (LayerByPixel(layer, batch, width, condition) for layer in (net.first, *net.layers))
        self.residual = [chain([conv], batch, width) for conv in net.residual]
        self.skip = [chain([conv], batch, width) for conv in net.skip]
        self.head = chain(net.head, batch, width)
        self.row = -1

    def read(self, i: int, j: int) -> Tensor:
        """What the network computes at pixel (i, j) of the images written so far, (B, P)."""
        self._begin(i)
        h = self.first.read(j)
        found = self.skip[0](h, i, j)
        for k, layer in enumerate(self.layers):
            layer.write(j, h)
            g = layer.read(j)
            found = found + self.skip[k + 1](g, i, j)
            if k < len(self.residual):
                h = h + self.residual[k](g, i, j)
        return self.head(found, i, j).T

    def write(self, i: int, j: int, values: Tensor) -> None:
        """Set the values of pixel (i, j), (B, C)."""
        self._begin(i)
        self.first.write(j, values.T)

    def _begin(self, i: int) -> None:
        """If row i is a new one: run the vertical stack on it, which reads the rows above."""
        if i == self.row:
            return
        self.row = i
        v = self.first.row  # of the image, the row before this one
        for layer in (self.first, *self.layers):
            v = layer.begin(i, v)


class LayerByPixel:
    """A :class:`GatedLayer`: the vertical stack by rows, the horizontal one by pixels."""

    def __init__(self, layer: GatedLayer, batch: int, width: int, condition: Tensor | None) -> None:
        above, left, self.colours = layer.above, layer.left, layer.colours
        self.weight_above, self.bias_above = _matrix(above.weight), _column(above.bias)
        self.weight_left, self.bias_left = _matrix(left.weight * left.mask), _column(left.bias)
        self.weight_down = _matrix(layer.down.weight)
        # By row and column, (H or 1, W or 1, 4p, B).
        self.told = None if layer.told is None else layer.told(condition).detach().permute(2, 3, 1, 0).contiguous()
        # The rows that the vertical stack looks at, and what the horizontal one has found in this row; 0 beyond edges.
        (high, wide), reach = above.kernel_size, left.kernel_size[1] - 1
        self.rows = self.weight_above.new_zeros(high, width + wide - 1, above.in_channels, batch)
        row = self.rows.new_zeros(reach + width, left.in_channels, batch)
        self.row = row[reach:]
        self.pixels = self.row.unbind()  # (I, B)
        self.patches = [row[j : j + reach + 1].view(-1, batch) for j in range(width)]  # views: ((n // 2 + 1) I, B)
        self.around: tuple[Tensor, ...] = ()  # what all but this row contributes at each column, (2p, B)

    def begin(self, i: int, v: Tensor) -> Tensor:
        """Begin row i, of which the vertical stack of the layer below says (W, I, B); what this one says, (W, p, B)."""
        self.rows[:-1] = self.rows[1:].clone()
        side = (self.rows.shape[1] - len(v)) // 2
        self.rows[-1, side : side + len(v)] = v
        windows = self.rows.unfold(1, 2 * side + 1, 1)  # (rows, W, I, B, n)
        above = self.bias_above + self.weight_above @ windows.permute(1, 0, 4, 2, 3).flatten(1, 3)  # (W, 2p, B)
        around = self.bias_left
        if self.told is not None:
            of_above, of_left = self.told[i if len(self.told) > 1 else 0].chunk(2, 1)
            above, around = above + of_above, around + of_left
        self.around = (around + self.weight_down @ above).unbind()
        return gate(above, self.colours, 1)

    def write(self, j: int, h: Tensor) -> None:
        """Remember the features of the layer below at column j, (I, B)."""
        self.pixels[j].copy_(h)

    def read(self, j: int) -> Tensor:
        """What the horizontal stack says at column j, (p, B)."""
        return gate(torch.addmm(self.around[j], self.weight_left, self.patches[j]), self.colours, 0)


def _matrix(weight: Tensor) -> Tensor:
    """(O, I, rows, columns) -> (O, rows * columns * I), without gradient."""
    return weight.detach().permute(0, 2, 3, 1).flatten(1)


def _column(bias: Tensor | None) -> Tensor:
    """(O,) -> (O, 1), without gradient."""
    assert bias is not None
    return bias.detach()[:, None]
