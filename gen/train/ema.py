"""Exponential moving average of weights, on the clock of images seen."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from gen.model import GenerativeModel

RAMP = 0.05  # early on, average over at most this share of the past (Karras et al. 2020, StyleGAN2-ADA)


class Average:
    """A copy of the model whose parameters trail the trained ones with a half-life in images.

    Attributes:
        model: the averaged model; its buffers are the trained model's of the last step.
    """

    def __init__(self, model: GenerativeModel, half_life: int) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.half_life = half_life
        # Listed once: walking the modules at every step takes a good part of the time of averaging a small model.
        self._trailing: list[Tensor] = list(self.model.parameters())
        self._leading: list[Tensor] = list(model.parameters())

    @torch.no_grad()
    def update(self, model: GenerativeModel, *, drawn: int, images: int) -> None:
        """Follow the model after a step that drew ``drawn`` images and brought the clock to ``images``."""
        keep = 0.5 ** (drawn / max(min(self.half_life, images * RAMP), 1e-8))
        torch._foreach_lerp_(self._trailing, self._leading, 1.0 - keep)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
