"""Bench: a model beside the real images, seen as it sees them, and the judge; and the scores that come of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import torch
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.evaluate.judge import Judge, extract
from gen.evaluate.seeds import fixed_seed
from gen.model import GenerativeModel


class Score(TypedDict):
    """One number, and what it was measured on and with."""

    value: float
    protocol: dict[str, Any]


Measured = tuple[dict[str, Score], dict[str, Tensor]]  # scores by name, pictures (uint8) by name


def paired(a: Tensor, b: Tensor) -> Tensor:
    """Two stacks (N, C, H, W) as one of pairs, (2N, C, H, W): a[0], b[0], a[1], b[1], ..."""
    return torch.stack([a, b], dim=1).flatten(0, 1)


def in_space(images: Tensor, space: Space, *, seed: int) -> Tensor:
    """8-bit images in a space, on the CPU, under a fixed seed: two models of one space meet the same bits."""
    with fixed_seed(seed):
        return torch.cat([space.encode(part) for part in images.cpu().split(1000)])


def space_view(images: Tensor, space: Space, *, seed: int) -> Tensor:
    """The same, as 8-bit images again: what samples are compared with. Never holds all images as floats."""
    with fixed_seed(seed):
        return torch.cat([space.decode(space.encode(part)) for part in images.cpu().split(1000)])


@dataclass(frozen=True)
class Bench:
    """What every measurement shares.

    Attributes:
        model: in evaluation mode.
        judge: the feature space.
        train: uint8 images (N, C, H, W) and int64 labels (N,), or ``None`` where the data have none.
        test: likewise.
        seed: of everything random.
        num_samples: how many to draw.
        batch_size: images and samples at a time.
        conditions: class labels to ask for, (num_samples,); ``None`` for an unconditional model.
    """

    model: GenerativeModel
    judge: Judge
    train: tuple[Tensor, Tensor | None]
    test: tuple[Tensor, Tensor | None]
    seed: int
    num_samples: int
    batch_size: int
    conditions: Tensor | None

    @property
    def spec(self) -> DataSpec:
        """Shape and space of the model."""
        return self.model.spec

    @cached_property
    def train_view(self) -> Tensor:
        """Training images as the model sees them, uint8."""
        return space_view(self.train[0], self.spec.space, seed=self.seed)

    @cached_property
    def test_view(self) -> Tensor:
        """Test images as the model sees them, uint8; the same draw as in :attr:`test_x`."""
        return space_view(self.test[0], self.spec.space, seed=self.seed + 1)

    @cached_property
    def test_x(self) -> Tensor:
        """Test images in the model's space, where the model is."""
        return in_space(self.test[0], self.spec.space, seed=self.seed + 1).to(self.home)

    @property
    def home(self) -> Tensor:
        """A tensor with the device and precision of the model's own."""
        tensors = (t for t in (*self.model.parameters(), *self.model.buffers()) if t.is_floating_point())
        return next(tensors, torch.empty(0))

    @property
    def extractor(self) -> str:
        """The name of the feature space."""
        return f"judge {self.judge.hash}"

    def judged(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 64) and class probabilities (N, K) of 8-bit images."""
        return extract(self.judge, images)

    def scores(self, values: dict[str, float], **protocol: Any) -> dict[str, Score]:
        """Scores that share a protocol. One that is not finite does not exist (a KL without overlap) and is left out.

        Args:
            values: scores by name.
            protocol: JSON-able facts, beside those that every score has: space, bit depth and seed.
        """
        space = self.spec.space
        shared = {"space": str(space), "bit_depth": math.log2(space.levels or 256), "seed": self.seed}
        return {
            name: Score(value=float(value), protocol={**protocol, **shared})
            for name, value in values.items()
            if math.isfinite(value)
        }
