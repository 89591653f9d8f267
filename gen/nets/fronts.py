"""Recurrences over images, front by front: a front's pixels at once, each from its neighbours in the front before.

    (o, f, i, g) = pre(p) + sum_k U_k h(p + k),    o, f, i through a sigmoid, g through tanh
    c(p) = f * c(p + k_1) + i * g,                 h(p) = o * tanh(c(p))

What the input contributes, ``pre``, is known for the whole image before the recurrence begins; only the products with
the states, U_k h, are left to it (van den Oord et al. 2016, "Pixel Recurrent Neural Networks", equation 3). The taps k
say where the neighbours of a pixel are, and a front is a set of pixels that do not wait for each other:

    Row LSTM         taps above, above left, above right    H fronts, the rows
    Diagonal LSTM    taps left, above                       H + W - 1 fronts, the anti-diagonals

An image is skewed by storing its pixels front after front. Then a front is one slice, and so is each of its taps in the
front before; there are no empty corners to compute. Places outside the image hold the initial state, which is learned.

A front is small, so what counts is how many operations it takes. The gradient of the recurrence is therefore written
out: all that does not wait for a later front is computed for the whole image at once, as are the gradients of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Pixel = tuple[int, int]
"""Row and column; of a tap, how far away it is."""


@dataclass(frozen=True, eq=False)
class Fronts:
    """An image stored front after front; N = H W.

    Attributes:
        width: W.
        pixels: all (i, j), front after front.
        places: the same, together with what the taps reach outside the image.
        taps: of every pixel; the first one's cell is carried on.
        sizes: pixels of each front.
    """

    width: int
    pixels: tuple[Pixel, ...]
    places: tuple[Pixel, ...]
    taps: tuple[Pixel, ...]
    sizes: tuple[int, ...]

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, height: int, width: int, taps: tuple[Pixel, ...], front: Callable[[Pixel], int]) -> Fronts:
        """The fronts of a recurrence; the taps of a pixel lie in the front before its own."""

        def stored(places: set[Pixel]) -> tuple[Pixel, ...]:
            return tuple(sorted(places, key=lambda p: (front(p), p)))

        pixels = stored(set(product(range(height), range(width))))
        places = stored({(i + a, j + b) for i, j in pixels for a, b in ((0, 0), *taps)})
        order = [front(p) for p in pixels]
        return cls(width, pixels, places, taps, tuple(order.count(t) for t in sorted(set(order))))

    def at(self, tap: Pixel) -> list[int]:
        """Index into ``places`` of what this tap of every pixel is, (N,)."""
        index = {place: n for n, place in enumerate(self.places)}
        return [index[i + tap[0], j + tap[1]] for i, j in self.pixels]

    def raster(self, mirrored: bool) -> list[int]:
        """i W + j of every pixel, (N,); with j counted from the right if ``mirrored``."""
        return [i * self.width + (self.width - 1 - j if mirrored else j) for i, j in self.pixels]

    def starts(self) -> list[list[int]]:
        """For each front: index into ``places`` of its first pixel and of that pixel's taps. Those of the front's other
        pixels follow them."""
        columns = [self.at(tap) for tap in ((0, 0), *self.taps)]
        return [[column[sum(self.sizes[:t])] for column in columns] for t in range(len(self.sizes))]


@dataclass(frozen=True)
class _Layout:
    """Where things lie when D directions run beside each other, the second on the mirrored image. All int64.

    Attributes:
        order: raster index of every pixel of the fronts, (D, N).
        inverse: place in ``order`` of every pixel of the raster, (D, N).
        own: index into D x places of every pixel of the raster, (D N,).
        taps: index into places of every pixel of the fronts and of its taps, (1 + K, N).
        starts: see :meth:`Fronts.starts`.
    """

    order: Tensor
    inverse: Tensor
    own: Tensor
    taps: Tensor
    starts: list[list[int]]


@lru_cache(maxsize=16)
def _layout(fronts: Fronts, directions: int, device: torch.device) -> _Layout:
    order = torch.tensor([fronts.raster(mirrored=bool(d)) for d in range(directions)])
    inverse = order.argsort(1)
    taps = torch.tensor([fronts.at(tap) for tap in ((0, 0), *fronts.taps)])
    own = taps[0][inverse] + torch.arange(directions)[:, None] * len(fronts.places)
    return _Layout(order.to(device), inverse.to(device), own.flatten().to(device), taps.to(device), fronts.starts())


def skew(x: Tensor, fronts: Fronts, directions: int) -> Tensor:
    """Pixels in raster order, (N, B, I) -> in the order of the fronts, for each direction: (D, N, B, I)."""
    skewed: Tensor = _Skew.apply(x, _layout(fronts, directions, x.device))
    return skewed


def recur(pre: Tensor, weight: Tensor, initial: Tensor, fronts: Fronts) -> Tensor:
    """The recurrence of the module, in D directions beside each other.

    Args:
        pre: what the input contributes to (o, f, i, g), in the order of the fronts, (D, N, B, 4h).
        weight: U of each tap, (D, K, h, 4h).
        initial: h and c outside the image, (D, 2, h).
        fronts: N pixels, K taps.

    Returns:
        h in raster order, the mirrored direction's turned back, (D, N, B, h).
    """
    hidden: Tensor = _Recurrence.apply(pre, weight, initial, fronts)
    return hidden


class _Skew(torch.autograd.Function):
    """See :func:`skew`. A permutation's gradient is the inverse permutation; torch would add it up row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: _Layout) -> Tensor:
        ctx.layout = layout
        return x.index_select(0, layout.order.flatten()).unflatten(0, layout.order.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return sum(g.index_select(0, inverse) for g, inverse in zip(grad, ctx.layout.inverse, strict=True)), None


class _Recurrence(torch.autograd.Function):
    """See :func:`recur`. Everything is laid out (D, places, B, h): a front is a slice of the middle two as one."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, weight: Tensor, initial: Tensor, fronts: Fronts) -> Tensor:
        directions, _, batch, width = pre.shape
        features, layout = width // 4, _layout(fronts, directions, pre.device)
        sizes = [n * batch for n in fronts.sizes]
        gates = torch.empty_like(pre).flatten(1, 2)
        hidden, cell = (initial[:, s, None].repeat(1, len(fronts.places) * batch, 1) for s in range(2))
        carry, *others = weight.unbind(1)
        for p, g, (own, first, *rest) in zip(
            pre.flatten(1, 2).split(sizes, 1), gates.split(sizes, 1), layout.starts, strict=True
        ):
            count = g.shape[1]
            torch.baddbmm(p, hidden.narrow(1, first * batch, count), carry, out=g)
            for u, start in zip(others, rest, strict=True):
                g.baddbmm_(hidden.narrow(1, start * batch, count), u)
            g[..., : 3 * features].sigmoid_()
            g[..., 3 * features :].tanh_()
            o, f, i, new = g.split(features, 2)
            c = cell.narrow(1, own * batch, count)
            torch.mul(f, cell.narrow(1, first * batch, count), out=c).addcmul_(i, new)
            torch.tanh(c, out=hidden.narrow(1, own * batch, count)).mul_(o)
        ctx.fronts = fronts
        ctx.save_for_backward(gates, hidden, cell, weight)
        return hidden.view(-1, batch, features).index_select(0, layout.own).unflatten(0, (directions, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gates, hidden, cell, weight = ctx.saved_tensors
        directions, kernel, features, _ = weight.shape
        batch, layout = grad.shape[2], _layout(ctx.fronts, directions, grad.device)
        sizes = [n * batch for n in ctx.fronts.sizes]

        def of(state: Tensor, tap: int) -> Tensor:  # of every pixel, in the order of the fronts, (D, N B, h)
            return state.unflatten(1, (-1, batch)).index_select(1, layout.taps[tap]).flatten(1, 2)

        # For the whole image: what d(h) has to be multiplied by to give d(o) and its share of d(c), and d(c) to give
        # d(f), d(i), d(g), all before the non-linearity. s' = s (1 - s) and tanh' = 1 - tanh^2.
        o, f, i, new = gates.split(features, 2)
        tanh = of(cell, 0).tanh_()
        share = (1 - tanh.square()).mul_(o)
        d_gates = torch.empty_like(gates)
        d_o, d_f, d_i, d_new = d_gates.split(features, 2)
        torch.mul(tanh, o - o.square(), out=d_o)
        torch.mul(of(cell, 1), f - f.square(), out=d_f)
        torch.mul(new, i - i.square(), out=d_i)
        torch.mul(i, 1 - new.square(), out=d_new)

        d_cell, d_hidden = torch.zeros_like(cell), torch.zeros_like(hidden)
        d_hidden.view(-1, batch, features).index_copy_(0, layout.own, grad.flatten(0, 1))
        transposed = weight.transpose(2, 3).contiguous().unbind(1)
        for d, s, forget, (own, *taps) in zip(
            *(reversed(t.split(sizes, 1)) for t in (d_gates, share, f)), reversed(layout.starts), strict=True
        ):
            count = d.shape[1]
            dh, dc = (t.narrow(1, own * batch, count) for t in (d_hidden, d_cell))
            dc.addcmul_(dh, s)
            d[..., :features].mul_(dh)
            d[..., features:].unflatten(2, (3, features)).mul_(dc.unsqueeze(2))
            d_cell.narrow(1, taps[0] * batch, count).addcmul_(dc, forget)
            for u, start in zip(transposed, taps, strict=True):
                d_hidden.narrow(1, start * batch, count).baddbmm_(d, u)

        d_weight = torch.stack([of(hidden, 1 + k).transpose(1, 2) @ d_gates for k in range(kernel)], 1)
        for state in (d_hidden, d_cell):  # what is left is the gradient of the places outside the image
            state.view(-1, batch, features).index_fill_(0, layout.own, 0)
        d_initial = torch.stack([d_hidden.sum(1), d_cell.sum(1)], 1)
        return d_gates.unflatten(1, (-1, batch)), d_weight, d_initial, None
