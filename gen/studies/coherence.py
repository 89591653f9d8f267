"""Coherence: does a small image drawn first hold the large one together?

Pixels that are far apart hear of each other, in raster order, through all that lies between them; a network that sees a
few rows may draw every part well, and the parts of different digits. If every k-th pixel is drawn first, the far ones
are k times nearer [1]. The likelihood hardly shows it, as most of its nats are about neighbours. Correlations do:

    e(d)^2 = mean of (r_pq - s_pq)^2 over all pairs of pixels p, q at distance d = max(|di|, |dj|)

with r and s the correlations of two pixels' values over samples and over training images, as the models see them. Both
are known from a finite number of images only, whose noise would be counted as error. So samples and images are halved,
and the square becomes the product (r_pq - s_pq) (r'_pq - s'_pq) of what the two halves say: their noise is independent,
and its product 0 on the mean. Pixels that hardly ever change have no correlation to be measured and are left out.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Section 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gen.errors import RecipeError
from gen.evaluate.bench import space_view
from gen.evaluate.samples import draw, independent_pixels
from gen.model import Samples
from gen.studies.canvas import BLUE, DASHES, FAINT, ORANGE, drawing, nats, rows, rule
from gen.studies.study import Figure, Findings, Trained, spread, study

LEAST = 0.1  # of the largest standard deviation of all pixels over real images: what a pixel must have


class Whole(Samples, Protocol):
    """A model of images."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> log p(x) in nats, (B,)."""
        ...


class Errors(NamedTuple):
    """How far correlations are off.

    Attributes:
        squared: sum of e^2 over all pairs of pixels at each distance, (D,); noise may make it negative.
        pairs: how many there are, (D,).
    """

    squared: Tensor
    pairs: Tensor

    def root(self, least: int = 0) -> float:
        """Root mean square over the pairs at this distance and beyond."""
        return _root(float(self.squared[least:].sum() / self.pairs[least:].sum()))

    def by_distance(self) -> list[float]:
        """e(1), e(2), ..."""
        return [_root(float(s / n)) for s, n in zip(self.squared[1:], self.pairs[1:], strict=True)]


def _root(mean: float) -> float:
    return math.sqrt(max(mean, 0.0))


def errors(drawn: Tensor, real: Tensor) -> Errors:
    """See module: images (N, C, H, W) and (M, C, H, W), of any type."""
    height, width = real.shape[2:]
    deviation = real.double().std(0).flatten()
    kept = (deviation > LEAST * deviation.max()).nonzero()[:, 0]
    row, column = kept % (height * width) // width, kept % width
    distance = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs()).flatten()
    off = [correlations(drawn[k::2], kept) - correlations(real[k::2], kept) for k in (0, 1)]
    nothing = torch.zeros(int(distance.max()) + 1, dtype=torch.float64)
    return Errors(
        nothing.index_add(0, distance, (off[0] * off[1]).flatten()),
        nothing.index_add(0, distance, torch.ones(len(distance), dtype=torch.float64)),
    )


def correlations(x: Tensor, kept: Tensor) -> Tensor:
    """Of some of the values of images (N, C, H, W), given by their places, (K,): (K, K). 0 for values that are always
    the same."""
    x = x.double().flatten(1)[:, kept]
    x = x - x.mean(0)
    x = x / x.square().sum(0).sqrt().clamp(min=1e-12)
    return x.T @ x


@study("coherence")
@torch.no_grad()
def coherence(
    *, single: Trained[Whole], multi: Trained[Whole], seed: int, samples: int = 4_000, far: int = 7, shown: int = 12
) -> Findings:
    """See module.

    Args:
        single: draws in raster order.
        multi: draws a small image first.
        seed: of all that is drawn.
        samples: of each model, whose correlations are measured.
        far: distance, in pixels, from which on two of them are far apart.
        shown: samples of each model in the figure.
    """
    spec = single.spec
    if multi.spec != spec:
        raise RecipeError(
            f"study coherence: {multi.recipe} has images {multi.spec.shape} in {multi.spec.space}, and "
            f"{single.recipe} {spec.shape} in {spec.space}; correlations are compared on the same pixels."
        )
    images = single.split("train")[0]
    real, test = space_view(images, spec.space, seed=seed), single.images("test", seed=seed)
    drawn, found, cost = {}, {}, {}
    for name, each in (("single scale", single), ("multi-scale", multi)):
        drawn[name] = draw(each.model, spec, samples, seed=seed, batch_size=500)
        found[name] = errors(drawn[name], real)
        cost[name] = -float(torch.cat([each.model.log_prob(part) for part in test.split(200)]).double().mean())
    found["independent pixels"] = errors(independent_pixels(real, samples, seed=seed), real)
    reach = len(found["single scale"].pairs) - 1
    if not 1 <= far <= reach:
        raise RecipeError(f"studies.coherence.options.far: found {far}, allowed from 1 to {reach} in these images.")
    apart = {name: each.root(far) for name, each in found.items()}
    return Findings(
        figures={
            "samples": Figure(
                rows(
                    [[("training images", real[spread(len(real), shown)])], [(n, x[:shown]) for n, x in drawn.items()]]
                ),
                "Training images, and samples of both models, not selected",
            ),
            "correlations": Figure(
                _curves({name: each.by_distance() for name, each in found.items()}, far),
                "How far the correlation of two pixels is off in samples, by their distance (root mean square)",
            ),
        },
        sentences=(
            f"The correlation of two pixels that are at least {far} apart is off by {apart['single scale']:.3f} (root "
            f"mean square) in {samples:,} samples drawn at a single scale and by {apart['multi-scale']:.3f} where a "
            f"small image was drawn first; were all pixels independent, by {apart['independent pixels']:.3f}.",
            f"A test image costs {nats(cost['single scale'])} nats at a single scale and "
            f"{nats(cost['multi-scale'])} with a small image first.",
        ),
        numbers={
            "far_correlation_error": apart,
            "correlation_error_by_distance": {name: each.by_distance() for name, each in found.items()},
            "nats": {name: -each for name, each in cost.items()},
            "far": far,
            "samples": samples,
        },
    )


def _curves(errors: Mapping[str, list[float]], far: int) -> bytes:
    """Error against distance; what counts as far begins at the dotted line."""
    with drawing(4.8, 2.7) as made:
        axes = made.axes(left=0.7)
        for (name, curve), colour, dash in zip(errors.items(), (ORANGE, BLUE, FAINT), DASHES[:3], strict=True):
            axes.plot(range(1, len(curve) + 1), curve, color=colour, linestyle=dash, linewidth=1.6, label=name)
        axes.axvline(far - 0.5, color=FAINT, linewidth=0.8, linestyle=(0, (1, 1.5)))
        axes.set(xlabel="distance of two pixels", ylabel="error of correlation", ylim=(0, None))
        axes.legend(frameon=False, fontsize=9)
        rule(axes)
    return made.png
