"""Diagonal BiLSTM: a PixelRNN that is informed of the pixels drawn so far, near and far.

The field of masked convolutions is bounded, that of a Row LSTM a triangle. Here a state reaches each pixel from its
left and its upper neighbour, so that it has heard of everything above and to the left; a second LSTM comes from the
upper right, and the two together have heard of all the past, in every layer. (But for one value: a layer's inputs leave
out the value of their own pixel, so the last one of the row above is known only where the first convolution reaches
it.) Pixels of the same diagonal do not wait for each other: skewed by one column per row, the image takes H + W - 1
steps and not H W. Of a pixel in its own row, the second LSTM knows what comes after it; its map is moved down by one
row before the two are added, or the model would read the values it is to predict and report a likelihood that is too
good to be true. With one direction it is the Diagonal LSTM.

    (o, f, i, g) = K_is x + K_ss (h_left, h_above),    c = f c_left + i g,    h = o tanh(c)
    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1}),     p(x_i | .) = softmax over K levels, R before G before B

Net: 7x7 mask A, then layers of 2h -> LSTM(h) -> 1x1 -> 2h around an identity, then two 1x1 layers (table 1 of [1]).
K_is is 1x1 with mask B, K_ss 2x1 along the diagonal; the state outside the image is learned. The paper's nets have 7
layers of h = 16 on MNIST, 12 of 128 on CIFAR-10.
Algorithm: gradient descent on -log p(x); ancestral sampling that remembers states, the first LSTM going along with the
pixels and the second one over each row once it is complete.

Metrics: bits_per_dim.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Section 3.2.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.losses.heads import Softmax
from gen.model import Adam, Optim
from gen.nets.diagonals import DiagonalLSTM
from gen.nets.masked import PixelByPixel
from gen.nets.recurrent import pixel_rnn
from gen.pixel_model import PixelModel
from gen.registry import register


@register("diagonal_bilstm")
class DiagonalBiLSTM(PixelModel):
    """See module.

    Args:
        features: h of the LSTMs, 2h outside them; a multiple of the image's channels.
        layers: of LSTMs.
        directions: 2, or 1 for the Diagonal LSTM.
        kernel: width of the first convolution, odd.
        head: features of the layer before the softmax; a multiple of the image's channels.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(
        self,
        spec: DataSpec,
        *,
        features: int = 16,
        layers: int = 7,
        directions: Literal[1, 2] = 2,
        kernel: int = 7,
        head: int = 32,
    ) -> None:
        super().__init__(spec)
        if directions not in (1, 2):
            raise RecipeError(f"hyper.directions: found {directions}, allowed 1 and 2. Use 2.")
        self.head = Softmax.of(spec)
        self.net = pixel_rnn(
            spec,
            lambda h, colours: DiagonalLSTM(h, colours, directions),
            features=features,
            layers=layers,
            kernel=kernel,
            head=head,
        )

    def optimizers(self) -> dict[str, Optim]:
        """See base. The paper's RMSprop gives way to Adam, as in all later pixel models."""
        return {"model": Adam(lr=2e-3, clip=1.0, warmup=500, decay="cosine")}

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base."""
        outputs: Tensor = self.net(x)
        return outputs

    def incremental(self, count: int, condition: Tensor | None = None) -> PixelByPixel:
        """See base."""
        return PixelByPixel(self.net, count, self.spec.shape[2])
