"""What a model does with images, and whether it may do it to several at once.

Images of different requests could pass through a network together. Whether that is exact is not a matter of faith: a
part of the model may draw noise (a bound that samples codes), and even without noise the rounding of a matrix product
may depend on the rows beside it. So every part is tried first. It works on several images at once if it leaves the
generator where it was, and if every probe comes out bit for bit the same alone and in company; a batch then always has
:data:`WIDTH` images, blank ones where there are no others. All other parts work on one image at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from gen.evaluate.seeds import fixed_seed
from gen.model import Completes, Encodes, GenerativeModel, Likelihood, Predicts, Scores, Translates

WIDTH = 8
"""Images that pass through the model together, never more and never less."""
ROUNDS = 3
"""Batches of probes. One in eight untrained dictionaries of sparse codes passed a single one by chance."""
KEPT = 16
"""Seeds whose shared work of scoring (annealed importance sampling) is kept."""

Part = Callable[..., Tensor]
"""Images (B, C, H, W), and masks where the task has them, to a result with one row for each."""


class Parts:
    """The parts of a model in evaluation mode, for whoever has the turn (:mod:`gen.serve.turn`)."""

    def __init__(self, model: GenerativeModel) -> None:
        self.model = model
        tensors = [*model.parameters(), *model.buffers()]
        self.device = tensors[0].device if tensors else torch.device("cpu")
        self._exact: dict[str, bool] = {}
        self._scorers: dict[int | None, tuple[str, Likelihood]] = {}

    def of(self, task: str, seed: int) -> Part:
        """What the model does with images for a task.

        Args:
            task: any but ``sample``.
            seed: of what all images share, if the task is ``score``.
        """
        model: Any = self.model
        match task:
            case "score":
                return self.scorer(seed)[1].log_prob
            case "encode":
                return cast(Encodes, model).encode
            case "reconstruct":
                return lambda x: model.decode(model.encode(x))
            case "complete":
                return cast(Completes, model).complete
            case "translate":
                return cast(Translates, model).translate
            case "predict":
                frames = model.spec.frames - model.given()
                return lambda x: cast(Predicts, model).predict(x, frames)
        raise AssertionError(task)

    def scorer(self, seed: int) -> tuple[str, Likelihood]:
        """The estimator to quote. What its images share is done once for a seed, or once at all if it has no noise."""
        for key in (None, seed):
            if key in self._scorers:
                return self._scorers[key]
        with torch.inference_mode(), fixed_seed(seed):
            before = self._generator()
            found = list(cast(Scores, self.model).likelihoods().items())[-1]
            noisy = not torch.equal(before, self._generator())
        while len(self._scorers) >= KEPT:
            del self._scorers[next(iter(self._scorers))]
        self._scorers[seed if noisy else None] = found
        return found

    def group(self, task: str, seed: int) -> tuple[str, int | None] | None:
        """Images of equal groups may be worked on together; ``None``: alone."""
        if task == "sample" or not self.together(task):
            return None
        if task == "score":
            self.scorer(seed)
            return task, None if None in self._scorers else seed
        return task, None

    def together(self, task: str) -> bool:
        """Whether several images give bit for bit what each gives alone, with the same noise: none."""
        if task not in self._exact:
            with torch.inference_mode(), fixed_seed(0):
                part = self.of(task, 0)
                self._exact[task] = all(self._is_exact(part, self._probes(task)) for _ in range(ROUNDS))
        return self._exact[task]

    def inputs(self, task: str, image: Tensor, known: Tensor | None) -> tuple[Tensor, ...]:
        """What a part takes: the image, uint8 (C, H, W), in the model's space, (1, C, H, W), and its mask.

        Frames are likewise (C, T, H, W) and (1, C, T, H, W).
        """
        x = self.model.spec.space.encode(image[None]).to(self.device)
        if task != "complete":
            return (x,)
        assert known is not None
        return x, known[None].to(self.device)

    def _probes(self, task: str) -> list[tuple[Tensor, ...]]:
        """Images of every contrast, half of them smooth: an iteration until all have converged betrays itself."""
        channels, height, width = self.model.spec.shape
        probes = []
        for i in range(WIDTH):
            grain = 1 if i % 2 else max(1, min(height, width) // 4)
            noise = torch.rand(channels, math.ceil(height / grain), math.ceil(width / grain)) * 255 * (i + 1) / WIDTH
            image = noise.repeat_interleave(grain, 1).repeat_interleave(grain, 2)[:, :height, :width].byte()
            image = image if self.model.spec.frames is None else image[:, None]  # a video of one frame
            probes.append(self.inputs(task, image, torch.rand(image.shape) < 0.5))
        return probes

    def _is_exact(self, part: Part, probes: list[tuple[Tensor, ...]]) -> bool:
        before = self._generator()
        together = part(*padded(probes))
        if not torch.equal(before, self._generator()):
            return False
        turned = part(*padded(probes[::-1])).flip(0)
        return torch.equal(together, turned) and all(
            torch.equal(part(*padded([probe]))[0], result) for probe, result in zip(probes, together, strict=True)
        )

    def _generator(self) -> Tensor:
        """State of the default generator that the model draws from."""
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()


def padded(inputs: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Images, and masks, of up to :data:`WIDTH` rows as one batch of that size."""
    columns = [torch.cat(column) for column in zip(*inputs, strict=True)]
    blank = WIDTH - len(inputs)
    return tuple(torch.cat([column, column.new_zeros(blank, *column.shape[1:])]) for column in columns)
