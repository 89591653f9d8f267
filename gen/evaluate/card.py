"""Report card: everything that can be said about a trained model, and under which protocol.

A model is asked what it can do - score, sample, encode, complete, show pictures - and never who it is. Each score
stands beside the facts without which it means nothing: counts, split, extractor, space, bit depth, seed. A score that
does not exist for a model is absent.

    card, pictures = evaluate(model, judge=load_judge(path), splits={"train": ..., "test": ...})
    card["scores"]["fid"]       # {"value": 4.1, "protocol": {"n_real": 1000, "n_fake": 1000, "split": "test", ...}}
    flatten(card)               # {"nats": -88.2, ..., "fid": 4.1, "fid_floor": 0.8, "fid_independent": 67.0, ...}

Real images enter through the model's space, as its samples do: a model of bits is compared with bits. Every distance
comes with two of its own kind: ``_floor``, real training images in place of samples, which no model can be expected to
beat, and ``_independent``, pixels drawn independently of each other, which every model must beat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from torch import Tensor

from gen.errors import DataError, GenError, RecipeError, nearest
from gen.evaluate.bench import Bench, Measured, Score
from gen.evaluate.capabilities import codes, completions, latent_units, likelihoods, own_pictures
from gen.evaluate.denoising import denoising
from gen.evaluate.fidelity import samples
from gen.evaluate.judge import Judge
from gen.evaluate.likelihood import estimators, log_probs
from gen.evaluate.predictions import predictions
from gen.files import finite
from gen.model import Completes, Denoises, Encodes, GenerativeModel, Infers, Pictures, Predicts, Samples, Scores


class Card(TypedDict):
    """What :func:`evaluate` says, JSON-able.

    Attributes:
        space: the model's.
        judge: hash of the judge and the record of its training.
        scores: by name; see :class:`gen.evaluate.bench.Score`.
    """

    space: str
    judge: dict[str, object]
    scores: dict[str, Score]


# Each measure takes the model as the capability beside it, and the bench.
_MEASURES: tuple[tuple[Any, Callable[[Any, Bench], Measured]], ...] = (
    (Scores, likelihoods),
    (Samples, samples),
    (Encodes, codes),
    (Infers, latent_units),
    (Denoises, denoising),
    (Completes, completions),
    (Predicts, predictions),
    (Pictures, own_pictures),
)


def evaluate(
    model: GenerativeModel,
    *,
    judge: Judge,
    splits: Mapping[str, tuple[Tensor, Tensor | None]],
    seed: int = 0,
    num_samples: int = 1000,
    batch_size: int = 100,
    conditions: Tensor | None = None,
) -> tuple[Card, dict[str, Tensor]]:
    """Measure a model; the same seed, device and number of threads give the same card, speed aside.

    Args:
        model: to be judged; is put into evaluation mode, on the device where it is.
        judge: the feature space.
        splits: uint8 images (N, C, H, W), or videos (N, C, T, H, W), and int64 labels (N,), or ``None``, of ``train``
            and ``test``. Test is the reference, train is what may have been memorised. Without labels nothing is said
            about classes.
        seed: of everything random. The generators of the caller are not touched.
        num_samples: how many to draw.
        batch_size: images and samples at a time.
        conditions: class labels to ask for, int64 (num_samples,) on the model's device, if the model is conditional;
            the card then says how often the judge finds the class that was asked for.

    Returns:
        The card, and pictures by name, uint8 (N, C, h, w): ``samples``; ``neighbours``, ``reconstructions``,
        ``denoised`` and ``completions`` as pairs (image, its counterpart); ``predictions`` as film strips; and
        whatever the model itself has to show.

    Raises:
        DataError: a split is missing.
        GenError: conditions do not fit the samples; or samples or likelihoods are too few, misshapen or not finite.
    """
    if missing := {"train", "test"} - splits.keys():
        raise DataError(f"splits: {', '.join(sorted(missing))} missing. Evaluation needs train and test.")
    if conditions is not None and len(conditions) != num_samples:
        raise GenError(f"conditions: found {len(conditions)} labels for {num_samples} samples; give one for each.")
    bench = Bench(model.eval(), judge, splits["train"], splits["test"], seed, num_samples, batch_size, conditions)
    card = Card(space=str(model.spec.space), judge={"hash": judge.hash, **judge.facts}, scores={})
    pictures: dict[str, Tensor] = {}
    for capability, measure in _MEASURES:
        if isinstance(model, capability):
            found, shown = measure(model, bench)
            card["scores"] |= found
            pictures |= shown
    return card, pictures


def score_of(model: GenerativeModel, name: str, bench: Bench) -> float:
    """One score of a model, as :func:`evaluate` measures it.

    Args:
        model: in evaluation mode.
        name: of the score, e.g. ``fid``.
        bench: of the model. Its ``test`` may be any split: whoever chooses by a score gives the validation split.

    Raises:
        RecipeError: this model has no such score; it names those it has.
        GenError: it has the score, but not as a finite number.
    """
    if isinstance(model, Scores) and name.startswith("nats_"):  # one estimator: others may be a hundred times dearer
        wanted, offered = name.removeprefix("nats_"), estimators(model, seed=bench.seed)
        if wanted in offered:
            log_p = log_probs(wanted, offered[wanted], bench.test_x, seed=bench.seed, batch_size=bench.batch_size)
            return float(log_p.mean())
    names: list[str] = []
    for capability, measure in _MEASURES:
        if isinstance(model, capability):
            found, _ = measure(model, bench)
            if name in found:
                return found[name]["value"]
            names += found
    raise RecipeError(
        f"eval/{name}: {type(model).__name__} has no such score, or it is not finite here. "
        f"Found: {', '.join(f'eval/{each}' for each in names)}.{nearest(name, names)}"
    )


def flatten(card: Card) -> dict[str, float]:
    """The values alone, for metrics files and trackers."""
    return finite({name: score["value"] for name, score in card["scores"].items()})
