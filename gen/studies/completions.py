"""Completions: what does a model that draws pixels in order make of an image of which a part is hidden?

Where the hidden part comes last, the lower half, the chain rule is all one needs: keep the upper half, draw the rest,
and the result is a sample of p(hidden | shown) [1]. Anywhere else the draw is blind to what is shown further down: a
hole is filled with what the rows above suggest, and may not meet what lies below. Yet the model can judge afterwards
how well it does, since it knows the probability of every value given those before it:

    p(hidden | shown)  is proportional to  q(hidden) w,    q = product of p(x_i | x_<i) over hidden values,
                                                           w = product of p(x_i | x_<i) over shown values

so of K draws one is chosen with probability proportional to its w: importance resampling, exact as K grows.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Figure 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gen.evaluate.judge import Judge, extract
from gen.model import Completes
from gen.studies.canvas import percent, rows
from gen.studies.study import Figure, Findings, Trained, spread, study

GREY = 0.5  # what is hidden, in the figure


class InOrder(Completes, Protocol):
    """A model of values in order."""

    def log_probs(self, x: Tensor) -> Tensor:
        """log p of every value given those before it, in nats: (B, C, H, W) -> (B, C, H, W)."""
        ...


def lower_half(height: int, width: int) -> Tensor:
    """What is hidden, bool (H, W)."""
    hidden = torch.zeros(height, width, dtype=torch.bool)
    hidden[height // 2 :] = True
    return hidden


def right_half(height: int, width: int) -> Tensor:
    """What is hidden, bool (H, W)."""
    return lower_half(width, height).T


def hole(height: int, width: int) -> Tensor:
    """What is hidden, bool (H, W): half of each side, in the middle."""
    hidden = torch.zeros(height, width, dtype=torch.bool)
    hidden[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return hidden


HIDDEN: Mapping[str, Callable[[int, int], Tensor]] = {
    "lower half": lower_half,
    "right half": right_half,
    "hole": hole,
}


class Filled(NamedTuple):
    """Images of which a part was hidden and drawn.

    Attributes:
        first: the first of the draws, in the model's space, (B, C, H, W).
        chosen: the one that was chosen.
        effective: how many equally good draws the K are worth, 1 / sum w^2 of normalised weights, (B,).
    """

    first: Tensor
    chosen: Tensor
    effective: Tensor


def fill(model: InOrder, x: Tensor, hidden: Tensor, draws: int) -> Filled:
    """Draw the hidden part ``draws`` times and choose among the results.

    Args:
        model: what draws.
        x: images in its space, (B, C, H, W).
        hidden: bool (H, W).
        draws: K.
    """
    many = x.repeat(draws, 1, 1, 1)
    known = (~hidden).expand_as(many)
    drawn = model.complete(many, known)
    shown = torch.cat([model.log_probs(part) for part in drawn.split(200)]) * known
    # What is shown before the first hidden value is as probable in every draw, and cancels.
    w = shown.double().flatten(1).sum(1).view(draws, len(x)).softmax(0)
    choice = w.T.multinomial(1)[:, 0]
    stack = drawn.view(draws, *x.shape)
    return Filled(stack[0], stack[choice, torch.arange(len(x))], 1 / w.square().sum(0))


@study("completions")
@torch.no_grad()
def completions(
    *, model: Trained[InOrder], judge: Judge, seed: int, images: int = 100, draws: int = 100, shown: int = 10
) -> Findings:
    """See module.

    Args:
        model: completes images.
        judge: of its data set; says whether a completed image is still of its class.
        seed: of all that is drawn.
        images: test images that are completed.
        draws: of the hidden part of each.
        shown: images in the figure.
    """
    pixels, labels = model.split("test")
    chosen = spread(len(pixels), images)
    x = model.images("test", seed=seed, count=images)
    some = spread(len(x), shown)
    height, width = model.spec.shape[1:]
    names = extract(judge, model.spec.space.decode(x))[1].argmax(1) if labels is None else labels[chosen]

    def kept(filled: Tensor) -> float:
        """Share of images that the judge puts into the class of the whole image."""
        found = extract(judge, model.spec.space.decode(filled))[1].argmax(1)
        return float((found == names).double().mean())

    torch.manual_seed(seed)
    groups, numbers = [[("test images", x[some])]], {"as_they_are": kept(x)}
    effective = {}
    for name, shape in HIDDEN.items():
        hidden = shape(height, width)
        filled = fill(model.model, x, hidden, draws)
        occluded = torch.where(hidden, torch.full_like(x, GREY), x)
        key = name.replace(" ", "_")
        groups.append([(f"{name}\nhidden", occluded[some]), ("drawn", filled.first[some])])
        numbers[f"{key}_drawn"] = kept(filled.first)
        if name != "lower half":  # where nothing is shown after the hidden part, all draws are equally good
            groups[-1].append((f"chosen of {draws}", filled.chosen[some]))
            numbers[f"{key}_chosen"] = kept(filled.chosen)
            effective[key] = float(filled.effective.median())
    return Findings(
        figures={"completions": Figure(rows(groups), "Test images with a part hidden, and what the model made of it")},
        sentences=(
            f"With its lower half hidden and drawn anew, {percent(numbers['lower_half_drawn'])} of {len(x)} test "
            f"images stay in their class, as the judge sees it, and {percent(numbers['as_they_are'])} as they are.",
            f"A hole is filled blind to what lies below it, and {percent(numbers['hole_drawn'])} stay in their class; "
            f"choosing among {draws} draws by what they make of the rest makes that "
            f"{percent(numbers['hole_chosen'])}.",
        ),
        numbers={"class_kept": numbers, "effective_draws": effective, "images": len(x), "draws": draws},
    )
