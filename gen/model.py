"""The contract between a model and the loop.

Every training procedure here is a sequence of updates, each moving one named group of parameters down the gradient
of one scalar. The model writes that sequence, in the order of the paper's algorithm box; the loop owns everything
else: optimizers, precision, data parallelism, clipping, averaging, checkpoints, logs.

    class WGANGP(GenerativeModel):
        def updates(self, batches, progress):
            for _ in range(self.critic_steps):                  # Algorithm 1, lines 2-10
                yield Update("critic", *self.critic_loss(next(batches)))
            yield Update("generator", *self.generator_loss(next(batches)))

The rules that keep it true (each is a contract test over every registered model):

1. The groups yielded are the same on every rank and depend on rank-identical values only.
2. No ``yield`` inside a context manager: the mode would leak into the loop.
3. Randomness comes from torch's default generator, which the loop reseeds at every step.
4. Stages are a function of ``progress``; every group exists from step 0.
5. State that belongs to one rank (Gibbs chains, replay buffers) is a buffer named in ``rank_local``.
6. What follows a ``yield`` runs after the optimizer's step and may be repeated: it must be idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gen.data.spaces import DataSpec

Metrics = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """A local batch.

    Attributes:
        x: images in the model's space, float, (B, C, H, W); videos are (B, C, T, H, W).
        y: class labels, int64, (B,); this and what follows is ``None`` where the data have none.
        target: the images that belong to them, in the model's space, float, (B, C', H', W').
        caption: texts that describe them, UTF-8 with zeros after it, uint8, (B, L).
        attributes: numbers that describe them, float32, (B, A).
    """

    x: Tensor
    y: Tensor | None = None
    target: Tensor | None = None
    caption: Tensor | None = None
    attributes: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The clock. Everything that changes during training is a function of the images seen, never of epochs.

    Attributes:
        step: passes through ``updates`` completed so far.
        images: images drawn so far, over all ranks.
        budget: images after which training ends.
    """

    step: int
    images: int
    budget: int

    @property
    def fraction(self) -> float:
        """Share of the budget spent, in [0, 1]."""
        return min(1.0, self.images / self.budget)


class Update(NamedTuple):
    """One move: the parameters of ``group`` go down the gradient of ``loss``.

    Attributes:
        group: a key of :meth:`GenerativeModel.groups`.
        loss: scalar, a mean over the local batch.
        metrics: detached scalars to log.
    """

    group: str
    loss: Tensor
    metrics: Metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Optim:
    """What every optimizer shares. Use :class:`Adam`, :class:`SGD` or :class:`RMSprop`.

    Attributes:
        lr: learning rate at its peak.
        weight_decay: decoupled for Adam (AdamW), added to the gradient for the others.
        clip: largest global norm of the group's gradient; ``None`` leaves it alone.
        warmup: images over which the learning rate rises linearly from 0.
        decay: shape of the learning rate over the budget; ``linear`` and ``cosine`` end at 0.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float | None = None
    warmup: int = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"


@dataclass(frozen=True, kw_only=True, slots=True)
class Adam(Optim):
    """Kingma & Ba 2015; with weight decay, AdamW (Loshchilov & Hutter 2019)."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD(Optim):
    """Stochastic gradient descent, with momentum if asked."""

    momentum: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RMSprop(Optim):
    """Tieleman & Hinton 2012."""

    alpha: float = 0.99
    eps: float = 1e-8


