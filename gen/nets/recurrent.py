"""Layers of recurrent pixel networks: an LSTM that passes over the image, in the place of a convolution.

Every layer takes 2h features to an LSTM of h, and back to 2h around an identity (van den Oord et al. 2016, "Pixel
Recurrent Neural Networks", figure 5, right). It has two parts (section 3):

    input to state    what the features of a pixel (and of its neighbour on the left, in the Row LSTM) contribute to
                      the gates: one product for the whole image. Between the channels of the pixel itself the order is
                      kept by a mask B, see :mod:`gen.nets.masked`
    state to state    what its neighbours' states contribute: front by front, see :mod:`gen.nets.fronts`. These are
                      earlier pixels, all of whose channels are known, so that nothing is masked
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least, divisible, odd
from gen.data.spaces import DataSpec
from gen.nets.fronts import Fronts, Pixel, recur, skew
from gen.nets.masked import MaskedConv2d


class RecurrentBlock(nn.Module):
    """(B, 2h, H, W) -> same. A subclass says where the neighbours are and what the fronts.

    Args:
        features: h, a multiple of ``colours``.
        colours: channels of the image, i.e. groups of features.
        directions: 2 for a second LSTM on the mirrored image.
    """

    taps: ClassVar[tuple[Pixel, ...]]
    sources: ClassVar[int] = 1  # pixels that contribute to the input, the pixel itself being the last
    mask: Tensor

    def __init__(self, features: int, colours: int = 1, directions: int = 1) -> None:
        super().__init__()
        inputs, gates = 2 * features, 4 * features
        self.input = nn.Parameter(torch.empty(directions, self.sources * inputs, gates))
        self.bias = nn.Parameter(torch.zeros(directions, gates))
        self.state = nn.Parameter(torch.empty(directions, len(self.taps), features, gates))
        self.initial = nn.Parameter(torch.zeros(directions, 2, features))  # h and c outside the image
        self.up = MaskedConv2d(features, inputs, 1, mask="B", colours=colours)
        for weight, fan_in in ((self.input, self.sources * inputs), (self.state, len(self.taps) * features)):
            nn.init.uniform_(weight, -(fan_in**-0.5), fan_in**-0.5)
        with torch.no_grad():
            self.bias[:, features : 2 * features] = 1  # memories begin long
        source = torch.arange(inputs) * colours // inputs  # colour of each feature of the pixel itself
        target = (torch.arange(features) * colours // features).repeat(4)  # of each gate
        allowed = torch.ones(self.sources, inputs, gates)
        allowed[-1] = source[:, None] <= target
        self.register_buffer("mask", allowed.flatten(0, 1), persistent=False)

    @staticmethod
    def front(pixel: Pixel) -> int:
        """In which front a pixel is."""
        raise NotImplementedError

    def seen(self, x: Tensor) -> Tensor:
        """Features, (H, W, B, 2h) -> what contributes to the input of each pixel, (H, W, B, sources 2h)."""
        return x

    def merged(self, hidden: Tensor, width: int) -> Tensor:
        """h of every direction, (D, H W, B, h) -> what goes on, (H W, B, h)."""
        return hidden[0]

    def forward(self, x: Tensor) -> Tensor:
        """See class."""
        height, width = x.shape[2:]
        fronts = Fronts.of(height, width, self.taps, self.front)
        # Pixels first and features last is the order of memory from here to the next block, which gets a view of it.
        skewed = skew(self.seen(x.permute(2, 3, 0, 1)).flatten(0, 1), fronts, len(self.input))
        pre = torch.baddbmm(self.bias[:, None], skewed.flatten(1, 2), self.input * self.mask)
        pre = pre.to(self.state.dtype).unflatten(1, (-1, x.shape[0]))
        hidden = self.merged(recur(pre, self.state, self.initial, fronts), width)
        up = F.linear(hidden, (self.up.weight * self.up.mask)[..., 0, 0], self.up.bias)
        return up.unflatten(0, (height, width)).permute(2, 3, 0, 1) + x

    def matrices(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights as they are now, without gradient, for features that come first: of the input (D, 4h, sources 2h),
        biases (D, 4h, 1), of the states (D, K, 4h, h), and the initial states (D, 2, h, 1)."""
        with torch.no_grad():
            return (
                (self.input * self.mask).transpose(1, 2).contiguous(),
                self.bias[..., None].clone(),
                self.state.transpose(2, 3).contiguous(),
                self.initial[..., None].clone(),
            )


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step: what everything contributes to (o, f, i, g), (4h, B), and c before it, (h, B) -> h and c after it."""
    o, f, i = gates[: 3 * len(cell)].sigmoid().chunk(3)
    cell = torch.addcmul(f * cell, i, gates[3 * len(cell) :].tanh())
    return o * cell.tanh(), cell


def pixel_rnn(
    spec: DataSpec, block: Callable[[int, int], RecurrentBlock], *, features: int, layers: int, kernel: int, head: int
) -> nn.Sequential:
    """Images -> what a softmax needs to know of every pixel: the net of table 1, (B, C, H, W) -> (B, C (K - 1), H, W).

    Args:
        spec: of the images.
        block: (h, C) -> a layer.
        features: h, a multiple of C.
        layers: of them.
        kernel: width of the first convolution, odd, at least 3.
        head: features of the layer before the last, a multiple of C.

    Raises:
        RecipeError: for numbers out of range.
    """
    colours, levels = spec.shape[0], spec.space.levels
    assert levels is not None, f"{spec.space} has no levels"
    divisible(colours, features=features, head=head)
    at_least(1, layers=layers)
    odd(kernel=kernel)
    return nn.Sequential(
        MaskedConv2d(colours, 2 * features, kernel, mask="A", colours=colours),
        *(block(features, colours) for _ in range(layers)),
        nn.ReLU(),
        MaskedConv2d(2 * features, head, 1, mask="B", colours=colours),
        nn.ReLU(),
        MaskedConv2d(head, colours * (levels - 1), 1, mask="B", colours=colours),
    )
