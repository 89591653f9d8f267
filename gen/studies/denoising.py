"""Denoising: does a network that only cleans up know where the data are dense?

A denoising autoencoder is trained to put out the clean point behind a noisy one. The best answer is the mean of all
that may lie behind it, and for Gaussian noise that mean lies uphill, where noisy points are denser [1, 2]. On a mixture
of Gaussians in the plane the gradient of their density is known: smoothed, it is a mixture again. So the arrows that
the network learnt can be laid beside the true ones. They are compared at noisy points, for only there was it trained.
On digits the same arrow, with more coordinates, is what turns a noisy image into a clean one.

    r*(x) - x = sigma^2 grad log p_sigma(x),    p_sigma = p * N(0, sigma^2 I)

[1] G. Alain, Y. Bengio. What regularized auto-encoders learn from the data-generating distribution. 2014. Theorem 1.
[2] K. Miyasawa. An empirical Bayes estimator of the mean of a normal population. 1961.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gen.data.toys import Mixture
from gen.errors import RecipeError
from gen.evaluate.codes import mean_squared_error, peak_signal_to_noise
from gen.model import Denoises
from gen.studies.canvas import BLUE, FAINT, ORANGE, drawing, rows
from gen.studies.study import Figure, Findings, Trained, spread, study

FAR = 6.0  # nats below the densest point beyond which no arrows are drawn: hardly a noisy point comes there


class Points(Denoises, Protocol):
    """A denoiser of Gaussian noise that gives its arrows as a score."""

    @property
    def amount(self) -> float:
        """sigma, the standard deviation of the noise in units of the space."""
        ...

    def score(self, x: Tensor) -> Tensor:
        """(r(x) - x) / sigma^2 at noisy images (B, C, H, W), same shape."""
        ...


@study("denoising")
@torch.no_grad()
def denoising(
    *,
    mixture: Trained[Points],
    digits: Trained[Denoises],
    seed: int,
    side: int = 19,
    points: int = 2000,
    shown: int = 10,
) -> Findings:
    """See module.

    Args:
        mixture: a denoiser of points of a Gaussian mixture, images of two values labelled with their modes.
        digits: a denoiser of images.
        seed: of all that is drawn.
        side: arrows on a side of the plane.
        points: noisy points at which arrows are compared, at most.
        shown: images drawn.
    """
    sigma = mixture.model.amount
    smoothed = smooth(truth(mixture, seed), sigma)
    noisy = mixture.model.corrupt(mixture.images("test", seed=seed, count=points))
    learnt, true = mixture.model.score(noisy).flatten(1), score(smoothed, noisy.flatten(1))
    correlation = float(torch.stack([learnt.flatten(), true.flatten()]).double().corrcoef()[0, 1])
    cosine = float(torch.cosine_similarity(learnt.double(), true.double()).mean())

    x = digits.images("test", seed=seed)
    corrupted = digits.model.corrupt(x)
    clean, before, after = (digits.spec.space.decode(each) for each in (x, corrupted, digits.model.denoise(corrupted)))
    psnr = [peak_signal_to_noise(mean_squared_error(each, clean)) for each in (before, after)]
    some = spread(len(x), shown)
    return Findings(
        figures={
            "field": Figure(
                _field(mixture, smoothed, side),
                "Where the network moves noisy points (blue), and sigma² times the score",
            ),
            "digits": Figure(
                rows([[("clean", clean[some]), ("noisy", before[some]), ("denoised", after[some])]]),
                "Test images under the noise the network was trained on",
            ),
        },
        sentences=(
            f"At {len(noisy):,} noisy test points the correlation of the arrows with the analytic score is "
            f"{correlation:.3f}, and the cosine of the angle between the two {cosine:.2f} on the mean.",
            f"On {len(x):,} test images the same kind of arrow takes the peak signal-to-noise ratio from "
            f"{psnr[0]:.1f} to {psnr[1]:.1f} dB.",
        ),
        numbers={
            "correlation": correlation,
            "cosine": cosine,
            "sigma": sigma,
            "points": len(noisy),
            "psnr_noisy": psnr[0],
            "psnr_denoised": psnr[1],
        },
    )


def truth(mixture: Trained[Points], seed: int) -> Mixture:
    """The mixture in the units of the space, from training points and their labels.

    Raises:
        RecipeError: the images have more than two values, or no labels.
    """
    labels = mixture.split("train")[1]
    if mixture.spec.dims != 2 or labels is None:
        raise RecipeError(
            f"study denoising: {mixture.recipe} has images of {mixture.spec.dims} values"
            f"{'' if labels is not None else ' without labels'}; 'mixture' is for labelled points in the plane: "
            "give a recipe on a data set of the source 'mixture'."
        )
    x = mixture.images("train", seed=seed).flatten(1)
    means = torch.stack([x[labels == mode].mean(0) for mode in labels.unique()])
    within = x - means[torch.searchsorted(labels.unique(), labels)]
    return Mixture(means, float(within.square().mean().sqrt()))


def smooth(mixture: Mixture, sigma: float) -> Mixture:
    """p * N(0, sigma^2 I): variances add."""
    return Mixture(mixture.means, (mixture.std**2 + sigma**2) ** 0.5)


def score(mixture: Mixture, x: Tensor) -> Tensor:
    """grad log p at points, (N, D): towards each mean, by how likely it is the point's own."""
    towards = mixture.means.to(x) - x.unsqueeze(1)  # (N, K, D)
    own = (-0.5 * towards.square().sum(2) / mixture.std**2).softmax(1)
    return (own.unsqueeze(2) * towards).sum(1) / mixture.std**2


def _field(mixture: Trained[Points], smoothed: Mixture, side: int) -> bytes:
    """Both fields over the plane, where noisy points are."""
    sigma = mixture.model.amount
    low = smoothed.means.amin(0) - 3 * sigma
    high = smoothed.means.amax(0) + 3 * sigma
    lines = [torch.linspace(float(a), float(b), side) for a, b in zip(low, high, strict=True)]
    plane = torch.cartesian_prod(*lines)
    log_p = smoothed.log_prob(plane)
    at = plane[log_p > log_p.max() - FAR]
    moves = {
        "σ² ∇ log p": (sigma**2 * score(smoothed, at), ORANGE, 0.011, 0.4),
        "r(x) − x": (sigma**2 * mixture.model.score(at.view(-1, *mixture.spec.shape)).flatten(1), BLUE, 0.004, 1.0),
    }
    with drawing(4.6, 4.6) as made:
        axes = made.axes(left=0.5, bottom=0.4, top=0.3)
        for name, (arrows, hue, width, alpha) in moves.items():
            axes.quiver(
                *at.T.numpy(), *arrows.T.numpy(), color=hue, width=width, alpha=alpha, angles="xy", scale_units="xy",
                scale=1.6, label=name, headwidth=3, headlength=3.5, headaxislength=3.5,
            )  # fmt: skip
        axes.scatter(*smoothed.means.T.numpy(), s=14, color=FAINT, zorder=3, label="means")
        axes.set(xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])))
        axes.legend(frameon=False, fontsize=8.5, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 0.99), borderpad=0)
    return made.png
