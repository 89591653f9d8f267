"""Conditional VAE: the class is told, and the code explains what the class leaves open.

A VAE of digits spends much of its code on saying which digit it is. Here the class y is given to decoder and encoder,
so that z is left with slant, stroke and style; at the same z, another y writes another digit in the same hand.
It is the generative part of model M2 of [1], with all labels known, and the model of [2] with a prior that ignores y.
What is maximised is a bound of log p(x|y). Its nats are not those of a model without labels, which has to find the
class as well, so evaluation, which shows images alone, gets log p(x): the class is one more latent variable, inferred
by Bayes' rule from the bounds of all classes. What is bounded given the class is logged in training.

    L(x, y) = E_{z ~ q(z|x,y)} log p(x|z,y) - KL(q(z|x,y) || p(z)) <= log p(x|y),  p(z) = N(0, I)    (eq. 6 of [1])
    q(y|x)  = p(y) exp L(x, y) / sum_y' p(y') exp L(x, y')
    log p(x) >= E_{y ~ q(y|x)} E_{z ~ q(z|x,y)} log [p(x|z,y) p(z) p(y) / q(z|x,y) q(y|x)]              (eq. 7 of [1])

The last is tightened by K importance samples (y_k, z_k), as for the VAE. [1] trains a classifier for q(y|x), which it
needs for images without labels; any q(y|x) gives a bound, and this one gives the best, as far as L(x, y) is known: here
it is taken at one code, the mean of q(z|x,y).

Nets: an encoder of the image to features, to which a class adds a vector of its own; a ReLU, a linear map to mean and
log-variance; a decoder of the code and an embedding of the class. The embedding outweighs z at the start: with one
number for each class, z says all there is to say before the decoder heeds y, and never quite unlearns it.
Algorithm: gradient descent on -L(x, y), one z per image. p(y) is the mean of the classes' frequencies over all batches
so far: with draws that balance the classes, even.

Metrics: reconstruction and kl given the class, in nats per image, their sum being -L(x, y); at validation also
class_accuracy, the share of images whose most probable class under q(y|x) is the right one.

[1] D. Kingma, D. Rezende, S. Mohamed, M. Welling. Semi-Supervised Learning with Deep Generative Models. 2014.
[2] K. Sohn, H. Lee, X. Yan. Learning Structured Output Representation using Deep Conditional Generative Models. 2015.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import DataError, RecipeError
from gen.inference.importance import elbo, gaussian_codes, iwae
from gen.losses.likelihoods import gaussian_kl
from gen.losses.observation import LikelihoodName, observation
from gen.model import Adam, Batch, GenerativeModel, Likelihood, Metrics, Optim, Progress, Update
from gen.nets.coders import Activation, Net, decoder, encoder, set_bias
from gen.registry import register


@register("conditional_vae")
class ConditionalVAE(GenerativeModel):
    """See module.

    Args:
        latents: dimensions of z.
        features: numbers that the image is turned into before the class comes in.
        embedding: length of the vector that stands for a class beside z; the longer, the sooner the decoder heeds it.
        net: ``mlp`` or ``conv``; see :mod:`gen.nets.coders`.
        hidden: of the encoder, units of its hidden layers or channels after each halving; the decoder mirrors it.
        activation: ``relu`` or ``tanh``.
        likelihood: of spaces with more than two levels; see :mod:`gen.losses.observation`.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")
    conditional: ClassVar[bool] = True
    class_frequencies: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: int = 20,
        features: int = 200,
        embedding: int = 100,
        net: Net = "mlp",
        hidden: Sequence[int] = (400,),
        activation: Activation = "relu",
        likelihood: LikelihoodName = "categorical",
    ) -> None:
        super().__init__(spec)
        at_least(1, latents=latents, features=features, embedding=embedding)
        if spec.num_classes < 1:
            raise RecipeError("dataset: conditional_vae needs class labels, and these data have none. Use vae.")
        self.latents, self.classes = latents, spec.num_classes
        self.observation = observation(spec.space, likelihood)
        outputs = self.observation.outputs
        self.encoder = encoder(spec.shape, features, net=net, hidden=hidden, activation=activation)
        self.label = nn.Linear(self.classes, features, bias=False)
        self.head = nn.Linear(features, 2 * latents)
        self.embedding = nn.Parameter(torch.randn(self.classes, embedding))
        self.decoder = decoder(latents + embedding, outputs, spec.shape, net=net, hidden=hidden, activation=activation)
        self.register_buffer("class_frequencies", torch.full((self.classes,), 1 / self.classes))

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=1e-3)}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at pixels by themselves, so that z need not explain what all images share."""
        set_bias(self.decoder, self.observation.start(x))

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """See base. Also keeps the mean over all steps of the classes' frequencies."""
        batch = next(batches)
        seen = self.one_hot(self._labels(batch)).mean(0)
        self.class_frequencies.lerp_(seen, 1 / (progress.step + 1))
        yield Update("model", *self.loss(batch))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -L(x, y) in nats per image."""
        y = self.one_hot(self._labels(batch))
        mean, log_var = self.posterior(self.encoder(batch.x), y)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        log_likelihood, kl = self._log_likelihood(batch.x, z, y), gaussian_kl(mean, log_var).sum(1)
        loss, kl = (kl - log_likelihood).mean(), kl.detach().mean()
        return loss, {"reconstruction": loss.detach() - kl, "kl": kl}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. Adds the share of images whose class is found."""
        loss, metrics = self.loss(batch)
        found = self.class_log_probs(batch.x).argmax(1) == self._labels(batch)
        return {"loss": loss, **metrics, "class_accuracy": found.to(loss).mean()}

    def one_hot(self, labels: Tensor) -> Tensor:
        """Labels, int64 (B,) -> (B, classes)."""
        return F.one_hot(labels, self.classes).to(self.class_frequencies.dtype)

    @staticmethod
    def _labels(batch: Batch) -> Tensor:
        if batch.y is None:
            raise DataError("conditional_vae: this batch has no class labels. Give them to all images, or use vae.")
        return batch.y

    def posterior(self, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder makes of an image, (..., features), and its class, (..., classes) -> q(z|x,y).

        Returns:
            Mean and log-variance, each (..., latents).
        """
        mean, log_var = self.head(F.relu(features + self.label(y))).chunk(2, dim=-1)
        return mean, log_var

    def outputs(self, z: Tensor, y: Tensor) -> Tensor:
        """Codes (N, latents) and classes (N, classes) -> parameters of p(x|z,y), (N, P, C, H, W)."""
        parameters: Tensor = self.decoder(torch.cat([z, y @ self.embedding], 1))
        return parameters

    def _log_likelihood(self, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """log p(x|z,y) of images (N, C, H, W), codes (N, latents) and classes (N, classes), nats, (N,)."""
        return self.observation.log_prob(self.outputs(z, y), x)

    def class_log_probs(self, x: Tensor) -> Tensor:
        """log q(y|x), see module: images (B, C, H, W) -> nats, (B, classes)."""
        y = torch.eye(self.classes, dtype=x.dtype, device=x.device).repeat(len(x), 1)
        mean, log_var = self.posterior(self.encoder(x).repeat_interleave(self.classes, 0), y)
        log_likelihood = self._log_likelihood(x.repeat_interleave(self.classes, 0), mean, y)
        bound = (log_likelihood - gaussian_kl(mean, log_var).sum(1)).view(len(x), self.classes)
        return (bound + self.class_frequencies.log()).log_softmax(1)

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """log p(x, z_k, y_k) - log q(z_k, y_k|x) with y_k ~ q(y|x), z_k ~ q(z|x,y_k): (B, C, H, W) -> (samples, B)."""
        log_q = self.class_log_probs(x)
        label = log_q.exp().multinomial(samples, replacement=True)  # (B, samples)
        log_ratio = (self.class_frequencies.log() - log_q).gather(1, label).T.flatten()  # log p(y) - log q(y|x)
        y = self.one_hot(label.T.flatten())  # (samples B, classes), as what follows
        features = self.encoder(x).repeat(samples, 1)
        z, of_code = gaussian_codes(*self.posterior(features, y), 1)
        log_likelihood = self._log_likelihood(x.repeat(samples, 1, 1, 1), z[0], y)
        return (log_ratio + of_code[0] + log_likelihood).view(samples, len(x))

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base: z ~ N(0, T^2 I), then every pixel from p(x|z,y) at the temperature T; y ~ p(y) if none is given."""
        z = temperature * self.class_frequencies.new_empty(count, self.latents).normal_()
        labels = self.class_frequencies.multinomial(count, replacement=True) if condition is None else condition
        return self.observation.sample(self.outputs(z, self.one_hot(labels)), temperature)

    def encode(self, x: Tensor) -> Tensor:
        """See base: the most probable class y under q(y|x), and the mean of q(z|x,y): [z, one-hot y]."""
        y = self.one_hot(self.class_log_probs(x).argmax(1))
        return torch.cat([self.posterior(self.encoder(x), y)[0], y], 1)

    def decode(self, code: Tensor) -> Tensor:
        """See base: E[x|z,y], for bits the probability of a 1, (B, C, H, W)."""
        z, y = code.split([self.latents, self.classes], 1)
        return self.observation.mean(self.outputs(z, y))

    @torch.no_grad()
    def latent_units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`gen.model.Infers`, of z given the most probable class."""
        y = self.one_hot(self.class_log_probs(x).argmax(1))
        mean, log_var = self.posterior(self.encoder(x), y)
        return mean, gaussian_kl(mean, log_var)

    def likelihoods(self) -> dict[str, Likelihood]:
        """See base: of log p(x), whatever the class. ``elbo`` draws 16 pairs (y, z) per image, ``iwae_K`` draws K."""
        outputs = self.observation.outputs
        return {
            "elbo": Likelihood("lower bound", partial(elbo, self.log_weights, samples=16, outputs=outputs)),
            "iwae_50": Likelihood("lower bound", partial(iwae, self.log_weights, samples=50, outputs=outputs)),
            "iwae_500": Likelihood("lower bound", partial(iwae, self.log_weights, samples=500, outputs=outputs)),
        }
