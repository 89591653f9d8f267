"""Bounds: how far below log p(x) do the ELBO and IWAE lie?

With two latents the integral over all causes of an image, p(x) = int p(x|z) p(z) dz, can be had by quadrature: a sum
over a fine grid of the plane. Against it stand the bounds that every other model here has to be content with. One code
gives the ELBO, L; K codes, weighted by importance, give L_K, which rises with K and ends at log p(x) [2]. What the ELBO
loses is no mystery: it is how far q(z|x) is from the posterior p(z|x), which the grid gives too [1].

    log p(x) = L(x) + KL(q(z|x) || p(z|x)),    L = L_1 <= L_K <= L_{K+1} <= log p(x)

[1] D. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014. Eq. 1.
[2] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2016. Theorem 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gen.errors import RecipeError
from gen.losses.likelihoods import gaussian_kl
from gen.studies.canvas import BLUE, FAINT, INK, ORANGE, drawing, nats, rule
from gen.studies.importance import Weighs, iwae_curve, weights
from gen.studies.study import Figure, Findings, Trained, study

EDGE = 4.5  # of the grid, where the prior ends
WIDE = 7.0  # and how many standard deviations of every posterior it holds
CHUNK = 4096  # codes decoded at a time


class Explains(Weighs, Protocol):
    """A model p(x|z) N(z; 0, I) of bits, and its Gaussian q(z|x)."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log-variance of q(z|x), each (B, K)."""
        ...

    def decode(self, code: Tensor) -> Tensor:
        """Codes (B, K) -> E[x|z], the probability that a bit is 1, (B, C, H, W)."""
        ...


