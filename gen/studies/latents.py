"""Latents: what lies between the codes of two images?

A latent-variable model promises that nearby codes are similar images, everywhere, for its decoder was trained on codes
that fill the prior. With two latents all of it can be drawn: decoded at the quantiles of N(0, I), so that equal areas
of the sheet are equally probable [1], next to the codes of test images, whose classes the model has never seen.

With more latents one walks from image to image. N(0, I) in K dimensions is a shell of radius sqrt(K): a straight line
between two points of it cuts through the empty middle, a great circle stays on it [2]. Blending the pixels themselves
shows a walk without a model.

[1] D. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014. Appendix A.
[2] T. White. Sampling generative networks. 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gen.errors import RecipeError
from gen.model import Encodes
from gen.studies.canvas import BLUE, FAINT, GREEN, ORANGE, PURPLE, drawing, percent, rows
from gen.studies.study import Figure, Findings, Trained, spread, study

EDGE = 0.025  # of the probability of a latent, left out at either end
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00", "#000000", "#8C564B", "#666666", "#9A8700")
SHOWN = 400  # codes drawn
MEASURED = 500  # pairs of images that are measured


@study("latents")
@torch.no_grad()
def latents(
    *, plane: Trained[Encodes], vae: Trained[Encodes], seed: int, side: int = 16, pairs: int = 4, steps: int = 9
) -> Findings:
    """See module.

    Args:
        plane: a model with two latents and a standard normal prior.
        vae: one with any number of latents.
        seed: of all that is drawn.
        side: images on a side of the sheet.
        pairs: of test images to walk between.
        steps: images of a walk, its ends among them.
    """
    images, labels = plane.split("test")
    codes = plane.model.encode(plane.images("test", seed=seed))
    if codes.shape[1] != 2:
        raise RecipeError(
            f"study latents: {plane.recipe} has {codes.shape[1]} latents and cannot play 'plane'. Give a recipe with 2."
        )
    if labels is None:
        raise RecipeError(f"study latents: the data set of {plane.recipe} has no classes to colour the plane by.")
    walks, walked = _walks(vae, pairs, steps, seed)
    same, chance = nearest_of_class(codes, labels)
    decoded, straight, great, blended = (walked["undecided"][way] for way in ("ends", "straight", "circle", "pixels"))
    return Findings(
        figures={
            "sheet": Figure(_sheet(plane, side), "The plane of two latents, decoded at the quantiles of the prior"),
            "codes": Figure(_scatter(codes, labels), f"Codes of {min(len(codes), SHOWN)} test images in that plane"),
            "walks": Figure(walks, "Walks between test images: codes on a straight line and on a circle, and pixels"),
        },
        sentences=(
            f"In the plane of two latents the nearest code is of the same class for {percent(same)} of {len(images):,} "
            f"test images, where chance is {percent(chance)}.",
            f"Half way between two images a straight line is at a radius of {walked['radius']['straight']:.2f}, where "
            f"codes have {walked['radius']['ends']:.2f}, and {percent(straight, 1)} of its pixels are undecided (25 to "
            f"75 % grey); they are {percent(great, 1)} on a circle, {percent(decoded, 1)} at the ends, and "
            f"{percent(blended, 1)} of a blend of pixels.",
        ),
        numbers={"nearest_of_class": same, "by_chance": chance, **walked},
    )


def linear(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Points at the times t, (T,), of straight lines from a to b, each (N, ...): (N, T, ...)."""
    times = t.to(a).view(1, -1, *[1] * (a.dim() - 1))
    return (1 - times) * a.unsqueeze(1) + times * b.unsqueeze(1)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Points at the times t, (T,), of arcs from a to b, each (N, K): (N, T, K).

    The direction turns at a constant rate in the plane of a and b, the length goes evenly from |a| to |b|. Where a and
    b are parallel no plane is meant, and the line is straight.
    """
    lengths = linear(a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True), t)  # (N, T, 1)
    u, v = normalize(a, dim=1), normalize(b, dim=1)
    cosine = (u * v).sum(1, keepdim=True)
    sine = (v - cosine * u).norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, cosine).unsqueeze(2)  # (N, 1, 1); accurate near 0, where arccos is not
    times = t.to(a).view(1, -1, 1)
    arcs = (torch.sin((1 - times) * angle) * u.unsqueeze(1) + torch.sin(times * angle) * v.unsqueeze(1)) / angle.sin()
    return torch.where(sine.unsqueeze(2) > 1e-6, lengths * arcs, linear(a, b, t))


def nearest_of_class(codes: Tensor, labels: Tensor) -> tuple[float, float]:
    """Share of codes (N, K) whose nearest other code has the same label, (N,), and that share by chance."""
    distance = torch.cdist(codes, codes).fill_diagonal_(torch.inf)
    found = (labels[distance.argmin(1)] == labels).double().mean()
    counts = labels.bincount().double()
    return float(found), float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def _walks(vae: Trained[Encodes], pairs: int, steps: int, seed: int) -> tuple[bytes, dict[str, Any]]:
    """The picture of some walks, and what many have half way: radius of the codes, share of undecided pixels."""
    images, labels = vae.split("test")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))
    a, b = order[: len(order) // 2], order[len(order) // 2 :][: len(order) // 2]
    if labels is not None:
        apart = labels[a] != labels[b]
        a, b = a[apart], b[apart]
    a, b = a[:MEASURED], b[:MEASURED]
    codes = vae.model.encode(vae.images("test", seed=seed))
    pixels = images.to(codes.dtype) / 255
    half = torch.tensor([0.5])
    middle = {"straight": linear(codes[a], codes[b], half)[:, 0], "circle": slerp(codes[a], codes[b], half)[:, 0]}
    ends = codes[torch.cat([a, b])]
    numbers = {
        "radius": {name: float(z.norm(dim=1).mean()) for name, z in {"ends": ends, **middle}.items()},
        "undecided": {
            **{name: undecided(_seen(vae, z)) for name, z in {"ends": ends, **middle}.items()},
            "pixels": undecided(linear(pixels[a], pixels[b], half)[:, 0]),
        },
        "pairs": len(a),
    }
    a, b, t = a[:pairs], b[:pairs], torch.linspace(0, 1, steps)
    ways = {"straight": linear(codes[a], codes[b], t), "circle": slerp(codes[a], codes[b], t)}
    blends = linear(pixels[a], pixels[b], t)
    groups = [
        [*((name, _seen(vae, path[pair])) for name, path in ways.items()), ("pixels", blends[pair])]
        for pair in range(len(a))
    ]
    return rows(groups, heads=[f"{each:.3g}" for each in t.tolist()]), numbers


def _seen(trained: Trained[Encodes], codes: Tensor) -> Tensor:
    """Decoded codes as grey from 0 to 1."""
    return trained.spec.space.decode(trained.model.decode(codes)).to(codes.dtype) / 255


def undecided(images: Tensor) -> float:
    """Share of pixels that are neither dark nor light."""
    return float(((images > 0.25) & (images < 0.75)).double().mean())


def _sheet(plane: Trained[Encodes], side: int) -> bytes:
    """The decoded plane, the second latent upwards."""
    normal = torch.distributions.Normal(0.0, 1.0)
    quantiles = normal.icdf(torch.linspace(EDGE, 1 - EDGE, side))
    z = torch.stack(torch.meshgrid(quantiles, quantiles.flip(0), indexing="xy"), -1).view(-1, 2)
    images = _seen(plane, z).unflatten(0, (side, side))  # (rows, columns, C, H, W)
    sheet = images.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (rows H, columns W, C)
    with drawing(4.6, 4.6) as made:
        axes = made.axes(left=0.62, bottom=0.45)
        axes.imshow(sheet.expand(-1, -1, 3).numpy(), extent=(0, side, 0, side), interpolation="nearest", aspect="auto")
        axes.spines[:].set_visible(False)
        marked = [0, side // 4, side // 2, 3 * side // 4, side - 1]
        words = [f"{quantiles[place]:.1f}".replace("-", "−") for place in marked]
        axes.set_xticks([place + 0.5 for place in marked], words)
        axes.set_yticks([place + 0.5 for place in marked], words)
        axes.set_xlabel("first latent", labelpad=2)
        axes.set_ylabel("second latent", labelpad=2)
    return made.png


def _scatter(codes: Tensor, labels: Tensor) -> bytes:
    """The codes, each drawn as the number of its class."""
    with drawing(4.6, 4.6) as made:
        axes = made.axes(left=0.62, bottom=0.45)
        some = spread(len(codes), SHOWN)
        shown = codes[some]
        kinds = labels[some]
        for kind in kinds.unique().tolist():
            x, y = shown[kinds == kind].T.tolist()
            axes.scatter(x, y, s=26, marker=f"${kind}$", color=COLOURS[kind % len(COLOURS)], linewidths=0.2)
        for radius in (1, 2):
            axes.add_patch(_circle(radius))
            axes.text(0, -radius, f"{radius} σ", fontsize=8, color=FAINT, ha="center", va="top")
        reach = 1.06 * float(shown.abs().max())
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axes.set_xlabel("first latent", labelpad=2)
        axes.set_ylabel("second latent", labelpad=2)
    return made.png


def _circle(radius: float) -> Any:
    from matplotlib.patches import Circle

    return Circle((0, 0), radius, fill=False, edgecolor=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
