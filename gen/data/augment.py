"""Random changes to a batch that leave an image what it is: more data for free, declared in a recipe.

    flip                 mirrored left to right, with probability 1/2
    shift(N)             moved by up to N pixels each way, zeros where nothing is left
    shift(N, reflect)    the same, mirrored at the edges; with flip, the usual augmentation of small photographs
                         (He et al. 2016, "Deep residual learning for image recognition", section 4.2)

Every sample draws for itself; all frames of a clip, and the target that belongs to an image, change with it. The draws
come from the default generator of the images' device, which training seeds anew at every step: a resumed run repeats
them bit for bit. A model of augmented data is a model of augmented data: it draws mirrored faces, too. Leave flip out
where left and right matter, as they do in digits, texts, and captions that speak of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.errors import RecipeError, nearest

KINDS = ("flip", "shift")

Change = Callable[[Tensor], Tensor]


class Step(Protocol):
    """One kind of change."""

    def draw(self, images: Tensor) -> Change:
        """Draw for every sample of a batch what to do to it; what comes back does that to any tensor that goes with it.

        Raises:
            RecipeError: images of this size cannot be changed like that.
        """
        ...


@dataclass(frozen=True, slots=True)
class Flip:
    """``flip``."""

    def draw(self, images: Tensor) -> Change:
        """See :class:`Step`."""
        chosen = torch.rand(len(images), device=images.device) < 0.5
        return lambda x: torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)

    def __str__(self) -> str:
        return "flip"


@dataclass(frozen=True, slots=True)
class Shift:
    """``shift(N)`` and ``shift(N, reflect)``.

    Attributes:
        pixels: the N.
        reflect: whether what comes in at an edge is a mirror image rather than zeros.
    """

    pixels: int
    reflect: bool = False

    def draw(self, images: Tensor) -> Change:
        """See :class:`Step`."""
        height, width = images.shape[-2:]
        if self.pixels >= min(height, width):
            raise RecipeError(
                f"augment: found {self} for images of {height} x {width}, allowed are shifts of less than their size."
            )
        down, right = torch.randint(0, 2 * self.pixels + 1, (2, len(images)), device=images.device)
        every = torch.arange(len(images), device=images.device)

        def move(x: Tensor) -> Tensor:
            if x.shape[-2:] != (height, width):
                raise RecipeError(
                    f"augment: found {self} for targets of {x.shape[-2]} x {x.shape[-1]} with images of {height} x "
                    f"{width}, allowed are targets of the same size. Leave the shift out."
                )
            padded = self._pad(x.flatten(1, -3))  # (B, C T, H + 2 N, W + 2 N)
            windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C T, 2 N + 1, 2 N + 1, H, W)
            return windows[every, :, down, right].reshape(x.shape)

        return move

    def _pad(self, x: Tensor) -> Tensor:
        """``x`` (B, X, H, W) with N pixels more on every side."""
        if not self.reflect:
            return F.pad(x, (self.pixels,) * 4)
        for dim in (-2, -1):  # F.pad reflects no uint8
            first = x.narrow(dim, 1, self.pixels)
            last = x.narrow(dim, x.shape[dim] - 1 - self.pixels, self.pixels)
            x = torch.cat([first.flip(dim), x, last.flip(dim)], dim)
        return x

    def __str__(self) -> str:
        return f"shift({self.pixels}, reflect)" if self.reflect else f"shift({self.pixels})"


@dataclass(frozen=True, slots=True)
class Augment:
    """Changes, one after another. Build it with :meth:`parse`.

    Attributes:
        steps: the changes; with none of them a batch stays as it is.
    """

    steps: tuple[Step, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Augment:
        """``("flip", "shift(2)")``, ... Raises :class:`RecipeError` for anything else."""
        return cls(tuple(_step(text) for text in texts))

    def __call__(self, images: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Change a batch.

        Args:
            images: uint8 (B, C, H, W) or (B, C, T, H, W).
            targets: (B, C', H, W), what belongs to the images pixel by pixel.

        Returns:
            The images and the targets, changed alike; shapes and dtypes stay.

        Raises:
            RecipeError: see :meth:`Step.draw`.
        """
        for step in self.steps:
            change = step.draw(images)
            images, targets = change(images), None if targets is None else change(targets)
        return images, targets


def _step(text: str) -> Step:
    match = re.fullmatch(r"(\w+)(?:\((\d+)(?:, *(reflect))?\))?", text.strip())
    kind, pixels, reflect = match.groups() if match else (text, None, None)
    if kind == "flip" and pixels is None:
        return Flip()
    if kind == "shift" and pixels is not None and int(pixels) >= 1:
        return Shift(int(pixels), reflect is not None)
    raise RecipeError(
        f"augment: found '{text}', allowed: flip, shift(N) and shift(N, reflect) with N of at least 1 pixel."
        f"{nearest(kind, KINDS) if kind not in KINDS else ''}"
    )
