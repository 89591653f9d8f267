"""Causal convolutions: what a pixel computes depends on the pixels before it in raster order, and on nothing else.

The channels of an image are ordered too: red comes before green before blue. To keep that order inside the network,
the features of every layer are divided into as many equal, contiguous groups as the image has channels. Group c
may look at every group of the earlier pixels, and at its own pixel it may look at

    mask A   groups before c: for the first layer, whose input is the image, so that no value sees itself
    mask B   groups up to c: for all other layers, whose input already leaves the value itself out

(van den Oord et al. 2016, "Pixel Recurrent Neural Networks", section 3.4.)

Causality also means that nothing has to be computed twice when an image grows pixel by pixel: a new pixel changes no
feature of the pixels before it. :class:`PixelByPixel` runs a network that way: every layer computes the features of
one pixel only, from those of its neighbours that it remembers (Ramachandran et al. 2017, "Fast Generation for
Convolutional Autoregressive Models"). An image of H x W pixels then costs about as much arithmetic as one forward pass,
instead of H W of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[Tensor, int, int], Tensor]
"""A layer at one pixel: (input features (I, B), row i, column j) -> output features (O, B). Pixels come in raster
order; the last one may be given again with other features."""


@runtime_checkable
class Steppable(Protocol):
    """A layer that can run pixel by pixel."""

    def steps(self, batch: int, width: int) -> Step:
        """For ``batch`` images of ``width`` columns, with the weights as they are now."""
        ...


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

    def steps(self, batch: int, width: int) -> Step:
        """This layer pixel by pixel, for ``batch`` images of ``width`` columns, with the weights as they are now."""
        if self.kernel_size[1] > 1:
            return CachedConv(self, batch, width)
        weight, bias = _masked(self)
        matrix = weight[:, 0, 0]  # (O, I)
        return lambda x, i, j: torch.addmm(bias, matrix, x)


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

    def steps(self, batch: int, width: int) -> Step:
        """See :meth:`MaskedConv2d.steps`."""
        net = chain(self.net, batch, width)
        return lambda x, i, j: x + net(x, i, j)


class CachedConv:
    """A :class:`MaskedConv2d` wider than 1 x 1 pixel by pixel; a :data:`Step`.

    What the rows above contribute is worked out for a whole row at once, when the row begins. What is left for a pixel
    is one product with the pixels to its left and itself.

    Features come first and the batch last, so that neighbouring pixels lie behind each other in memory and such a
    patch is a view.
    """

    def __init__(self, conv: MaskedConv2d, batch: int, width: int) -> None:
        half = conv.kernel_size[1] // 2
        weight, self.bias = _masked(conv)
        self.weight_above = weight[:, :-1].flatten(1)  # (O, k // 2 * k * I)
        self.weight_left = weight[:, -1, : half + 1].flatten(1)  # (O, (k // 2 + 1) * I), the pixel itself included
        # The rows that matter, the current one last, zero beyond the edges of the image: (k // 2 + 1, W + k - 1, I, B).
        self.rows = weight.new_zeros(half + 1, width + 2 * half, conv.in_channels, batch)
        self.pixels = self.rows[-1, half : half + width].unbind()  # views of the current row: (I, B)
        self.patches = [self.rows[-1, j : j + half + 1].view(-1, batch) for j in range(width)]  # likewise
        self.above = (self.bias.expand(-1, batch),) * width  # bias and rows above, at each column: (O, B)
        self.row = 0

    def __call__(self, x: Tensor, i: int, j: int) -> Tensor:
        """See :data:`Step`."""
        self.write(x, i, j)
        return self.read(i, j)

    def write(self, x: Tensor, i: int, j: int) -> None:
        """Remember the features of pixel (i, j), (I, B), for itself and the pixels after it."""
        self._begin(i)
        self.pixels[j].copy_(x)

    def read(self, i: int, j: int) -> Tensor:
        """The output at pixel (i, j), (O, B), from what has been written."""
        self._begin(i)
        return torch.addmm(self.above[j], self.weight_left, self.patches[j])

    def _begin(self, row: int) -> None:
        """If ``row`` is a new one: move all rows up and work out what they contribute to it."""
        if row == self.row:
            return
        self.row = row
        self.rows[:-1] = self.rows[1:].clone()
        windows = self.rows[:-1].unfold(1, 2 * len(self.rows) - 1, 1)  # (k // 2, W, I, B, k)
        windows = windows.permute(1, 0, 4, 2, 3).flatten(1, 3)  # (W, k // 2 * k * I, B)
        self.above = (self.bias + self.weight_above @ windows).unbind()


def _masked(conv: MaskedConv2d) -> tuple[Tensor, Tensor]:
    """Weights with the features last, (O, k // 2 + 1, k, I), and biases (O, 1), both without gradient."""
    assert conv.bias is not None
    return (conv.weight * conv.mask).detach().permute(0, 2, 3, 1), conv.bias.detach()[:, None]


def chain(layers: Iterable[nn.Module], batch: int, width: int) -> Step:
    """Layers one after the other, pixel by pixel. Raises :class:`TypeError` for a layer that has no such form."""
    steps = [_step(layer, batch, width) for layer in layers]

    def step(x: Tensor, i: int, j: int) -> Tensor:
        for layer in steps:
            x = layer(x, i, j)
        return x

    return step


def _step(layer: nn.Module, batch: int, width: int) -> Step:
    match layer:
        case Steppable():
            return layer.steps(batch, width)
        case nn.ReLU():
            return lambda x, i, j: x.relu()
    raise TypeError(f"{type(layer).__name__} has no form that runs pixel by pixel")


class PixelByPixel:
    """A network whose first layer is a :class:`MaskedConv2d`, run pixel by pixel.

    Pixels come in raster order. Each one is read, and in the end written, before the next; both may be repeated,
    channel by channel. No gradient flows into the weights.

    Args:
        net: the network, its weights as they are now.
        batch: images, B.
        width: columns of an image.
    """

    def __init__(self, net: nn.Sequential, batch: int, width: int) -> None:
        first, *rest = net
        if not isinstance(first, MaskedConv2d):
            raise TypeError(f"the first layer must be a MaskedConv2d, found {type(first).__name__}")
        self.first = CachedConv(first, batch, width)
        self.rest = chain(rest, batch, width)

    def read(self, i: int, j: int) -> Tensor:
        """What ``net`` computes at pixel (i, j) of the images written so far, (B, O)."""
        return self.rest(self.first.read(i, j), i, j).T

    def write(self, i: int, j: int, values: Tensor) -> None:
        """Set the values of pixel (i, j), (B, C)."""
        self.first.write(values.T, i, j)
