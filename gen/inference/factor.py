"""Linear factors with Gaussian noise: likelihood, posterior, samples and completions, all of them exact.

    h ~ N(0, I_q),    x | h ~ N(W h + mu, Psi),    hence    x ~ N(mu, C),  C = W W^T + Psi

C is never formed. With the posterior precision M = I + W^T Psi^-1 W, (q, q), and the posterior mean m = E[h | x],

    p(h | x) = N(m, M^-1),    m = M^-1 W^T Psi^-1 (x - mu)                      (Woodbury)
    log |C| = log |Psi| + log |M|                                             (determinant lemma)
    (x - mu)^T C^-1 (x - mu) = |Psi^-1/2 (x - mu - W m)|^2 + |m|^2             (Woodbury, completing the square)

Shapes throughout: images x (B, d), factors h (B, q).

[1] M. Tipping, C. Bishop (1999). Probabilistic principal component analysis.
[2] D. Rubin, D. Thayer (1982). EM algorithms for ML factor analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gen.checks import at_least
from gen.errors import RecipeError, nearest


def isotropic(values: Tensor) -> Tensor:
    """One value for all pixels, the mean: Psi = sigma^2 I, probabilistic PCA [1]."""
    return values.mean().expand_as(values)


def diagonal(values: Tensor) -> Tensor:
    """A value for every pixel: factor analysis [2]."""
    return values


NOISES: dict[str, Callable[[Tensor], Tensor]] = {"isotropic": isotropic, "diagonal": diagonal}


def check(latents: int, noise: str, floor: float, dims: int) -> None:
    """Raise :class:`RecipeError` unless there is such a model of images of ``dims`` pixels."""
    at_least(1, latents=latents)
    if latents >= dims:
        raise RecipeError(
            f"hyper.latents: found {latents}, allowed 1 to {dims - 1}; use fewer latents than the {dims} pixels."
        )
    if noise not in NOISES:
        raise RecipeError(
            f"hyper.noise: found '{noise}', allowed {', '.join(NOISES)}; isotropic is probabilistic PCA, diagonal is "
            f"factor analysis.{nearest(noise, NOISES)}"
        )
    if not floor > 0:
        raise RecipeError(f"hyper.floor: found {floor}, allowed above 0; 1.3e-6 is the variance of dequantisation.")


@dataclass(frozen=True)
class LinearGaussian:
    """The distribution of images x.

    Attributes:
        mean: mu, (d,).
        W: loadings, (d, q).
        psi: the diagonal of Psi, (d,), above 0.
    """

    mean: Tensor
    W: Tensor
    psi: Tensor

    @cached_property
    def cholesky(self) -> Tensor:
        """The lower Cholesky factor of M, (q, q)."""
        return torch.linalg.cholesky(torch.eye(self.W.shape[1]).to(self.W) + (self.W.T / self.psi) @ self.W)

    def posterior_mean(self, x: Tensor) -> Tensor:
        """m = E[h | x], (B, q); the covariance M^-1 is that of all images, see :attr:`cholesky`."""
        return torch.cholesky_solve(((x - self.mean) / self.psi @ self.W).T, self.cholesky).T

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (B,)."""
        m = self.posterior_mean(x)
        log_det = self.psi.log().sum() + 2 * self.cholesky.diagonal().log().sum()
        quadratic = ((x - self.mean - m @ self.W.T).square() / self.psi).sum(1) + m.square().sum(1)
        return -(x.shape[1] * math.log(2 * math.pi) + log_det + quadratic) / 2

    def expected(self, h: Tensor) -> Tensor:
        """E[x | h] = W h + mu, (B, d), which may leave [0, 1)."""
        return h @ self.W.T + self.mean

    def draw(self, h: Tensor, temperature: float = 1.0) -> Tensor:
        """Images (B, d) from N(W h + mu, T^2 Psi), clamped to the lowest values of the outermost grey levels."""
        noise = temperature * self.psi.sqrt() * self.psi.new_empty(len(h), len(self.psi)).normal_()
        return (self.expected(h) + noise).clamp(0, 255 / 256)

    def sample(self, count: int, temperature: float = 1.0) -> Tensor:
        """Images (count, d) from N(mu, T^2 C), clamped as in :meth:`draw`."""
        return self.draw(temperature * self.W.new_empty(count, self.W.shape[1]).normal_(), temperature)

    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """Images (B, d) with the pixels that are not ``known`` (bool, same shape) drawn given those that are.

        The factors given the known pixels come first, then the other pixels given the factors.
        """
        weight = known / self.psi  # (B, d); a masked pixel has no precision
        precision = torch.eye(self.W.shape[1]).to(self.W) + (self.W.T * weight.unsqueeze(1)) @ self.W  # (B, q, q)
        L = torch.linalg.cholesky(precision)
        evidence = (((x - self.mean) * weight) @ self.W).unsqueeze(2)
        deviation = torch.linalg.solve_triangular(L.mT, torch.randn_like(evidence), upper=True)
        return torch.where(known, x, self.draw((torch.cholesky_solve(evidence, L) + deviation).squeeze(2)))

    def latent_units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`gen.model.Infers`: in the rotation of h in which M is diagonal, strongest factor first.

        There, and only there, the factors stay independent given x, and KL(p(h | x) || p(h)) is a sum over them.
        """
        strength, R = torch.linalg.eigh((self.W.T / self.psi) @ self.W)
        means = self.posterior_mean(x) @ R.flip(1)
        variance = 1 / (1 + strength.flip(0).clamp(min=0))
        return means, (variance + means.square() - 1 - variance.log()) / 2

    def pictures(self, shape: tuple[int, int, int]) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`: principal axes of W W^T, strongest first (grey is 0), mean and Psi^1/2."""
        axes = torch.linalg.svd(self.W, full_matrices=False)[0].T
        pictures = {
            "loadings": (axes / axes.abs().amax(1, keepdim=True) / 2 + 1 / 2).unflatten(1, shape),
            "mean": self.mean.clamp(0, 1).view(1, *shape),
        }
        if self.psi.min() < self.psi.max():  # equal on all pixels it is nothing to look at
            pictures["noise"] = (self.psi.sqrt() / self.psi.sqrt().max()).view(1, *shape)
        return pictures
