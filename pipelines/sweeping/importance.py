"""Which dimensions of a sweep matter, and how sure one can be of it.

A random forest (Breiman 2001) predicts the objective from the values of a trial. A dimension matters as much as the
forest predicts worse, on trials it was not fitted to, once that dimension's values are shuffled among them: the
permutation importance, in units of R^2. The folds are drawn several times over; what they disagree in is the
uncertainty. Trials are compared after equal budgets, and by rank, so that one that diverged does not decide alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.sweeping.dimensions import Dimension
from pipelines.sweeping.spaces import Objective
from pipelines.sweeping.trial import Trial

LEAST, LEAST_EACH = 12, 5  # trials, and trials per dimension, below which nothing is said
FOLDS, REPEATS, SHUFFLES, TREES = 5, 4, 5, 30
SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """What was found.

    Attributes:
        images: budget at which the trials are compared; 0 if there is none.
        trials: numbers of the trials that reached it.
        needed: trials it takes to tell.
        predicted: R^2 of the forest on trials it was not fitted to; 0 is no better than guessing.
        share: by key, the loss of R^2 when its values are shuffled: 10th percentile, mean, 90th percentile. Empty if
            there are too few trials to tell, or the forest predicts nothing.
    """

    images: int
    trials: Sequence[int]
    needed: int
    predicted: float
    share: Mapping[str, tuple[float, float, float]]


def comparable(trials: Sequence[Trial]) -> int:
    """The largest budget that at least half of the trials were measured at; 0 if there is none."""
    marks = Counter(images for trial in trials for images, value in trial.curve if math.isfinite(value))
    measured = sum(bool(trial.curve) for trial in trials)
    return max((images for images, count in marks.items() if 2 * count >= measured), default=0)


def importance(trials: Sequence[Trial], dimensions: Sequence[Dimension], objective: Objective) -> Importance:
    """The importance of every dimension.

    Args:
        trials: of a sweep.
        dimensions: its axes.
        objective: what was measured.
    """
    images, needed = comparable(trials), max(LEAST, LEAST_EACH * len(dimensions))
    reached = [trial for trial in trials if math.isfinite(dict(trial.curve).get(images, math.nan))]
    x = np.array([[_place(each, trial.values.get(each.key)) for each in dimensions] for trial in reached])
    y = _ranks([objective.loss(dict(trial.curve)[images]) for trial in reached])
    predicted, share = 0.0, {}
    if len(reached) >= needed:
        predicted, drops = _permuted(x, y)
        if predicted > 0:
            low, high = np.percentile(drops, [10, 90], axis=0)
            found = zip(dimensions, low, drops.mean(axis=0), high, strict=True)
            share = {each.key: (float(a), float(b), float(c)) for each, a, b, c in found}
    return Importance(
        images=images,
        trials=[trial.number for trial in reached],
        needed=needed,
        predicted=predicted,
        share=share,
    )


def _place(dimension: Dimension, value: object) -> float:
    place = dimension.unit(value)
    return place if math.isfinite(place) else -1.0


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """From 0 to 1; equal values share theirs."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values) - 1, dtype=np.float64) / max(len(values) - 1, 1)


def _permuted(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """R^2 on held-out trials, and what shuffling costs of it: (REPEATS, dimensions)."""
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(SEED)
    total = ((y - y.mean()) ** 2).sum()
    scores, drops = [], np.zeros((REPEATS, x.shape[1]))
    for repeat in range(REPEATS):
        error = 0.0
        for held_out in np.array_split(rng.permutation(len(y)), FOLDS):
            fitted = np.setdiff1d(np.arange(len(y)), held_out)
            forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=SEED).fit(x[fitted], y[fitted])
            copies = [x[held_out]]
            for axis in range(x.shape[1]):
                for _ in range(SHUFFLES):
                    copy = x[held_out].copy()
                    copy[:, axis] = rng.permutation(x[:, axis])[: len(held_out)]
                    copies.append(copy)
            guesses = forest.predict(np.concatenate(copies)).reshape(len(copies), -1)
            errors = ((guesses - y[held_out]) ** 2).sum(axis=1)
            error += errors[0]
            drops[repeat] += (errors[1:].reshape(-1, SHUFFLES).mean(axis=1) - errors[0]) / total
        scores.append(1 - error / total)
    return float(np.mean(scores)), drops
