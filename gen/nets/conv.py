"""Strided convolutions: the generator and the discriminator of Radford et al. [1], and an encoder and its decoder.

The generator projects a code to a quarter of the image's height and width and doubles both twice by transposed
convolutions; the discriminator is its mirror image. There is no pooling and no hidden dense layer. Kernels are 4 x 4
with stride 2: every output pixel is reached by the same number of taps (an odd kernel draws a checkerboard), and a
doubling costs 4 multiplications per output pixel and pair of channels, where upsampling and a 3 x 3 convolution cost 9.

[1] A. Radford, L. Metz, S. Chintala. Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks. 2016.
[2] K. He, X. Zhang, S. Ren, J. Sun. Delving Deep into Rectifiers. 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from gen.errors import RecipeError

Norm = Callable[[int], nn.Module]
"""Number of channels -> a layer that normalises (B, channels, H, W)."""


def conv_generator(latents: int, shape: tuple[int, int, int], *, width: int) -> nn.Sequential:
    """Codes (B, latents) -> images in [-1, 1], (B, C, H, W).

    Via (B, 4 width, H/4, W/4) and (B, 2 width, H/2, W/2); batch norm and ReLU follow each linear map but the last.

    Args:
        latents: length of the code.
        shape: (C, H, W) of an image.
        width: channels per unit, as above.

    Raises:
        RecipeError: H or W is not a multiple of 4.
    """
    channels, rows, columns = _quarter(shape)
    net = nn.Sequential(
        nn.Linear(latents, 4 * width * rows * columns, bias=False),
        nn.Unflatten(1, (4 * width, rows, columns)),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(2 * width, channels, kernel_size=4, stride=2, padding=1),
        nn.Tanh(),
    )
    return _initialize(net, _radford)


def conv_discriminator(shape: tuple[int, int, int], *, width: int, norm: Norm | None) -> nn.Sequential:
    """Images (B, C, H, W) -> logits (B,).

    Via (B, 2 width, H/2, W/2) and (B, 4 width, H/4, W/4). The last layer has no bias: with as many fakes as images the
    odds are even beforehand, and a Wasserstein critic's score has no zero at all.

    Args:
        shape: (C, H, W) of an image.
        width: channels per unit, as above.
        norm: what to put between the second convolution and its LeakyReLU (the input layer has none, as in [1]);
            ``None`` for nothing.

    Raises:
        RecipeError: H or W is not a multiple of 4.
    """
    channels, rows, columns = _quarter(shape)
    net = nn.Sequential(
        nn.Conv2d(channels, 2 * width, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, 4 * width, kernel_size=4, stride=2, padding=1, bias=norm is None),
        *([norm(4 * width)] if norm else []),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Flatten(),
        nn.Linear(4 * width * rows * columns, 1, bias=False),
        nn.Flatten(start_dim=0),
    )
    return _initialize(net, _he if norm is None else _radford)


def strided_encoder(
    shape: tuple[int, int, int],
    outputs: int,
    *,
    channels: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Images (B, C, H, W) -> (B, outputs): convolutions that halve height and width, then one linear map.

    Args:
        shape: (C, H, W) of an image.
        outputs: numbers to put out.
        channels: after each halving.
        activation: builds one activation; called once per convolution.

    Raises:
        RecipeError: H or W cannot be halved so often.
    """
    rows, columns = _halved(shape, len(channels))
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise([shape[0], *channels]):
        layers += [nn.Conv2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1), activation()]
    last = [shape[0], *channels][-1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last * rows * columns, outputs))


def strided_decoder(
    latents: int,
    outputs: int,
    shape: tuple[int, int, int],
    *,
    channels: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Codes (B, latents) -> (B, outputs, C, H, W): the mirror of :func:`strided_encoder`.

    A last bias for every pixel, where a convolution has one for every channel, says what images look like on average.

    Args:
        latents: numbers in a code.
        outputs: numbers for every value of the image.
        shape: (C, H, W) of an image.
        channels: of the encoder.
        activation: builds one activation; called once per halving.

    Raises:
        RecipeError: H or W cannot be halved so often.
    """
    rows, columns = _halved(shape, len(channels))
    widths = [*reversed(channels), outputs * shape[0]]
    layers: list[nn.Module] = [
        nn.Linear(latents, widths[0] * rows * columns),
        nn.Unflatten(1, (widths[0], rows, columns)),
    ]
    for i, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        bias = i < len(channels)
        layers += [activation(), nn.ConvTranspose2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1, bias=bias)]
    return nn.Sequential(*layers, nn.Unflatten(1, (outputs, shape[0])), PixelBias((outputs, *shape)))


class PixelBias(nn.Module):
    """Adds a number of its own to every value: (B, ...) -> same shape.

    Args:
        shape: without B.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(*shape))

    def forward(self, x: Tensor) -> Tensor:
        """See class."""
        return x + self.bias


def _halved(shape: tuple[int, int, int], times: int) -> tuple[int, int]:
    """Height and width after so many halvings."""
    _, height, width = shape
    if height % 2**times or width % 2**times:
        raise RecipeError(
            f"data: images are {height} x {width}; {times} convolutions halve height and width {times} times, so both "
            f"must be multiples of {2**times}. Give fewer channels in hyper.hidden, or pad or resize the images."
        )
    return height // 2**times, width // 2**times


def _quarter(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, H, W) -> (C, H/4, W/4)."""
    channels, height, width = shape
    if height % 4 or width % 4:
        raise RecipeError(
            f"data: images are {height} x {width}; these networks halve height and width twice, so both must be "
            "multiples of 4. Pad or resize the images."
        )
    return channels, height // 4, width // 4


_radford = partial(nn.init.normal_, std=0.02)  # [1], section 4: the normalisation that follows sets the scale
_he = partial(nn.init.kaiming_normal_, a=0.2)  # [2]: keeps the variance through LeakyReLU where nothing normalises


def _initialize(net: nn.Sequential, draw: Callable[[Tensor], Tensor]) -> nn.Sequential:
    """Draw the weights of the linear maps and set their biases to 0."""
    for layer in net:
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net
