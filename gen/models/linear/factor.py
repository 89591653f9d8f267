"""Linear factor model: an image is a weighted sum of a few patterns plus Gaussian noise.

The simplest latent variable model, and one of the few whose likelihood and posterior are exact. A handful of factors h
is drawn, mixed linearly, and every pixel adds noise of its own. With equal noise on all pixels, Psi = sigma^2 I,
it is probabilistic PCA [1]: W spans the principal subspace, and the maximum has a closed form (`gen.inference.ppca`).
With one variance per pixel it is factor analysis [2]: W explains what pixels share and Psi keeps what each has alone.
Rotating h leaves C as it was, so W means something only up to a rotation: compare subspaces, not columns.

    h ~ N(0, I_q),    x | h ~ N(W h + mu, Psi),    hence    x ~ N(mu, C),  C = W W^T + Psi

Objective: max E log N(x; mu, C), exact and without ever forming C (`gen.inference.factor`).

Algorithm: EM. The model's parameters *are* its sufficient statistics, and W and Psi are functions of them.

    E-step    s^ = E over the batch of   x,  (x - mu)^2,  E[(x - mu) h^T | x],  E[h h^T | x]
    update    s <- s + lr (s^ - s), gradient descent on 1/2 |s - s^|^2; with lr = 1 on all data classic EM,
              with a decaying lr on batches stepwise EM [3]
    M-step    R = E[h h^T],  W = E[(x - mu) h^T] R^-1 R^(1/2),  Psi = E[(x - mu)^2] - diag(W W^T)

(Psi is then averaged over pixels, or not, and floored.) The factor R^(1/2) is parameter expansion [4]: h ~ N(0, R) is
allowed during the step and folded back into W. It costs nothing and spares EM its slowest part, finding the length of
each column of W where the noise is small: on digits a third of the steps are left. The chapter `factor_gradient` climbs
the same likelihood by its gradient.

Logged: `log_likelihood` (nats per image, exact, before the update), `noise` (root mean Psi, in units of x).

[1] M. Tipping, C. Bishop (1999). Probabilistic principal component analysis.
[2] D. Rubin, D. Thayer (1982). EM algorithms for ML factor analysis.
[3] O. Cappe, E. Moulines (2009). On-line expectation-maximization algorithm for latent data models.
[4] C. Liu, D. Rubin, Y. N. Wu (1998). Parameter expansion to accelerate EM: the PX-EM algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from gen.data.spaces import DataSpec
from gen.inference.factor import NOISES, LinearGaussian, check
from gen.model import SGD, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.registry import register


@register("factor")
class FactorModel(GenerativeModel):
    """Probabilistic PCA or factor analysis.

    Args:
        latents: q, columns of W, from 1 to the number of pixels less one.
        noise: ``isotropic``, Psi = sigma^2 I, or ``diagonal``.
        floor: smallest variance in Psi, in units of x^2; the maximum is then the constrained one. A pixel that is
            always black in training varies by its dequantisation noise only, (1/256)^2 / 12 = 1.3e-6, and without a
            floor a test image that lights it costs 10^5 nats. The default is a deviation of 2.6 grey levels.
    """

    spaces = ("dequantized",)

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
        # As of x uniform on [0, 1), with half of each pixel's variance shared through random W.
        directions = nn.functional.normalize(torch.randn(spec.dims, latents), dim=1)
        self.mean = nn.Parameter(torch.full((spec.dims,), 1 / 2))  # E[x] = mu, (d,)
        self.variance = nn.Parameter(torch.full((spec.dims,), 1 / 12))  # E[(x - mu)^2], (d,)
        self.cross = nn.Parameter(directions * math.sqrt(1 / 24))  # E[(x - mu) h^T], (d, q)
        self.latent = nn.Parameter(torch.eye(latents))  # R = E[h h^T], (q, q)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """See base."""
        return {"statistics": [self.mean, self.variance, self.cross, self.latent]}

    def optimizers(self) -> dict[str, Optim]:
        """Step sizes from 1 to 0: forget the start, then average over ever more batches [3]."""
        return {"statistics": SGD(lr=1.0, decay="linear")}

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """See base. Takes over the pixels' means and variances."""
        mean, variance = x.flatten(1).mean(0), x.flatten(1).var(0, correction=0)
        self.cross.mul_((variance / self.variance).sqrt().unsqueeze(1))
        self.mean.copy_(mean)
        self.variance.copy_(variance)

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """Stepwise EM; the M-step is taken wherever W and Psi are asked for, so nothing follows the update."""
        x = next(batches).x.flatten(1)
        statistics, expected = self.groups()["statistics"], self.e_step(x)
        distances = [(s - s_hat).square().sum() / 2 for s, s_hat in zip(statistics, expected, strict=True)]
        loss = torch.stack(distances).sum()
        yield Update("statistics", loss, self.metrics(x))

    @torch.no_grad()
    def e_step(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Expected statistics of images (B, d) under the posterior, shaped and ordered as the group's parameters."""
        gaussian = self.gaussian()
        h, residual = gaussian.posterior_mean(x), x - self.mean
        return (
            x.mean(0),
            residual.square().mean(0),
            residual.T @ h / len(x),
            torch.cholesky_inverse(gaussian.cholesky) + h.T @ h / len(x),
        )

    def m_step(self) -> tuple[Tensor, Tensor]:
        """W (d, q) and the diagonal of Psi (d,) that maximise the expected likelihood given the statistics."""
        L = torch.linalg.cholesky(self.latent)  # R = L L^T, so R^-1 R^(1/2) is L^-T
        W = torch.linalg.solve_triangular(L, self.cross.T, upper=False).T
        return W, self.pool(self.variance - W.square().sum(1)).clamp(min=self.floor)

    def gaussian(self) -> LinearGaussian:
        """The distribution of images that the statistics stand for."""
        return LinearGaussian(self.mean, *self.m_step())

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x) in nats, (B,), of images (B, C, H, W)."""
        return self.gaussian().log_prob(x.flatten(1))

    @torch.no_grad()
    def metrics(self, x: Tensor) -> Metrics:
        """What the module's docstring says is logged."""
        return {"log_likelihood": self.log_prob(x).mean(), "noise": self.m_step()[1].mean().sqrt()}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. The loss is -log p(x); that of the update is a distance between statistics."""
        metrics = self.metrics(batch.x)
        return {"loss": -metrics["log_likelihood"], **metrics}

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
