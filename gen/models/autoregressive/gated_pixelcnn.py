"""Gated PixelCNN: two stacks of convolutions without a blind spot, and gates in the place of ReLUs.

Stacked masks leave out a part of what lies to the upper right of a pixel. Two stacks see all of it: a vertical one
reads the rows above, a horizontal one reads the row so far and listens to the vertical one at every layer, never the
other way round, so that all conditionals still come from one parallel pass. One reason why a PixelRNN beats a PixelCNN
is that its units multiply; so each layer here has a tanh and a sigmoid, as an LSTM has [1].

    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1}),    p(x_i | .) = softmax over K levels, R before G before B
    gate = tanh(W_f * x) sigmoid(W_g * x)                                                           (eq. 2 of [1])

Net: a layer of 7x7, then layers of 3x3, residual in the horizontal stack; the outputs are computed from what all layers
have found there, by skip connections, a ReLU and a 1x1 layer.
Algorithm: gradient descent on -log p(x); ancestral sampling, the vertical stack once for every row and the horizontal
one once for every pixel.

Metrics: bits_per_dim.

[1] A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu. Conditional Image Generation
    with PixelCNN Decoders. 2016.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gen.data.spaces import DataSpec
from gen.losses.heads import Softmax
from gen.model import Adam, Optim
from gen.nets.gated import GatedNet
from gen.nets.gated_steps import GatedByPixel
from gen.pixel_model import PixelModel
from gen.registry import register


@register("gated_pixelcnn")
class GatedPixelCNN(PixelModel):
    """See module.

    Args:
        features: p, of either stack; a multiple of the image's channels.
        layers: of both stacks, at least 1; each after the first widens the field by one pixel.
        kernel: width of the first layer, odd, at least 3.
        head: features before the softmax's layer; a multiple of the image's channels.
    """

    head: Softmax
    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(self, spec: DataSpec, *, features: int = 12, layers: int = 8, kernel: int = 7, head: int = 24) -> None:
        super().__init__(spec)
        self.head = Softmax.of(spec)
        self.net = GatedNet(
            spec.shape[0], self.head.outputs, features=features, layers=layers, kernel=kernel, head=head
        )

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=8e-3, clip=1.0, warmup=500, decay="cosine")}

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base."""
        outputs: Tensor = self.net(x)
        return outputs

    def incremental(self, count: int, condition: Tensor | None = None) -> GatedByPixel:
        """See base."""
        return GatedByPixel(self.net, count, self.spec.shape[2])
