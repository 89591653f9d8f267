"""What a sweep looks for, measured while a trial trains: as the evaluate stage does, on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from gen.data.reader import everything
from gen.evaluate.bench import Bench
from gen.evaluate.card import score_of
from gen.evaluate.judge import Judge, load_judge
from gen.model import GenerativeModel

BATCH = 100


@dataclass(frozen=True, slots=True)
class Examination:
    """Measures one score of a model on held-out data; what training calls at each validation.

    Attributes:
        score: its name, without ``eval/``.
        data: directory of shards.
        judge: directory of the judge.
        samples: images drawn.
        seed: of noise and samples.
    """

    score: str
    data: Path
    judge: Path
    samples: int
    seed: int

    def __call__(self, model: GenerativeModel) -> Mapping[str, float]:
        """``{score: value}`` of a model, which is put into evaluation mode."""
        train, held_out, judge = _references(self.data, self.judge)
        device = next(model.parameters()).device
        classes = torch.arange(self.samples, device=device) % model.spec.num_classes if model.conditional else None
        with torch.no_grad():
            bench = Bench(model.eval(), judge, train, held_out, self.seed, self.samples, BATCH, classes)
            return {self.score: score_of(model, self.score, bench)}


@lru_cache(maxsize=1)
def _references(data: Path, judge: Path) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None], Judge]:
    """Training and validation images with their labels, and the judge; a process of trials reads them once."""
    return everything(data, "train"), everything(data, "validation"), load_judge(judge)
