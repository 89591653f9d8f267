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
        pairs = zip(self.model.modules(), model.modules(), strict=True)
        self._with_buffers = [(mine, theirs) for mine, theirs in pairs if theirs._buffers]

    @torch.no_grad()
    def update(self, *, drawn: int, images: int) -> None:
        """Follow the model after a step that drew ``drawn`` images and brought the clock to ``images``."""
        keep = 0.5 ** (drawn / max(min(self.half_life, images * RAMP), 1e-8))
        torch._foreach_lerp_(self._trailing, self._leading, 1.0 - keep)
        for mine, theirs in self._with_buffers:
            for name, buffer in theirs._buffers.items():
                if buffer is not None:
                    mine.get_buffer(name).copy_(buffer)
