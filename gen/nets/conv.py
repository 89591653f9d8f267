"""Strided convolutions: the generator and the discriminator of Radford et al. [1], two halvings deep.

The generator projects a code to a quarter of the image's height and width and doubles both twice by transposed
convolutions; the discriminator is its mirror image. There is no pooling and no hidden dense layer. Kernels are 4 x 4
with stride 2: every output pixel is reached by the same number of taps (an odd kernel draws a checkerboard), and a
doubling costs 4 multiplications per output pixel and pair of channels, where upsampling and a 3 x 3 convolution cost 9.

[1] A. Radford, L. Metz, S. Chintala. Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks. 2016.
[2] K. He, X. Zhang, S. Ren, J. Sun. Delving Deep into Rectifiers. 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
