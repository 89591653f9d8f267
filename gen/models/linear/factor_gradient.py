"""Linear factor model by gradient: probabilistic PCA and factor analysis, climbed instead of solved.

The model is that of the chapter `factor`: a handful of factors h, mixed linearly, and Gaussian noise on every pixel,
with one variance for all (probabilistic PCA [1]) or one for each (factor analysis [2]). Its likelihood is exact and
differentiable, so it can be learnt like any network, without an E-step, an M-step or a closed form. In the coordinates
of pixels that is slow: the likelihood is as steep as one over the noise in some directions and as flat as one over the
largest variance in others, and on digits Adam is 100 nats below the maximum after 100,000 images. So the first training
images say what a length is. In coordinates in which they are white, all directions are about equally steep, as they are
for the natural gradient [3], and the same 100,000 images end 0.2 nats below the maximum.

    h ~ N(0, I_q),    x | h ~ N(W h + mu, Psi),    hence    x ~ N(mu, C),  C = W W^T + Psi

Objective: max E log N(x; mu, C), exact (`gen.inference.factor`), over a, V and s in

    mu = mu_0 + A a,    W = A V,    Psi = diag(exp(2 s)),    A = D U L^1/2,

where mu_0 and D are the first images' mean and deviations (one for all pixels if Psi is isotropic), and U L U^T their
covariance in units of D. Its eigenvalues beyond the q-th are raised to their mean, which is what probabilistic PCA
takes for noise: no direction of C is narrower. A and mu_0 stay as they are; V starts at random. A has d^2 numbers, so
images should have no more than a few thousand pixels.

Algorithm: Adam on -log p with a learning rate that falls to 0. After every step s is raised to where Psi is at least
the floor: projected gradient, whose maximum is the constrained one.

Logged: `log_likelihood` (nats per image, exact, before the update), `noise` (root mean Psi, in units of x).

[1] M. Tipping, C. Bishop (1999). Probabilistic principal component analysis.
[2] D. Rubin, D. Thayer (1982). EM algorithms for ML factor analysis.
[3] S. Amari (1998). Natural gradient works efficiently in learning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from gen.data.spaces import DataSpec
from gen.inference.factor import NOISES, LinearGaussian, check
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.registry import register


@register("factor_gradient")
class FactorGradient(GenerativeModel):
    """Probabilistic PCA or factor analysis by gradient ascent.

    Args:
        latents: q, columns of W, from 1 to the number of pixels less one.
        noise: ``isotropic``, Psi = sigma^2 I, or ``diagonal``.
        floor: smallest variance in Psi, in units of x^2. The default is a deviation of 2.6 grey levels; a pixel that is
            always black varies by its dequantisation noise only, and would make every other value impossible.
    """

    spaces = ("dequantized",)

    origin: Tensor  # mu_0, (d,)
    metric: Tensor  # A, (d, d)

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: int = 32,
        noise: Literal["isotropic", "diagonal"] = "isotropic",
        floor: float = 1e-4,
    ) -> None:
        super().__init__(spec)
        check(latents, noise, floor, spec.dims)
        self.latents, self.floor, self.pool = latents, floor, NOISES[noise]
        # As of x uniform on [0, 1), until `initialize` has seen what it is.
        deviation = math.sqrt(1 / 12)
        self.register_buffer("origin", torch.full((spec.dims,), 1 / 2))
        self.register_buffer("metric", deviation * torch.eye(spec.dims))
        self.shift = nn.Parameter(torch.zeros(spec.dims))  # a, (d,)
        self.loadings = nn.Parameter(torch.randn(spec.dims, latents) / math.sqrt(spec.dims))  # V, (d, q)
        self.log_deviation = nn.Parameter(torch.full((spec.dims,), math.log(deviation)))  # s, (d,)

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=0.02, decay="linear")}

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """See base. Sets mu_0 and A, and starts Psi at half of the pixels' variances."""
        x = x.flatten(1)
        variance = self.pool(x.var(0, correction=0)).clamp(min=self.floor)
        eigenvalues, U = torch.linalg.eigh(torch.cov(((x - x.mean(0)) / variance.sqrt()).T, correction=0))  # ascending
        noise = eigenvalues[: -self.latents].mean().clamp(min=torch.finfo(x.dtype).eps)
        self.origin.copy_(x.mean(0))
        self.metric.copy_(variance.sqrt().unsqueeze(1) * U * eigenvalues.clamp(min=noise).sqrt())
        self.log_deviation.copy_((variance / 2).clamp(min=self.floor).log() / 2)

    def gaussian(self) -> LinearGaussian:
        """The distribution of images."""
        psi = (2 * self.pool(self.log_deviation)).exp()
        return LinearGaussian(self.origin + self.metric @ self.shift, self.metric @ self.loadings, psi)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -log p(x) in nats per image."""
        gaussian = self.gaussian()
        loss = -gaussian.log_prob(batch.x.flatten(1)).mean()
        return loss, {"log_likelihood": -loss.detach(), "noise": gaussian.psi.detach().mean().sqrt()}

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """One step of projected gradient ascent."""
        yield Update("model", *self.loss(next(batches)))
        with torch.no_grad():
            self.log_deviation.clamp_(min=math.log(self.floor) / 2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x) in nats, (B,), of images (B, C, H, W)."""
        return self.gaussian().log_prob(x.flatten(1))

    def likelihoods(self) -> dict[str, Likelihood]:
        """See :class:`gen.model.Scores`."""
        return {"exact": Likelihood("exact", self.log_prob)}

    @torch.no_grad()
    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See :class:`gen.model.Samples`: x ~ N(mu, T^2 C). Grey values outside [0, 1) become black or white."""
        return self.gaussian().sample(count, temperature).unflatten(1, self.spec.shape)

    @torch.no_grad()
    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """See :class:`gen.model.Completes`. Exact."""
        return self.gaussian().complete(x.flatten(1), known.flatten(1)).unflatten(1, self.spec.shape)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`. Posterior means, (B, q)."""
        return self.gaussian().posterior_mean(x.flatten(1))

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`. W h + mu, which may leave [0, 1)."""
        return self.gaussian().expected(code).unflatten(1, self.spec.shape)

    @torch.no_grad()
    def latent_units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`gen.model.Infers`. In the rotation in which the factors stay independent given x."""
        return self.gaussian().latent_units(x.flatten(1))

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`. Principal axes of W W^T, strongest first (grey is 0), mean and Psi^(1/2)."""
        return self.gaussian().pictures(self.spec.shape)
