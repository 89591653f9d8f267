"""Row LSTM: a PixelRNN whose memory runs down the rows of the image.

A convolution sees as far as its kernels reach; a recurrent state may carry what it has seen over any distance. The Row
LSTM keeps a state for every column and passes over the image row by row: all pixels of a row at once, each from the
states of its three neighbours in the row above, through an LSTM's gates. So the field has no bottom: it is a triangle
that widens by one column with each row upwards, and what lies outside it, above and far to the sides, is never seen.
What the input contributes to the gates is computed for the whole image before the recurrence begins, so that an image
of H x W pixels takes H steps in a row and not H W.

    (o, f, i, g) = K_is * x_row + K_ss * h_above,    c = f c_above + i g,    h = o tanh(c)
    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1}),     p(x_i | .) = softmax over K levels, R before G before B

Net: 7x7 mask A, then layers of 2h -> LSTM(h) -> 1x1 -> 2h around an identity, then two 1x1 layers (table 1 of [1]).
K_is is 3x1 with mask B, K_ss 3x1 without a mask; the state above the first row is learned. The paper's nets have 7
layers of h = 16 on MNIST, 12 of 128 on CIFAR-10.
Algorithm: gradient descent on -log p(x); ancestral sampling that remembers the states of the row above.

Metrics: bits_per_dim.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Section 3.1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gen.data.spaces import DataSpec
from gen.losses.heads import Softmax
from gen.model import Adam, Optim
from gen.nets.masked import PixelByPixel
from gen.nets.recurrent import pixel_rnn
from gen.nets.rows import RowLSTM
from gen.pixel_model import PixelModel
from gen.registry import register


@register("row_lstm")
class RowLSTMModel(PixelModel):
    """See module.

    Args:
        features: h of the LSTMs, 2h outside them; a multiple of the image's channels.
        layers: LSTMs.
        kernel: width of the first convolution, odd.
        head: features of the layer before the softmax; a multiple of the image's channels.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")

    def __init__(self, spec: DataSpec, *, features: int = 16, layers: int = 7, kernel: int = 7, head: int = 32) -> None:
        super().__init__(spec)
        self.head = Softmax.of(spec)
        self.net = pixel_rnn(spec, RowLSTM, features=features, layers=layers, kernel=kernel, head=head)

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
