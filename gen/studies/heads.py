"""Heads: does a pixel want a softmax or a continuous distribution?

A grey value is a number, so a density with a few parameters seems to be the natural distribution for it: near values
are alike, and nothing has to be learned twice. Yet what is known before a pixel often leaves a choice, paper or ink,
and little between them. A softmax over the levels knows nothing of their order and can say just that; one bump cannot,
and spreads over values that never occur. On CIFAR-10, a Row LSTM took 3.06 bits per value with a softmax and 3.22 with
a mixture of conditional Gaussian scale mixtures [1]. A mixture of bumps lies between the two [2]. All three are
compared as distributions over the same levels, each bump by its mass in every level's bin, so that their nats are of
one kind:

    the valley of p at level v:   min(max of p below v, max of p above v) - p(v)

is 0 everywhere if p has one mode; the deepest one says how clearly there are two. One bump has none inside the range,
but the bins of the first and the last level are open, and what its tails pile up there may make a mode of its own.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Section 5.3.
[2] T. Salimans, A. Karpathy, X. Chen, D. P. Kingma. PixelCNN++: Improving the PixelCNN with Discretized Logistic
    Mixture Likelihood and Other Modifications. 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gen.errors import RecipeError
from gen.losses.heads import Head
from gen.studies.canvas import BLUE, GREEN, INK, ORANGE, drawing, percent, rule
from gen.studies.study import Figure, Findings, Trained, study

DEEP = 0.05  # a valley that counts as one
NAMES = ("softmax", "mixture", "one component")
COLOURS = (BLUE, ORANGE, GREEN)


class PixelByPixel(Protocol):
    """A network and a head."""

    @property
    def head(self) -> Head:
        """What the outputs mean."""
        ...

    def outputs(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> what the head needs to know about every pixel, (B, P, H, W)."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Images -> log p(x) in nats, (B,)."""
        ...


class Found(NamedTuple):
    """What one head makes of the images.

    Attributes:
        nats: log p(x) of every image, (B,).
        p: of every level, at every pixel's first channel, (B, K, H, W).
    """

    nats: Tensor
    p: Tensor


def distributions(model: PixelByPixel, x: Tensor, levels: int) -> Tensor:
    """p(level | values before it) of the first channel of every pixel: (B, C, H, W) -> (B, K, H, W)."""
    outputs = model.outputs(x)
    every = [torch.full_like(x, k / (levels - 1)) for k in range(levels)]
    return torch.stack([model.head.log_prob(outputs, each)[:, 0] for each in every], 1).exp()


def valleys(p: Tensor) -> Tensor:
    """Depth of the deepest valley, see module: (B, K, ...) -> (B, ...)."""
    below, above = p.cummax(1).values, p.flip(1).cummax(1).values.flip(1)
    return (torch.minimum(below, above) - p).amax(1)


