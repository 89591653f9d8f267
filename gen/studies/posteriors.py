"""Posteriors: what does a richer q(z|x) buy, and where does the information go?

A VAE's bound lies below log p(x) by KL(q(z|x) || p(z|x)), and three chapters differ in q alone or in how the causes are
arranged: independent Gaussians (VAE), Gaussians bent by a flow, and two levels of Gaussians, the upper explaining the
lower (ladder). The bound itself says who wins; how much of log p(x) the best q of each gives away is seen when codes
are weighted by importance, for with enough of them L_K ends at log p(x) whatever q is [1].

The nats that codes carry about an image, KL(q(z|x) || p(z)), are shared out among units. Where units are independent
given the image, each one's share is a divergence of its own; one whose share is 0 repeats the prior and is not used.
A flow mixes its units, so that no share belongs to one of them.

[1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2016.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from gen.model import Infers
from gen.studies.canvas import BLUE, DASHES, GREEN, ORANGE, drawing, nats, rule
from gen.studies.importance import Weighs, iwae_curve, weights
from gen.studies.study import Figure, Findings, Trained, study

USED = 0.1  # nats on the mean above which a unit counts as used
NAMES = ("VAE", "flow VAE", "ladder VAE")
HUES = dict(zip(NAMES, (BLUE, GREEN, ORANGE), strict=True))
Curve = dict[int, tuple[float, float]]


class Shares(Infers, Weighs, Protocol):
    """A model that weighs codes, and whose units each have a share of the divergence."""


@study("posteriors")
@torch.no_grad()
def posteriors(
    *,
    vae: Trained[Shares],
    flow: Trained[Weighs],
    ladder: Trained[Shares],
    seed: int,
    images: int = 200,
    draws: int = 400,
) -> Findings:
    """See module.

    Args:
        vae: one level of independent Gaussians.
        flow: Gaussians bent by a flow.
        ladder: two levels.
        seed: of all that is drawn.
        images: test images on which codes are weighed; the shares are of all.
        draws: codes per image.
    """
    cast: tuple[Trained[Any], ...] = (vae, flow, ladder)
    curves = {
        name: iwae_curve(weights(each.model, each.images("test", seed=seed, count=images), draws))
        for name, each in zip(NAMES, cast, strict=True)
    }
    shares = {
        name: trained.model.latent_units(trained.images("test", seed=seed))[1]
        .mean(0)
        .sort(descending=True)
        .values.tolist()
        for name, trained in (("VAE", vae), ("ladder VAE", ladder))
    }
    used = {name: sum(share > USED for share in each) for name, each in shares.items()}
    last = max(count for count in curves["VAE"] if 2 * count <= draws)  # one group alone has no error
    curves = {name: {count: curve[count] for count in curve if count <= last} for name, curve in curves.items()}
    told = ", ".join(f"{name} {nats(curve[1][0])} and {nats(curve[last][0])}" for name, curve in curves.items())
    carried = ", and ".join(
        f"{sum(each):.1f} nats in the {name}, where {used[name]} of {len(each)} units have more than {USED}"
        for name, each in shares.items()
    )
    return Findings(
        figures={
            "shares": Figure(_shares(shares), "Nats that every unit carries, most first"),
            "bounds": Figure(_curves(curves), f"Bounds on log p of {images} test images, two standard errors"),
        },
        sentences=(
            f"ELBO and IWAE-{last} on {images} test images are, in nats: {told}.",
            f"The codes of an image carry {carried}.",
        ),
        numbers={
            "bounds": {
                name: {str(count): {"nats": value, "standard_error": error} for count, (value, error) in curve.items()}
                for name, curve in curves.items()
            },
            "shares": {name: [round(share, 4) for share in each] for name, each in shares.items()},
            "used": used,
            "images": images,
        },
    )


def _shares(shares: dict[str, list[float]]) -> bytes:
    """Bars for every unit, a panel for each model."""
    most, longest = max(max(each) for each in shares.values()), max(len(each) for each in shares.values())
    with drawing(4.6, 3.6) as made:
        for place, (name, each) in enumerate(shares.items()):
            axes = made.figure.add_axes((0.125, 0.575 - 0.43 * place, 0.85, 0.38))
            axes.bar(range(1, len(each) + 1), each, width=0.75, color=HUES[name])
            axes.set(xlim=(0.3, longest + 0.7), ylim=(0, 1.08 * most))
            axes.text(0.98, 0.85, f"{name}: {sum(each):.1f} nats", transform=axes.transAxes, ha="right", fontsize=9.5)
            axes.set_ylabel("nats")
            rule(axes)
            if place:
                axes.set_xlabel("units, most first", labelpad=1)
            else:
                axes.set_xticklabels([])
    return made.png


def _curves(curves: dict[str, Curve]) -> bytes:
    """L_K over K for each model."""
    with drawing(4.6, 3.6) as made:
        axes = made.axes(left=0.85)
        for (name, curve), dash in zip(curves.items(), DASHES, strict=False):
            values, errors = zip(*curve.values(), strict=True)
            axes.errorbar(
                list(curve), values, [2 * e for e in errors], color=HUES[name], linestyle=dash, marker="o",
                markersize=3.5, capsize=2, label=name,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: nats(value, 0))
        axes.minorticks_off()
        axes.set_xlabel("codes per image, K (1: the ELBO)")
        axes.set_ylabel("nats")
        axes.legend(frameon=False, fontsize=9, loc="lower right")
        rule(axes)
    return made.png
