"""PixelCNN: the chain rule over pixels, all conditionals by one stack of masked convolutions.

An image is a sequence of pixels in raster order, and any distribution over images is a product of conditionals. A
convolution whose kernel is masked to what lies above and to the left computes all of them in one parallel pass, which
makes the likelihood exact and training as cheap as that of a classifier [1]. A pixel is a choice among K levels, never
a real number: the softmax can be multimodal and puts no mass outside the range. The price is paid in sampling, pixel
by pixel, and in the field: it is bounded, and stacked masks leave a blind spot to the upper right of every pixel.

    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1}),     p(x_i | .) = softmax over K levels, R before G before B

Net: 7x7 mask A, then residual blocks of 3x3 mask B, then two 1x1 layers (table 1 of [1]). The softmax can be exchanged
for the mixture of logistics of [2], which keeps the order of a pixel's channels by itself: the net then sees none of
them.
Algorithm: gradient descent on -log p(x); ancestral sampling, each layer computing each pixel once.

Metrics: bits_per_dim.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016.
[2] T. Salimans, A. Karpathy, X. Chen, D. P. Kingma. PixelCNN++: Improving the PixelCNN with Discretized Logistic
    Mixture Likelihood and Other Modifications. 2017.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from gen.checks import at_least, divisible, odd
from gen.data.spaces import DataSpec
from gen.losses.heads import Likelihoods, Softmax, head_for
from gen.model import Adam, Optim
from gen.nets.masked import MaskedConv2d, PixelByPixel, ResidualBlock
from gen.pixel_model import PixelModel
from gen.registry import register


@register("pixelcnn")
class PixelCNN(PixelModel):
    """See module.

    Args:
        features: h of the residual blocks, 2h outside them; a multiple of the image's channels.
        blocks: residual blocks; each widens the field by one pixel.
        kernel: width of the first convolution, odd.
        head: features of the layer before the outputs; a multiple of the image's channels.
        likelihood: ``softmax``, or ``logistic_mixture`` for more than two levels.
        components: of the mixture.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        features: int = 16,
        blocks: int = 7,
        kernel: int = 7,
        head: int = 32,
        likelihood: Likelihoods = "softmax",
        components: int = 5,
    ) -> None:
        super().__init__(spec)
        colours = spec.shape[0]
        divisible(colours, features=features, head=head)
        at_least(0, blocks=blocks)
        odd(kernel=kernel)
        self.head = head_for(spec, likelihood, components)
        if not self.head.ordered_by_net:
            colours = 1
        self.net = nn.Sequential(
            MaskedConv2d(spec.shape[0], 2 * features, kernel, mask="A", colours=colours),
            *(ResidualBlock(features, colours=colours) for _ in range(blocks)),
            nn.ReLU(),
            MaskedConv2d(2 * features, head, 1, mask="B", colours=colours),
            nn.ReLU(),
            MaskedConv2d(head, self.head.outputs, 1, mask="B", colours=colours),
        )

    def optimizers(self) -> dict[str, Optim]:
        """See base. The paper's RMSprop gives way to Adam, as in all later pixel models."""
        return {"model": Adam(lr=2e-3, clip=1.0, warmup=500, decay="cosine")}

    def logits(self, x: Tensor) -> Tensor:
        """Images in [0, 1], (B, C, H, W) -> logits of the K levels, (B, K, C, H, W), of a softmax."""
        assert isinstance(self.head, Softmax)
        return self.head.logits(self.outputs(x))

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base."""
        outputs: Tensor = self.net(x)
        return outputs

    def incremental(self, count: int, condition: Tensor | None = None) -> PixelByPixel:
        """See base."""
        return PixelByPixel(self.net, count, self.spec.shape[2])