@study("bounds")
@torch.no_grad()
def bounds(
    *, vae: Trained[Explains], seed: int, images: int = 50, side: int = 480, draws: int = 2000, shown: int = 3
) -> Findings:
    """See module.

    Args:
        vae: a VAE of bits with two latents.
        seed: of all that is drawn.
        images: test images.
        side: points on a side of the grid.
        draws: codes per image, for IWAE; groups of K of them give so many estimates of L_K.
        shown: posteriors drawn.
    """
    if vae.spec.space.levels != 2:
        raise RecipeError(f"study bounds: {vae.recipe} lives in '{vae.spec.space}'; 'vae' is for a model of bits.")
    vae = vae.double()
    x = vae.images("test", seed=seed, count=images).double()
    mean, log_var = vae.model.posterior(x)
    if mean.shape[1] != 2:
        raise RecipeError(
            f"study bounds: {vae.recipe} has {mean.shape[1]} latents; 'vae' is for 2, or no grid is fine enough."
        )
    edge = max(EDGE, float((mean.abs() + WIDE * torch.exp(0.5 * log_var)).max()))
    grid = Grid.square(edge, side)
    log_joint = joint(vae.model, grid.points, x)
    log_p = grid.integrate(log_joint)
    error = float((log_p - grid.coarse().integrate(grid.thinned(log_joint))).abs().max())
    gap = grid.divergence(log_joint - log_p, mean, log_var)
    elbo = expected_bound(vae.model, x, mean, log_var)
    off = (log_p - elbo - gap).abs()
    curve = iwae_curve(weights(vae.model, x, draws))
    counts = list(curve)

    exact, bound = float(log_p.mean()), float(elbo.mean())
    last, last_error = curve[counts[-1]]
    order = gap.argsort()
    chosen = order[torch.linspace(0, len(order) - 1, shown).long()].tolist()
    return Findings(
        figures={
            "bounds": Figure(_curve(counts, curve, exact, bound), f"IWAE on {len(x)} test images, two standard errors"),
            "posteriors": Figure(
                _contours(vae.model, x[chosen], gap[chosen].tolist(), grid, log_joint[:, chosen]),
                "Posteriors (blue) and q (dashed) where the ELBO loses least, a median amount and most",
            ),
        },
        sentences=(
            f"On {len(x)} test images log p(x) is {nats(exact)} nats by quadrature; the ELBO loses {exact - bound:.2f} "
            f"of them and IWAE-{counts[-1]:,} loses {exact - last:.2f} ± {last_error:.2f}.",
            f"What the ELBO loses is KL(q || p(z|x)), {float(gap.mean()):.2f} nats on average and "
            f"{float(gap.max()):.2f} at most: log p(x) = L + KL holds within {float(off.mean()):.4f} nats on the mean.",
        ),
        numbers={
            "log_p": exact,
            "elbo": bound,
            "kl_to_posterior": float(gap.mean()),
            "identity_error": {"mean": float(off.mean()), "max": float(off.max())},
            "quadrature_error": error,
            "iwae": {str(count): {"nats": curve[count][0], "standard_error": curve[count][1]} for count in counts},
            "images": len(x),
            "grid": {"side": side, "edge": edge},
        },
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """A square grid in the plane, for integrals of what vanishes at its edge.

    Attributes:
        side: points on a side.
        step: between them.
        points: row by row, (side^2, 2).
    """

    side: int
    step: float
    points: Tensor

    @classmethod
    def square(cls, edge: float, side: int) -> Grid:
        """From -edge to edge in both directions, in double precision."""
        line = torch.linspace(-edge, edge, side, dtype=torch.float64)
        return cls(side, 2 * edge / (side - 1), torch.cartesian_prod(line, line))

    def coarse(self) -> Grid:
        """Every second point in both directions."""
        return Grid(-(-self.side // 2), 2 * self.step, self.thinned(self.points))

    def thinned(self, values: Tensor) -> Tensor:
        """Values (side^2, ...) at the points of :meth:`coarse`."""
        return values.unflatten(0, (self.side, self.side))[::2, ::2].flatten(0, 1)

    def integrate(self, log_values: Tensor) -> Tensor:
        """log of the integral of exp(log_values), (side^2, ...) -> (...).

        The sum over a grid: for what is smooth and vanishes at the edge it converges faster than any power of the step.
        """
        return log_values.logsumexp(0) + 2 * math.log(self.step)

    def divergence(self, log_posterior: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        """KL(q || p) in nats of Gaussians q, (B, 2), from log densities p at the points, (side^2, B): (B,)."""
        log_q = gaussian(self.points, mean, log_var)
        return (log_q.exp() * (log_q - log_posterior)).sum(0) * self.step**2


def gaussian(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; mean, exp(log_var)) of every point, (G, K), under every Gaussian, (B, K): (G, B)."""
    squared = (z.unsqueeze(1) - mean).square() * torch.exp(-log_var)
    return -0.5 * (squared + log_var + math.log(2 * math.pi)).sum(2)


def joint(model: Explains, z: Tensor, x: Tensor) -> Tensor:
    """log p(x, z) in nats of bits x, (B, C, H, W), at codes z, (G, K): (G, B)."""
    bits = x.flatten(1)
    parts = []
    for part in z.split(CHUNK):
        p = model.decode(part).flatten(1)
        off = torch.log1p(-p)
        log_prior = -0.5 * (part.square() + math.log(2 * math.pi)).sum(1, keepdim=True)
        parts.append((p.log() - off) @ bits.T + off.sum(1, keepdim=True) + log_prior)
    return torch.cat(parts)


def expected_bound(model: Explains, x: Tensor, mean: Tensor, log_var: Tensor, *, nodes: int = 48) -> Tensor:
    """L(x) without chance, (B,): E_q log p(x|z) by Gauss-Hermite quadrature around each q, and its KL in closed form.

    Args:
        model: with two latents.
        x: bits, (B, C, H, W).
        mean: of q, (B, 2).
        log_var: of q, (B, 2).
        nodes: in each direction.
    """
    from numpy.polynomial.hermite_e import hermegauss

    node, weight = (torch.from_numpy(each) for each in hermegauss(nodes))
    weight = weight / weight.sum()
    noise, weights = torch.cartesian_prod(node, node), torch.cartesian_prod(weight, weight).prod(1)
    found = []
    for image, mu, s in zip(x, mean, log_var, strict=True):
        z = mu + torch.exp(0.5 * s) * noise
        log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        found.append(weights @ (joint(model, z, image.unsqueeze(0))[:, 0] - log_prior))
    return torch.stack(found) - gaussian_kl(mean, log_var).sum(1)


def _curve(counts: Sequence[int], curve: dict[int, tuple[float, float]], exact: float, elbo: float) -> bytes:
    """L_K over K, between the ELBO and log p(x)."""
    values, errors = zip(*(curve[count] for count in counts), strict=True)
    with drawing(4.6, 3.6) as made:
        axes = made.axes(left=0.75)
        axes.axhline(exact, color=INK, linewidth=1.2)
        axes.text(counts[0], exact, "log p(x)", fontsize=9, va="bottom")
        axes.axhline(elbo, color=ORANGE, linewidth=1.2, linestyle=(0, (5, 1.5)))
        axes.text(counts[-1], elbo, "ELBO", fontsize=9, color=ORANGE, va="bottom", ha="right")
        axes.errorbar(
            counts, values, yerr=[2 * e for e in errors], color=BLUE, linewidth=1.6, marker="o", markersize=4, capsize=2
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.minorticks_off()
        pad = 0.12 * (exact - elbo)
        axes.set_ylim(elbo - pad, exact + pad)
        axes.set_xlabel("codes per image, K")
        axes.set_ylabel("nats")
        rule(axes)
    return made.png


def _contours(model: Explains, x: Tensor, gaps: Sequence[float], grid: Grid, log_joint: Tensor) -> bytes:
    """The true posterior of some images, filled, and q at one and two standard deviations; each below its image."""
    mean, log_var = model.posterior(x)
    width, height, side = 1.9 * len(x), 3.1, 81
    with drawing(width, height) as made:
        for place in range(len(x)):
            mu, sigma = mean[place], torch.exp(0.5 * log_var[place])
            seen = grid.points[
                log_joint[:, place] > log_joint[:, place].max() - 4.6
            ]  # where the posterior is above 1 %
            seen = torch.cat([seen, torch.stack([mu + 2.5 * sigma, mu - 2.5 * sigma])])
            low, high = seen.amin(0), seen.amax(0)
            local = Grid.square(0.55 * float((high - low).max()), side)
            points = (low + high) / 2 + local.points
            density = joint(model, points, x[place : place + 1])[:, 0]
            shape = (density - density.max()).exp().view(side, side).T.numpy()
            axes = made.figure.add_axes((place / len(x) + 0.5 / width, 0.1, 1.3 / width, 1.3 / height))
            across, up = points.view(side, side, 2)[:, 0, 0].tolist(), points.view(side, side, 2)[0, :, 1].tolist()
            axes.contourf(across, up, shape, levels=[0.011, 0.135, 0.325, 0.607, 0.9, 1.001], cmap="Blues")
            for deviations in (1, 2):
                axes.add_patch(_ellipse(mu.tolist(), (2 * deviations * sigma).tolist()))
            axes.locator_params(nbins=3)
            axes.tick_params(labelsize=8)
            picture = made.figure.add_axes((place / len(x) + 0.75 / width, 0.67, 0.8 / width, 0.8 / height))
            picture.set_axis_off()
            picture.imshow(x[place].movedim(0, -1).expand(-1, -1, 3).numpy(), interpolation="nearest")
            words = f"KL {gaps[place]:.2f} nats"
            made.figure.text(place / len(x) + 1.15 / width, 0.59, words, ha="center", fontsize=9, color=FAINT)
    return made.png


def _ellipse(centre: Sequence[float], widths: Sequence[float]) -> Any:
    from matplotlib.patches import Ellipse

    (x, y), (width, height) = centre, widths
    return Ellipse((x, y), width, height, fill=False, edgecolor=ORANGE, linewidth=1.4, linestyle=(0, (4, 2)))
