"""Blocks of networks for videos: residual multiplicative blocks, and an LSTM whose states are images.

A multiplicative unit is an LSTM cell without a past: gates decide what it keeps of its input and what it adds, which
gives a stack of convolutions the selectivity of a recurrent net at a fixed depth [1]. Features h, all by 3x3:

    g_1, g_2, g_3 = sigmoid(W_1 * h), sigmoid(W_2 * h), sigmoid(W_3 * h),     u = tanh(W_4 * h)
    MU(h) = g_1 tanh(g_2 h + g_3 u)

A residual multiplicative block is an identity around 1x1, two units and 1x1, with half as many features inside. Which
convolutions it is made of is passed in: dilated ones where a whole frame is known, masked ones where it is predicted.

[1] N. Kalchbrenner, A. van den Oord, K. Simonyan, I. Danihelka, O. Vinyals, A. Graves, K. Kavukcuoglu. Video Pixel
    Networks. 2017. Section 4.1.
[2] X. Shi, Z. Chen, H. Wang, D.-Y. Yeung, W. Wong, W. Woo. Convolutional LSTM Network: A Machine Learning Approach for
    Precipitation Nowcasting. 2015. Equation 3, without the peepholes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Convolution = Callable[[int, int, int], nn.Module]
"""Features in, features out, width of the kernel -> a layer that keeps height and width."""


def dilated(dilation: int) -> Convolution:
    """Convolutions whose taps are so many pixels apart."""
    return lambda i, o, kernel: nn.Conv2d(i, o, kernel, padding=dilation * (kernel // 2), dilation=dilation)


class MultiplicativeUnit(nn.Module):
    """See module: (B, h, H, W) -> same.

    Args:
        features: h, a multiple of ``colours``.
        convolution: makes the four convolutions, in one.
        colours: groups of features, see :mod:`gen.nets.masked`.
    """

    def __init__(self, features: int, convolution: Convolution, *, colours: int = 1) -> None:
        super().__init__()
        self.convolution, self.colours = convolution(features, 4 * features, 3), colours

    def forward(self, x: Tensor) -> Tensor:
        """See class."""
        mixed = self.convolution(x).unflatten(1, (self.colours, 4, -1))  # every colour's four parts lie together
        g_1, g_2, g_3, u = mixed.transpose(1, 2).flatten(2, 3).unbind(1)
        return g_1.sigmoid() * torch.tanh(g_2.sigmoid() * x + g_3.sigmoid() * u.tanh())


class MultiplicativeBlock(nn.Module):
    """2h -> h -> h -> h -> 2h features around an identity: (B, 2h, H, W) -> same.

    Args:
        features: h, a multiple of ``colours``.
        convolution: makes all convolutions.
        colours: groups of features, see :mod:`gen.nets.masked`.
    """

    def __init__(self, features: int, convolution: Convolution, *, colours: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(
            convolution(2 * features, features, 1),
            MultiplicativeUnit(features, convolution, colours=colours),
            MultiplicativeUnit(features, convolution, colours=colours),
            convolution(features, 2 * features, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """See class."""
        out: Tensor = x + self.net(x)
        return out


State = tuple[Tensor, Tensor]
"""Of a :class:`ConvLSTM`: what it says and what it keeps, (B, F, H, W) each."""


class ConvLSTM(nn.Module):
    """An LSTM over time in which every product with a matrix is a 3x3 convolution.

    What the inputs contribute is computed for all times at once; the recurrence is over time only.

    Args:
        inputs: I, features of an input.
        features: F, of a state.
    """

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.features = features
        self.from_input = nn.Conv2d(inputs, 4 * features, 3, padding=1)
        self.from_state = nn.Conv2d(features, 4 * features, 3, padding=1, bias=False)
        assert self.from_input.bias is not None
        with torch.no_grad():
            self.from_input.bias[features : 2 * features] = 1.0  # begin by keeping

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Go on from a state, or from zeros.

        Args:
            x: (B, T, I, H, W), T of at least 1.
            state: after what came before.

        Returns:
            What is said after every input, (B, T, F, H, W), and the last state.
        """
        gates = self.from_input(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if state is None:
            state = (gates.new_zeros(len(x), self.features, *x.shape[3:]),) * 2
        said, kept = state
        outputs = []
        for gate in gates.unbind(1):
            i, f, o, new = (gate + self.from_state(said)).chunk(4, 1)
            kept = f.sigmoid() * kept + i.sigmoid() * new.tanh()
            said = o.sigmoid() * kept.tanh()
            outputs.append(said)
        return torch.stack(outputs, 1), (said, kept)