class GenerativeModel(nn.Module):
    """Base of every model. A subclass is one file, one chapter; most write only ``__init__``, ``loss`` and ``sample``.

    A constructor takes the :class:`DataSpec` first and then keyword-only, typed hyper-parameters with the paper's
    (or a good small) value as the default. It is the schema of the recipe's ``hyper`` section.

    Attributes:
        spaces: kinds of space (see :mod:`gen.data.spaces`) the objective is meant for.
        rank_local: names of buffers that belong to one rank, e.g. persistent chains.
        eager: names of networks that ``training.compile`` leaves alone, e.g. one whose gradient is differentiated.
        conditional: whether ``sample`` takes class labels.
        videos: whether the data are videos; where images are spoken of below, they are (B, C, T, H, W).

    Persistent floating-point buffers that are not rank-local (running statistics) are averaged over ranks after every
    step; register constants with ``persistent=False``.
    """

    spaces: ClassVar[tuple[str, ...]]
    rank_local: ClassVar[tuple[str, ...]] = ()
    eager: ClassVar[tuple[str, ...]] = ()
    conditional: ClassVar[bool] = False
    videos: ClassVar[bool] = False

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Named groups of parameters. A parameter may be in several (a trunk under two heads)."""
        return {"model": list(self.parameters())}

    def optimizers(self) -> dict[str, Optim]:
        """The optimizer of each group, as in the paper. A recipe overrides single fields."""
        return {name: Adam() for name in self.groups()}

    def initialize(self, x: Tensor) -> None:
        """Data-dependent initialisation. Called once before step 0, with the same images on every rank.

        Args:
            x: some training images in the model's space, (N, C, H, W).
        """

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The objective to minimise, mean over the batch, and what to log about it."""
        raise NotImplementedError(f"{type(self).__name__} trains through updates(); it has no single loss")

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """One pass through the algorithm. Every ``next(batches)`` draws one batch and moves the clock."""
        yield Update("model", *self.loss(next(batches)))

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """What to watch on held-out data during training: scalars, means over the batch. Default: the loss."""
        loss, metrics = self.loss(batch)
        return {"loss": loss, **metrics}


# ---- capabilities: evaluation asks "can you?", never "who are you?" ------------------------------------------------


@runtime_checkable
class Samples(Protocol):
    """Draws images."""

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """``count`` images in the model's space, (count, C, H, W), from the default generator.

        Args:
            condition: class labels, int64, (count,), for conditional models.
            temperature: above 0. 1 is the model itself, bit for bit; lower draws closer to what it holds most
                typical, higher farther away, each model in its own sense.
        """
        ...


class Likelihood(NamedTuple):
    """One way to say log p(x), and what it can claim.

    Attributes:
        kind: ``exact``; ``lower bound`` (in expectation below log p); ``estimate`` (consistent, may err either way).
        log_prob: images in the model's space (B, C, H, W) -> log p(x) in nats, (B,).
    """

    kind: Literal["exact", "lower bound", "estimate"]
    log_prob: Callable[[Tensor], Tensor]


@runtime_checkable
class Scores(Protocol):
    """Says how likely an image is."""

    def likelihoods(self) -> dict[str, Likelihood]:
        """Estimators by name (``exact``, ``elbo``, ``iwae_500``, ``ais``), the one to quote last.

        Work shared by all images (AIS chains for log Z) is done in this call, once.
        """
        ...


@runtime_checkable
class Encodes(Protocol):
    """Infers a code from an image and maps it back."""

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> codes (B, K)."""
        ...

    def decode(self, code: Tensor) -> Tensor:
        """Codes (B, K) -> images (B, C, H, W)."""
        ...


@runtime_checkable
class Infers(Protocol):
    """Holds a distribution over latent units for every image, and can say what each of them carries."""

    def latent_units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> the posterior's means, (B, K); each unit's share of KL(q || p) in nats, (B, K)."""
        ...


@runtime_checkable
class Denoises(Protocol):
    """Undoes a corruption that it was trained on."""

    def corrupt(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> corrupted ones, from the default generator; values may leave the space."""
        ...

    def denoise(self, x: Tensor) -> Tensor:
        """Corrupted images (B, C, H, W) -> clean ones."""
        ...


@runtime_checkable
class Completes(Protocol):
    """Fills in masked pixels."""

    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """Images (B, C, H, W) whose pixels are kept where ``known`` (bool, same shape) and drawn elsewhere."""
        ...


@runtime_checkable
class Translates(Protocol):
    """Turns an image of one kind into the image of another that belongs to it."""

    def translate(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> images (B, C', H', W'), both in the model's space."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """Says how a video goes on."""

    def given(self) -> int:
        """Frames that it is trained to go on from; those after them it predicts."""
        ...

    def predict(self, context: Tensor, frames: int) -> Tensor:
        """The next frames, drawn from the model: (B, C, T0, H, W), T0 of at least 1 -> (B, C, frames, H, W)."""
        ...

    def frame_log_probs(self, x: Tensor) -> Tensor:
        """Videos (B, C, T, H, W) -> log p of each frame after those given, given all before it, nats, (B, T - T0)."""
        ...


@runtime_checkable
class Pictures(Protocol):
    """Shows what it has learnt: filters, atoms, fantasies."""

    def pictures(self) -> dict[str, Tensor]:
        """Named stacks of small images in [0, 1], (N, C, h, w), each drawn as a grid."""
        ...
