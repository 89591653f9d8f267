"""Sparse codes: how few atoms make a patch, and what do the atoms look like?

Sparse coding explains a patch by a few atoms out of more than it has pixels. What the atoms become is the statistics of
the images: pieces of strokes on digits, and on photographs edges, local and oriented like the receptive fields of
simple cells [1]. How oriented is measured: the selectivity index is 0 for a round blob, nears 1 for a grating, and is
above 0.5 for one in a thousand filters of noise [2].

How few is seen on a patch: the bars are its whole code, most of it exactly zero, and its atoms are added in the order
of their size, each with the coefficient that the code gives it.

[1] B. Olshausen, D. Field. Emergence of simple-cell receptive field properties by learning a sparse code for natural
    images. 1996.
[2] C. Niell, M. Stryker. Highly selective receptive fields in mouse visual cortex. 2008.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gen.evaluate.selectivity import orientation_selectivity
from gen.inference.sparse import fista
from gen.nets.patches import Patches
from gen.studies.canvas import BLUE, FAINT, ORANGE, drawing, percent, rows, rule
from gen.studies.study import Figure, Findings, Trained, study

ADDED = (0, 1, 2, 3, 5, 8, 12, 20)  # atoms in a partial sum
ORIENTED = 0.5


class Codes(Protocol):
    """Sparse coding of patches."""

    @property
    def dictionary(self) -> Tensor:
        """Atoms, (d, K)."""
        ...

    @property
    def patches(self) -> Patches:
        """How images are cut."""
        ...

    @property
    def penalty(self) -> float:
        """lambda."""
        ...

    def centred(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (N, d) as they are coded, and the means that are coded separately, (N, 1)."""
        ...


@study("sparse")
@torch.no_grad()
def sparse(
    *, digits: Trained[Codes], photos: Trained[Codes], seed: int, images: int = 100, atoms: int = 60, shown: int = 3
) -> Findings:
    """See module.

    Args:
        digits: a dictionary of patches of digits.
        photos: one of patches of photographs.
        seed: of what the images are drawn with.
        images: test images whose patches are coded.
        atoms: drawn of each dictionary, evenly spread from coarse to fine.
        shown: patches of each kind put together.
    """
    kinds = {"digits": digits, "photos": photos}
    pictures, built, numbers, bars = {}, [], {}, {}
    for name, each in kinds.items():
        model = each.model
        x, _ = model.centred(model.patches.covering(each.images("test", seed=seed, count=images)))
        h = fista(x, model.dictionary, model.penalty)
        filters = model.patches.pictures(model.dictionary.T)
        pictures[name] = filters[torch.arange(atoms) * len(filters) // atoms]
        selectivity = orientation_selectivity(2 * filters - 1)
        contrast = x.square().sum(1)
        typical = contrast.argsort()[-max(1, len(x) // 4) :]  # patches with something in them
        typical = typical[torch.arange(shown) * len(typical) // shown]
        bars[name] = h[typical[-1]]
        built.append(
            [(name if not row else "", partial_sums(model, x[k], h[k])) for row, k in enumerate(typical.tolist())]
        )
        used = (h != 0).double().sum(1)
        numbers[name] = {
            "atoms": h.shape[1],
            "pixels": x.shape[1],
            "zeros": float((h == 0).double().mean()),
            "atoms_per_patch": float(used.mean()),
            "explained": 1 - float((x - h @ model.dictionary.T).square().sum() / x.square().sum()),
            "oriented": float((selectivity > ORIENTED).double().mean()),
            "median_selectivity": float(selectivity.median()),
            "patches": len(x),
        }
    low, high = numbers["digits"], numbers["photos"]
    heads = [f"{count}" for count in ADDED]
    return Findings(
        figures={
            "digits": Figure(
                _sheet(pictures["digits"]), "Atoms learnt from digits, from coarse to fine, grey where zero"
            ),
            "photos": Figure(
                _sheet(pictures["photos"]), "Atoms learnt from photographs, as whitened patches have them"
            ),
            "code": Figure(_bars(bars), "The whole code of one patch of digits and of one of photographs"),
            "sums": Figure(
                rows([[(n, p) for n, p in group] for group in built], heads=[*heads, "patch"], scale=4),
                "Patches put together from so many of their atoms, the largest first",
            ),
        },
        sentences=(
            f"A patch of digits takes {low['atoms_per_patch']:.1f} of {low['atoms']} atoms ({percent(low['zeros'])} of "
            f"its code is zero), which explain {percent(low['explained'])} of its squares, and a patch of photographs "
            f"{high['atoms_per_patch']:.1f} of {high['atoms']} ({percent(high['zeros'])}), which explain "
            f"{percent(high['explained'])}.",
            f"The selectivity of {percent(high['oriented'])} of the atoms of photographs and of "
            f"{percent(low['oriented'])} of those of digits is above {ORIENTED}, which one filter of noise in a "
            "thousand exceeds.",
        ),
        numbers=numbers,
    )


def partial_sums(model: Codes, x: Tensor, h: Tensor) -> Tensor:
    """A patch (d,) from the largest entries of its code (K,), as many as :data:`ADDED` says, and the patch itself.

    Returns:
        Images in [0, 1], all on one scale with 0 as grey, (len(ADDED) + 1, C, s, s).
    """
    order = h.abs().argsort(descending=True)
    sums = [model.dictionary[:, order[:count]] @ h[order[:count]] for count in ADDED]
    images = torch.stack([*sums, x]).unflatten(1, (-1, model.patches.side, model.patches.side))
    return (images / images.abs().amax() / 2 + 1 / 2).clamp(0, 1)


def _sheet(pictures: Tensor) -> bytes:
    """Atoms in rows of ten."""
    return rows([[("", part) for part in pictures.split(10)]], scale=4)


def _bars(codes: dict[str, Tensor]) -> bytes:
    """Every coefficient of a code, a panel for each."""
    with drawing(4.6, 3.6) as made:
        for place, ((name, code), hue) in enumerate(zip(codes.items(), (BLUE, ORANGE), strict=True)):
            axes = made.figure.add_axes((0.125, 0.56 - 0.44 * place, 0.85, 0.36))
            at = code.nonzero().flatten().tolist()
            axes.axhline(0, color=FAINT, linewidth=0.8)
            axes.vlines(at, 0, code[at].tolist(), color=hue, linewidth=1.8)
            axes.set_xlim(-1, len(code))
            words = f"{name}: {len(at)} of {len(code)} atoms"
            axes.text(1.0, 1.02, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=9.5)
            rule(axes)
            if place:
                axes.set_xlabel("atom", labelpad=1)
            else:
                axes.set_xticklabels([])
    return made.png
