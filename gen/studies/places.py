"""Places: can a condition say where?

A digit in one of 3 x 3 cells, and the cell as the class. A convolution is the same everywhere, so a net that is told
the same at all pixels has to find out by itself where it is: from the edges of the image, as far as its field reaches,
and in the middle of a black canvas not at all. Told by location, by a map s = m(h) as large as the image, every pixel
hears something of its own [1].

[1] A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu. Conditional Image Generation
    with PixelCNN Decoders. 2016. Section 2.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen.errors import RecipeError
from gen.evaluate.samples import draw
from gen.model import Samples
from gen.studies.canvas import percent, rows
from gen.studies.study import Figure, Findings, Trained, study

SIDE = 3  # cells on a side
RIGHT = 0.9  # of the ink in the cell that was asked for: a digit is in its place


@study("places")
@torch.no_grad()
def places(
    *,
    everywhere: Trained[Samples],
    by_location: Trained[Samples],
    seed: int,
    samples: int = 50,
    shown: int = 4,
) -> Findings:
    """See module.

    Args:
        everywhere: a model of digits in cells that is told the cell at all pixels alike.
        by_location: one that is told by a map.
        seed: of all that is drawn.
        samples: of every cell, measured.
        shown: of every cell, drawn.
    """
    cast = {"everywhere": everywhere, "by location": by_location}
    cells = torch.arange(SIDE**2)
    share: dict[str, Tensor] = {}
    sheets: list[list[tuple[str, Tensor]]] = []
    for name, each in cast.items():
        _, height, width = each.spec.shape
        if each.spec.num_classes != len(cells) or height % SIDE or width % SIDE:
            raise RecipeError(
                f"study places: the images of {each.recipe} are {height} x {width} with {each.spec.num_classes} "
                f"classes; allowed are {SIDE} x {SIDE} cells of whole pixels as the {len(cells)} classes, as in "
                "placed_digits."
            )
        asked = cells.repeat(samples)
        images = draw(each.model, each.spec, len(asked), seed=seed, condition=asked)
        share[name] = ink_by_cell(images)[torch.arange(len(asked)), asked].view(samples, -1)
        by_row = images.unflatten(0, (samples, len(cells)))[:shown]
        sheets.append([(name if k == 0 else "", row) for k, row in enumerate(by_row)])
    right = {name: (found >= RIGHT).double().mean(0) for name, found in share.items()}
    shares = {name: float(found.mean()) for name, found in share.items()}
    poor, good = (float(right[name].mean()) for name in cast)
    return Findings(
        figures={
            "samples": Figure(
                rows(sheets, heads=[str(k) for k in cells.tolist()]),
                "Samples for each of the nine cells, from the top left to the bottom right, not selected",
            )
        },
        sentences=(
            f"Told the cell by location, {percent(good, 1)} of {SIDE**2 * samples:,} samples have their digit there, "
            f"with at least {percent(RIGHT)} of the ink in the cell; told the same everywhere, {percent(poor, 1)}.",
            f"The cell asked for holds {percent(shares['by location'], 1)} of the ink of a sample on the mean if the "
            f"model is told by location, and {percent(shares['everywhere'], 1)} if not, where a digit anywhere would "
            f"leave {percent(1 / SIDE**2, 1)} in it.",
        ),
        numbers={name.replace(" ", "_"): {"right": right[name].tolist(), "ink_in_cell": shares[name]} for name in cast},
    )


def ink_by_cell(images: Tensor) -> Tensor:
    """8-bit images (N, C, H, W) -> the share of the brightness that lies in each cell, (N, 9); 0 of a black image."""
    n, _, height, width = images.shape
    ink = images.double().sum(1).view(n, SIDE, height // SIDE, SIDE, width // SIDE).sum((2, 4)).flatten(1)
    return ink / ink.sum(1, keepdim=True).clamp(min=1)
