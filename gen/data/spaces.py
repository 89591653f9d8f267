"""The space a model lives in: how 8-bit pixels become the numbers whose likelihood is reported.

Nats are comparable within one space only. Binarised MNIST alone exists in three incompatible kinds, so every
likelihood this project prints names its space.

    binary_dynamic   x ~ Bernoulli(pixel / 255), drawn afresh at every visit          {0, 1}
    binary_fixed     the data are bits already (stored as 0 and 255)                  {0, 1}
    levels(K)        K equally wide grey levels, k / (K - 1)                          {0, 1/(K-1), ..., 1}
    dequantized      (pixel + u) / 256 with u ~ U[0, 1): a density                    [0, 1)
    signed           pixel / 127.5 - 1: what networks with a tanh head emit           [-1, 1]
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from gen.errors import RecipeError, nearest

KINDS = ("binary_dynamic", "binary_fixed", "levels", "dequantized", "signed")


@dataclass(frozen=True, slots=True)
class Space:
    """One of the spaces above. Build it with :meth:`parse`.

    Attributes:
        kind: the name without its argument, e.g. ``"levels"``.
        levels: number of values a pixel can take; ``None`` for the continuous spaces.
    """

    kind: str
    levels: int | None

    @classmethod
    def parse(cls, text: str) -> Space:
        """``"binary_dynamic"``, ``"levels(16)"``, ... Raises :class:`RecipeError` for anything else."""
        match = re.fullmatch(r"(\w+)(?:\((\d+)\))?", text.strip())
        kind, argument = match.groups() if match else (text, None)
        if kind not in KINDS:
            raise RecipeError(
                f"space: '{text}' is not a space. Allowed: binary_dynamic, binary_fixed, levels(K), "
                f"dequantized, signed.{nearest(kind, KINDS)}"
            )
        if (argument is not None) != (kind == "levels"):
            raise RecipeError(f"space: '{text}': only levels takes an argument, as in levels(16).")
        if kind == "levels":
            count = int(argument or 0)
            if not 2 <= count <= 256:
                raise RecipeError(f"space: '{text}': K must be from 2 to 256.")
            return cls(kind, count)
        return cls(kind, 2 if kind.startswith("binary") else None)

    def __str__(self) -> str:
        return f"levels({self.levels})" if self.kind == "levels" else self.kind

    def encode(self, pixels: Tensor) -> Tensor:
        """8-bit pixels, uint8 of any shape, to values of this space in the default dtype, same shape.

        ``binary_dynamic`` and ``dequantized`` draw from the default generator of the pixels' device.
        """
        x = pixels.to(torch.get_default_dtype())
        match self.kind:
            case "binary_dynamic":
                return (torch.rand_like(x) * 255.0 < x).to(x.dtype)
            case "binary_fixed":
                return (x > 127.5).to(x.dtype)
            case "levels":
                assert self.levels is not None
                return torch.floor(x * (self.levels / 256.0)) / (self.levels - 1)
            case "dequantized":
                return (x + torch.rand_like(x)) / 256.0
            case _:
                return x / 127.5 - 1.0

    def decode(self, x: Tensor) -> Tensor:
        """Values of this space to 8-bit pixels, uint8, same shape; values outside the space are clamped."""
        if self.kind == "signed":
            scaled = (x + 1.0) * 127.5
        elif self.kind == "dequantized":
            scaled = torch.floor(x * 256.0)
        else:
            scaled = x * 255.0
        return scaled.round().clamp(0, 255).to(torch.uint8)

    def bits_per_dim(self, nats: float, dims: int) -> float:
        """Negative log-likelihood in bits per dimension, of the *stored* 8-bit data where the space is a density.

        Args:
            nats: mean log p(x) per image in this space.
            dims: number of pixels times channels.

        A density over [0, 1) or [-1, 1] is turned into a bound on the probability of the 8-bit levels by the
        width of a level: 1/256 or 2/255 (Theis et al. 2016, "A note on the evaluation of generative models", eq. 3).
        """
        width = {"dequantized": 1 / 256, "signed": 2 / 255}.get(self.kind, 1.0)
        return (-nats / dims - math.log(width)) / math.log(2)


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What the data dictate and no recipe configures.

    Attributes:
        shape: (channels, height, width) of one image, or of one frame of a video.
        num_classes: number of classes; 0 if the data have no labels.
        space: the space the model lives in.
        frames: of a video; ``None`` if the data are images.
    """

    shape: tuple[int, int, int]
    num_classes: int
    space: Space
    frames: int | None = None

    @property
    def dims(self) -> int:
        """Number of dimensions of one image or video: channels x (frames x) height x width."""
        return math.prod(self.shape) * (self.frames or 1)
