"""Conditions: what is it worth to know the class?

A model of p(x|y) draws the class that it is asked for, and it needs fewer nats for an image, since it is spared to find
out what is in it. Averaged over images that is the mutual information I(x; y), which is at most the entropy of the
class, log K for K equally frequent ones: knowing the class helps a lot with *what* to draw and hardly at all with the
likelihood [1]. The bound holds for the truth, and within one model, whose p(x) is the sum over its classes; between
two models trained apart, each leaves something to be learnt, and the difference of their losses may exceed it.

The same model turned around is a classifier, by Bayes' rule: p(y|x) = p(y) p(x|y) / p(x).

[1] A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu. Conditional Image Generation
    with PixelCNN Decoders. 2016. Sections 2.3 and 3.2.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from gen.errors import RecipeError
from gen.evaluate.judge import Judge, accuracy, extract
from gen.evaluate.likelihood import log_likelihoods
from gen.evaluate.samples import draw
from gen.model import Samples, Scores
from gen.studies.canvas import nats, percent, rows
from gen.studies.study import Figure, Findings, Trained, study

CHUNK = 100  # images at a time


class Told(Samples, Scores, Protocol):
    """A model of images given their class."""

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) and classes, int64 (B,) -> log p(x|y) in nats, (B,)."""
        ...

    def log_joint(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> log p(x, y) for every y, in nats, (B, classes)."""
        ...


@study("conditions")
@torch.no_grad()
def conditions(
    *, told: Trained[Told], untold: Trained[Scores], judge: Judge, seed: int, samples: int = 100, shown: int = 10
) -> Findings:
    """See module.

    Args:
        told: a model of p(x|y).
        untold: one of p(x), at best of the same size and budget, whose last likelihood is exact.
        judge: of their data set.
        seed: of all that is drawn.
        samples: of every class, to be judged.
        shown: of every class, drawn.
    """
    x, labels = told.images("test", seed=seed), told.split("test")[1]
    if labels is None or told.spec.space != untold.spec.space:
        raise RecipeError(
            f"study conditions: found the spaces {told.spec.space} of {told.recipe} and {untold.spec.space} of "
            f"{untold.recipe}; allowed are two recipes of one labelled data set in one space."
        )
    classes = told.spec.num_classes
    parts = list(zip(x.split(CHUNK), labels.split(CHUNK), strict=True))
    given = float(torch.cat([told.model.log_prob(*part) for part in parts]).double().mean())
    joint = torch.cat([told.model.log_joint(part) for part, _ in parts]).double()
    alone, found = float(joint.logsumexp(1).mean()), float((joint.argmax(1) == labels).double().mean())
    without = log_likelihoods(untold.model, untold.spec, x, seed=seed)[-1].nats

    asked = torch.arange(classes).repeat_interleave(samples)
    images = draw(told.model, told.spec, len(asked), seed=seed, condition=asked)
    right = (extract(judge, images)[1].argmax(1) == asked).double().view(classes, samples).mean(1)
    real = accuracy(judge, told.spec.space.decode(x), labels)
    worst, best = int(right.argmin()), int(right.argmax())
    by_class = images.unflatten(0, (classes, samples))[:, :shown]
    return Findings(
        figures={
            "classes": Figure(
                rows([[(f"{k}: {percent(float(right[k]))}", by_class[k]) for k in range(classes)]]),
                "Samples of every class, not selected, and how many of it the judge takes for what was asked",
            )
        },
        sentences=(
            f"Told its class, a test image costs {nats(-given)} nats: {nats(given - alone)} fewer than the "
            f"same model asks when it has to sum over all classes, and {nats(given - without)} fewer than a model that "
            f"was never told, where the class is worth at most log {classes} = {math.log(classes):.2f}.",
            f"The judge takes {percent(float(right.mean()), 1)} of {len(asked):,} samples for the class that was asked "
            f"for, from {percent(float(right[worst]))} of class {worst} to {percent(float(right[best]))} of class "
            f"{best}, and {percent(real, 1)} of the test images; by Bayes' rule the model finds the class of "
            f"{percent(found, 1)} of these.",
        ),
        numbers={
            "nats": {"told": given, "summed_over_classes": alone, "untold": without},
            "samples_right": right.tolist(),
            "test_images_right": real,
            "class_accuracy_by_bayes": found,
        },
    )
