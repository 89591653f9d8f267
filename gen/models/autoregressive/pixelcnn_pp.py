"""PixelCNN++: whole pixels, a mixture of logistics, and an hourglass of two causal streams.

A softmax over 256 levels has to learn that 128 and 129 are neighbours; a mixture of a few logistic densities, rounded
to the levels, knows [1]. It also keeps the order of a pixel's channels: given the component, the means of green and
blue are linear in the channels before them, so the network treats pixels as wholes and no layer tells colours apart.
The masks are gone as well. Two streams of shifted convolutions see all pixels before one between them, without a blind
spot; going down to half and a quarter of the size and up again they see far at little cost, and short-cuts between the
layers of both ways keep the detail. Dropout keeps so large a network from learning the training images by heart.

    log p(x) = sum_i log p(x_i | pixels before i),       p(x_i | .) = sum_k pi_k prod_c P_kc(x_ic)
    P_kc(v) = sigmoid((v + 1/2 - mu_kc) / s_kc) - sigmoid((v - 1/2 - mu_kc) / s_kc),    v, mu, s counted in levels

with the end levels' bins open: the first begins at minus infinity, the last ends at infinity. Bits have one probability
each, and a sigmoid in place of the mixture.

Net: gated resnets of concatenated ELUs (:mod:`gen.nets.shifted`), with weight normalisation, initialised by the first
images. A coarser pixel grows into 2x2 finer ones, which needs no overlap; [1] lets the stream from above use 2x3.
Images of any size: what an odd side has too much on the way up is cut off below and to the right.
Algorithm: gradient descent on -log p(x), Adam; an average of the weights is kept by the loop if the recipe says so.
Sampling computes every row of the stream above and every pixel of the other once at each scale [2].

In [1], for CIFAR-10: 160 features, 5 resnets at each of 3 scales, 10 components, dropout 0.5, a learning rate of 0.001
that decays by 0.999995 a step.

Metrics: bits_per_dim.

[1] T. Salimans, A. Karpathy, X. Chen, D. P. Kingma. PixelCNN++: Improving the PixelCNN with Discretized Logistic
    Mixture Likelihood and Other Modifications. 2017.
[2] P. Ramachandran et al. Fast Generation for Convolutional Autoregressive Models. 2017.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.losses.heads import head_for
from gen.model import Adam, Optim
from gen.nets.shifted import TwoStreams
from gen.nets.shifted_steps import StreamsByPixel
from gen.pixel_model import PixelModel
from gen.registry import register


@register("pixelcnn_pp")
class PixelCNNpp(PixelModel):
    """See module.

    Args:
        features: of every layer, of either stream.
        resnets: at each scale on the way down; on the way up as many at the coarsest, and one more at the others.
        scales: the image's own, half of it, a quarter, ...
        components: of the mixture; bits do without.
        dropout: share of the features dropped in every resnet while training.
    """

    spaces: ClassVar[tuple[str, ...]] = ("levels", "binary_dynamic", "binary_fixed")

    def __init__(
        self,
        spec: DataSpec,
        *,
        features: int = 24,
        resnets: int = 1,
        scales: int = 3,
        components: int = 5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(spec)
        at_least(1, features=features, resnets=resnets, scales=scales)
        if not 0 <= dropout < 1:
            raise RecipeError(f"hyper.dropout: found {dropout}, allowed from 0 to below 1. Use 0.1.")
        channels, *sides = spec.shape
        if 2 ** (scales - 1) > min(sides):
            raise RecipeError(
                f"hyper.scales: found {scales}, but images of {sides[0]}x{sides[1]} are a single row or column after "
                f"{min(sides).bit_length() - 1} halvings. Use {min(3, min(sides).bit_length())}."
            )
        bits = channels == 1 and spec.space.levels == 2
        self.head = head_for(spec, "softmax" if bits else "logistic_mixture", components)
        self.net = TwoStreams(
            channels, self.head.outputs, features=features, resnets=resnets, scales=scales, dropout=dropout
        )

    def optimizers(self) -> dict[str, Optim]:
        """See base. Faster and shorter than in [1], whose rate hardly decays."""
        return {"model": Adam(lr=3e-3, clip=1.0, warmup=500, decay="cosine")}

    def initialize(self, x: Tensor) -> None:
        """See base: the features of every layer start with mean 0 and a given deviation."""
        self.net.initialize(_signed(x))

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base."""
        outputs: Tensor = self.net(_signed(x))
        return outputs

    def incremental(self, count: int, condition: Tensor | None = None) -> StreamsByPixel:
        """See base."""
        blank = next(self.parameters()).new_zeros(count, *self.spec.shape)
        return StreamsByPixel(self.net, blank, _signed)


def _signed(x: Tensor) -> Tensor:
    """Values in [0, 1] -> [-1, 1]."""
    return 2 * x - 1