@study("heads")
@torch.no_grad()
def heads(
    *,
    softmax: Trained[PixelByPixel],
    mixture: Trained[PixelByPixel],
    single: Trained[PixelByPixel],
    seed: int,
    images: int = 500,
    shown: int = 6,
) -> Findings:
    """See module. The three are the same network but for the last layer.

    Args:
        softmax: logits of the levels.
        mixture: several bumps.
        single: one bump.
        seed: of the levels, where they are drawn.
        images: test images whose pixels are looked at; likelihoods are those of all.
        shown: pixels in the figure.
    """
    cast = dict(zip(NAMES, (softmax, mixture, single), strict=True))
    spec, levels = softmax.spec, softmax.spec.space.levels
    for trained in cast.values():
        if trained.spec != spec or levels is None:
            raise RecipeError(
                f"{trained.recipe} has images {trained.spec.shape} in {trained.spec.space}, and {softmax.recipe} "
                f"{spec.shape} in {spec.space}; heads are compared on the same levels, such as levels(16)."
            )
    assert levels is not None
    x = softmax.images("test", seed=seed)
    some = softmax.images("test", seed=seed, count=images)
    found = {
        name: Found(
            torch.cat([trained.model.log_prob(part) for part in x.split(200)]).double(),
            torch.cat([distributions(trained.model, part, levels) for part in some.split(100)]),
        )
        for name, trained in cast.items()
    }
    bits = {name: spec.space.bits_per_dim(float(each.nats.mean()), spec.dims) for name, each in found.items()}
    depth = {name: valleys(each.p) for name, each in found.items()}
    share = {name: float((each > DEEP).double().mean()) for name, each in depth.items()}
    gain = {name: found["softmax"].nats - found[name].nats for name in NAMES[1:]}  # of each image: errors are paired
    error = {name: float(each.std()) / math.sqrt(len(each)) for name, each in gain.items()}
    told = {
        name: f"{'better' if each.mean() > 0 else 'worse'} than {{}} by {abs(each.mean()):.2f} ± {error[name]:.2f} nats"
        for name, each in gain.items()
    }
    chosen = deepest(depth["softmax"], shown)
    return Findings(
        figures={
            "conditionals": Figure(
                _conditionals({name: each.p for name, each in found.items()}, some, chosen),
                f"What each head expects of {len(chosen)} pixels, where the softmax's valleys are deepest",
            ),
        },
        sentences=(
            f"On {levels} levels, {len(x)} test images take {bits['softmax']:.3f} bits per value by the softmax, "
            f"{bits['mixture']:.3f} by the mixture and {bits['one component']:.3f} by one component: the softmax is "
            f"{told['mixture'].format('the mixture')} an image, and {told['one component'].format('one component')}.",
            f"The softmax sees two modes, with a valley deeper than {DEEP} between them, at "
            f"{percent(share['softmax'], 1)} of the pixels; the mixture does at {percent(share['mixture'], 1)}, one "
            f"component at {percent(share['one component'], 1)}.",
        ),
        numbers={
            "bits_per_dim": bits,
            "nats": {name: float(each.nats.mean()) for name, each in found.items()},
            "softmax_gains": {name: float(each.mean()) for name, each in gain.items()},
            "standard_error": error,
            "two_modes": share,
            "deepest_valley": {name: float(each.max()) for name, each in depth.items()},
            "images": len(x),
        },
    )


def deepest(depth: Tensor, count: int) -> list[tuple[int, int, int]]:
    """Image, row and column of the deepest valleys, (B, H, W), at most one in an image."""
    width = depth.shape[2]
    best = depth.flatten(1).max(1)
    order = best.values.argsort(descending=True, stable=True)[:count]
    return [(int(n), int(best.indices[n]) // width, int(best.indices[n]) % width) for n in order]


def _conditionals(p: Mapping[str, Tensor], x: Tensor, chosen: list[tuple[int, int, int]]) -> bytes:
    """A panel for each pixel: the image with the pixel framed, and the heads' distributions beside it."""
    levels = p["softmax"].shape[1]
    columns = 2
    lines = -(-len(chosen) // columns)
    width, high = 6.6, 1.35
    height = lines * high + 0.4
    with drawing(width, height) as made:
        for place, (n, i, j) in enumerate(chosen):
            left, top = width / columns * (place % columns), 0.35 + high * (place // columns)
            picture = made.figure.add_axes(
                ((left + 0.1) / width, 1 - (top + 0.95) / height, 0.85 / width, 0.85 / height)
            )
            picture.set_axis_off()
            picture.imshow(x[n].movedim(0, -1).expand(-1, -1, 3).numpy(), vmin=0, vmax=1, interpolation="nearest")
            frame = ([j - 0.5, j + 0.5, j + 0.5, j - 0.5, j - 0.5], [i - 0.5, i - 0.5, i + 0.5, i + 0.5, i - 0.5])
            picture.plot(*frame, color=ORANGE, linewidth=1.6)
            axes = made.figure.add_axes(
                ((left + 1.35) / width, 1 - (top + 0.95) / height, (width / columns - 1.5) / width, 0.9 / height)
            )
            axes.bar(range(levels), p["softmax"][n, :, i, j], width=0.8, color=BLUE, alpha=0.55, label="softmax")
            for name, colour, dash in zip(NAMES[1:], COLOURS[1:], ("-", (0, (4, 1.5))), strict=True):
                axes.plot(range(levels), p[name][n, :, i, j], color=colour, linestyle=dash, linewidth=1.4, label=name)
            axes.axvline(float(x[n, 0, i, j]) * (levels - 1), color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
            axes.set(xlim=(-0.7, levels - 0.3), ylim=(0, None))
            axes.tick_params(labelsize=7.5, length=2)
            rule(axes)
        handles, labels = axes.get_legend_handles_labels()
        made.figure.legend(
            handles, labels, loc="upper center", ncols=3, frameon=False, fontsize=9, bbox_to_anchor=(0.5, 1.0)
        )
        made.figure.text(0.5, 0.1 / height, "level; dotted: the value itself", ha="center", fontsize=9)
    return made.png
