"""Toy distributions whose truth is known: points in the plane, and tiny binary images.

A model that cannot fit these is wrong, and how wrong can be computed exactly. Points are (N, 2) and images
(N, 1, H, W), floating point; they are drawn from torch's default generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gen.errors import RecipeError


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Equally likely round Gaussians: p(x) = 1/K sum_k N(x; mean_k, std^2 I).

    Attributes:
        means: (K, D).
        std: standard deviation in every direction.
    """

    means: Tensor
    std: float

    def sample(self, count: int) -> Tensor:
        """Points, (count, D)."""
        means = self.means[torch.randint(len(self.means), (count,))]
        return means + self.std * torch.randn_like(means)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-density in nats: (N, D) -> (N,)."""
        squared = (x[:, None] - self.means.to(x)).square().sum(-1) / self.std**2  # (N, K)
        dims = self.means.shape[1]
        normalizer = math.log(len(self.means)) + dims * (0.5 * math.log(2 * math.pi) + math.log(self.std))
        return torch.logsumexp(-0.5 * squared, 1) - normalizer


def ring(modes: int = 8, radius: float = 2.0, std: float = 0.02) -> Mixture:
    """Gaussians on a circle, on which a GAN shows mode collapse (Metz et al. 2017, unrolled GAN, section 3.1)."""
    angle = torch.arange(modes) * (2 * math.pi / modes)
    return Mixture(radius * torch.stack([angle.cos(), angle.sin()], 1), std)


def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05) -> Mixture:
    """Gaussians on a square grid around the origin: 25 by default (Lin et al. 2018, PacGAN)."""
    line = (torch.arange(side) - (side - 1) / 2) * spacing
    return Mixture(torch.cartesian_prod(line, line), std)


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """One Gaussian with any covariance.

    Attributes:
        mean: (D,).
        covariance: (D, D), positive definite.
    """

    mean: Tensor
    covariance: Tensor

    def sample(self, count: int) -> Tensor:
        """Points, (count, D)."""
        noise = torch.randn(count, len(self.mean), dtype=self.mean.dtype)
        factor: Tensor = torch.linalg.cholesky(self.covariance)
        return self.mean + noise @ factor.T

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-density in nats: (N, D) -> (N,)."""
        factor: Tensor = torch.linalg.cholesky(self.covariance.to(x))
        white: Tensor = torch.linalg.solve_triangular(factor, (x - self.mean.to(x)).T, upper=False)  # (D, N)
        log_det = 2 * factor.diagonal().log().sum()
        return -0.5 * (white.square().sum(0) + log_det + len(self.mean) * math.log(2 * math.pi))


@dataclass(frozen=True, slots=True)
class TwoMoons:
    """Two interleaved half circles of radius 1, blurred by a Gaussian. Samples only: the density has no closed form.

    Attributes:
        std: of the blur.
    """

    std: float = 0.05

    def sample(self, count: int) -> Tensor:
        """Points, (count, 2)."""
        angle, lower = torch.rand(count) * math.pi, torch.rand(count) < 0.5
        upper_moon = torch.stack([angle.cos(), angle.sin()], 1)
        lower_moon = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
        points = torch.where(lower[:, None], lower_moon, upper_moon)
        return points + self.std * torch.randn_like(points)


@dataclass(frozen=True, slots=True, eq=False)
class BinaryImages:
    """A distribution over all binary images of a tiny size, given as a table.

    Attributes:
        images: all of them, values 0 and 1, (2^(H W), 1, H, W); see :func:`all_images`.
        probability: of each, (2^(H W),), summing to 1.
    """

    images: Tensor
    probability: Tensor

    def sample(self, count: int) -> Tensor:
        """Images, (count, 1, H, W)."""
        return self.images[torch.multinomial(self.probability, count, replacement=True)]

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-probability in nats: (N, 1, H, W) of 0 and 1 -> (N,)."""
        place = 2 ** torch.arange(x[0].numel() - 1, -1, -1, device=x.device)
        row = (x.flatten(1).long() * place).sum(1)
        return self.probability.to(x)[row].log()

    def entropy(self) -> float:
        """In nats: the lowest mean negative log-likelihood that any model can reach."""
        return float(-torch.xlogy(self.probability, self.probability).sum())


def all_images(height: int, width: int) -> Tensor:
    """Every binary image of a size, (2^(H W), 1, H, W); row r spells r in binary, the first pixel the highest bit.

    Raises:
        RecipeError: more than 16 pixels.
    """
    dims = height * width
    if not 1 <= dims <= 16:
        raise RecipeError(f"toys: found {height} x {width} pixels, allowed 1 to 16 in all: every image is enumerated.")
    bits = torch.arange(2**dims)[:, None] >> torch.arange(dims - 1, -1, -1) & 1
    return bits.to(torch.get_default_dtype()).view(-1, 1, height, width)


def bars_and_stripes(side: int = 3) -> BinaryImages:
    """Half the images have whole rows on, half whole columns (MacKay 2003, chapter 43).

    All 2^side patterns of either kind are equally likely; all off and all on belong to both.
    """
    images = all_images(side, side)
    rows = (images == images[..., :, :1]).flatten(1).all(1)
    columns = (images == images[..., :1, :]).flatten(1).all(1)
    return BinaryImages(images, (rows.double() + columns.double()) / 2 ** (side + 1))


def ising(side: int = 3, coupling: float = 0.7, field: float = 0.3) -> BinaryImages:
    """Every image is possible and pixels depend on each other: p(x) ~ exp(J sum_<ij> s_i s_j + h sum_i s_i).

    s = 2x - 1, and <ij> runs over pairs of neighbours, without wrapping around.
    """
    images = all_images(side, side)
    s = 2 * images.double() - 1
    right, down = s[..., 1:] * s[..., :-1], s[..., 1:, :] * s[..., :-1, :]
    pairs = right.flatten(1).sum(1) + down.flatten(1).sum(1)
    return BinaryImages(images, (coupling * pairs + field * s.flatten(1).sum(1)).softmax(0))
