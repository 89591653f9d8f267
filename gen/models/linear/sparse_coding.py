"""Sparse coding: a patch is a combination of few atoms from an overcomplete dictionary.

Where the factor model gives every image a little of every pattern, sparse coding gives every patch a few out of more
atoms than it has dimensions: x = D h + noise with a Laplace prior on h, whose posterior mode is the code. The prior
makes most entries exactly zero, and what D learns under it are strokes on digits and edges on photographs, local and
oriented like the receptive fields of simple cells [1]. Without a bound on the atoms the penalty is meaningless, since D
could grow and h shrink.

Objective, over random patches x with their mean removed:

    min_D  E_x  min_h  1/2 |x - D h|^2 + lambda |h|_1     subject to |d_k| <= 1

The mean is coded separately, as one more number per patch that costs nothing; else the largest atoms learn brightness.
Photographs should also be whitened, by ZCA with the spectrum of the first training images (`gen.inference.whitening`):
with their own, atoms learn coarse waves. It is patch by patch and has an inverse, so that codes decode to images, which
the band-pass filter of [1] for whole photographs has not; its floor does what the low-pass of [1] does. Digits have
pixels that hardly ever vary, whose noise whitening would raise: they are left as they are.

Algorithm: alternate, on every batch of patches,

    codes        h* by FISTA with D fixed (`gen.inference.sparse`)
    dictionary   one step of SGD on E 1/2 |x - D [h*]|^2, the gradient of the whole objective in D since h* minimises it
    projection   d_k <- d_k / max(1, |d_k|), which SGD then needs (projected gradient)
    revival      once in a stretch, for the atoms no patch has used since the last time: one step, of size 1, on
                 1/2 |d_k - [x_k] / |x_k||^2, with x_k the k-th worst reconstructed patch of the batch; then |d_k| <- 1

Plain SGD with a large rate, as in [1], not Adam: the curvature E[h h^T] is much the same for all entries, and Adam's
rescaling stops at an objective 10 % higher on digits. Atoms start as patches, so that few of them ever die. A dead atom
has no gradient and never would return; as a patch that was coded badly it is used at once. Where a batch is shared by
several ranks, x_k / |x_k| is the mean over the worst patches of each, so that all ranks keep one dictionary.

Logged, per patch: `objective`; `error`, the mean squared error of a pixel; `zeros`, the share of zeros among the codes;
`violation`, the largest violation of the optimality conditions in units of lambda; `unused`, the share of atoms that no
patch of the batch uses; `revived`, how many atoms a revival replaced.

[1] B. Olshausen, D. Field (1996). Emergence of simple-cell receptive field properties by learning a sparse code for
    natural images.
[2] J. Mairal, F. Bach, J. Ponce, G. Sapiro (2010). Online learning for matrix factorization and sparse coding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference import sparse
from gen.inference.whitening import zca
from gen.model import SGD, Batch, GenerativeModel, Metrics, Optim, Progress, Update
from gen.nets.patches import Patches
from gen.registry import register


@register("sparse_coding")
class SparseCoding(GenerativeModel):
    """Dictionary learning on patches of images.

    Args:
        atoms: K, columns of the dictionary.
        patch: height and width of a patch in pixels.
        penalty: lambda, in units of the space; larger means fewer atoms per patch. Whitening keeps the mean squared
            length of patches, so that it means the same with and without.
        whiten: what whitening adds to every eigenvalue, in units of their mean; ``None`` leaves patches as they are.
        patches_per_image: random patches drawn from every image of a batch.
        iterations: FISTA steps per batch in training, at most. More make a batch's gradient exact; fewer, more batches.
        stretch: images between two revivals. An atom is dead if no patch used it for so long.
    """

    spaces = ("signed",)

    used: Tensor  # (K,) sum over the batches since the last revival of the share of patches that use an atom
    whitener: Tensor | None  # (d, d), and its inverse
    colourer: Tensor | None

    def __init__(
        self,
        spec: DataSpec,
        *,
        atoms: int = 200,
        patch: int = 10,
        penalty: float = 0.5,
        whiten: float | None = None,
        patches_per_image: int = 4,
        iterations: int = 50,
        stretch: int = 1000,
    ) -> None:
        super().__init__(spec)
        if not penalty > 0:
            raise RecipeError(f"hyper.penalty: found {penalty}, allowed above 0; start at the default and halve it.")
        if whiten is not None and not whiten > 0:
            raise RecipeError(f"hyper.whiten: found {whiten}, allowed above 0 (photographs: 0.3) or null for none.")
        at_least(1, atoms=atoms, patches_per_image=patches_per_image, iterations=iterations, stretch=stretch)
        self.penalty, self.whiten = penalty, whiten
        self.patches_per_image, self.iterations, self.stretch = patches_per_image, iterations, stretch
        self.patches = Patches(spec.shape, patch)
        self.dictionary = nn.Parameter(normalize(torch.randn(self.patches.dims, atoms), dim=0))  # (d, K)
        self.register_buffer("used", torch.zeros(atoms))
        self.register_load_state_dict_pre_hook(_without_revival)
        for name in ("whitener", "colourer"):
            self.register_buffer(name, None if whiten is None else torch.eye(self.patches.dims))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """See base."""
        return {"dictionary": [self.dictionary], "revival": [self.dictionary]}

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"dictionary": SGD(lr=5.0, decay="linear"), "revival": SGD(lr=1.0)}

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """See base. Atoms become (whitened) patches, evenly spaced among those of more than median contrast."""
        patches = self.patches.covering(x)
        if self.whiten is not None:
            self.whitener, self.colourer = zca(patches - patches.mean(1, keepdim=True), self.whiten)
        candidates = self.centred(patches)[0]
        contrast = candidates.norm(dim=1)
        candidates = candidates[contrast > contrast.median()]
        count = min(len(candidates), self.dictionary.shape[1])
        if count:
            chosen = torch.linspace(0, len(candidates) - 1, count).round().long()
            self.dictionary[:, :count] = normalize(candidates[chosen], dim=1).T

    def centred(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (N, d) without their means, whitened if they are to be; and the means, (N, 1)."""
        mean = x.mean(1, keepdim=True)
        return x - mean if self.whitener is None else (x - mean) @ self.whitener, mean

    def reconstruct(self, x: Tensor, h: Tensor) -> tuple[Tensor, Metrics]:
        """1/2 |x - D h|^2, mean over centred patches (N, d) with codes (N, K); and the metrics."""
        D = self.dictionary.detach()
        loss = (x - h @ self.dictionary.T).square().sum(1).mean() / 2
        return loss, {
            "objective": sparse.objective(x, D, h, self.penalty).mean(),
            "error": 2 * loss.detach() / x.shape[1],
            "zeros": (h == 0).to(x).mean(),
            "violation": sparse.kkt_violation(x, D, h, self.penalty).amax(),
            "unused": (h == 0).all(0).to(x).mean(),
        }

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """One step of projected SGD and, where a stretch ends, the revival of dead atoms."""
        x = self.centred(self.patches.random(next(batches).x, self.patches_per_image))[0]
        with torch.no_grad():
            h = sparse.fista(x, self.dictionary, self.penalty, iterations=self.iterations)
            dead = torch.zeros(0)
            if self.stretch_ends(progress):  # before this batch is counted: so far all ranks have counted the same
                dead = (self.used == 0).nonzero().flatten()[: len(x)]
                self.used.zero_()
            self.used += (h != 0).to(x).mean(0)
            worst = (x - h @ self.dictionary.T).square().sum(1).topk(len(dead)).indices
        yield Update("dictionary", *self.reconstruct(x, h))
        self.project()
        if len(dead):
            distance = (self.dictionary[:, dead] - normalize(x[worst], dim=1).T).square().sum() / 2
            yield Update("revival", distance, {"revived": x.new_tensor(float(len(dead)))})
            self.project(dead)

    def stretch_ends(self, progress: Progress) -> bool:
        """Whether the last step, which drew as many images as each before it, took the clock past a revival."""
        before = progress.images - progress.images // max(1, progress.step)
        return progress.images // self.stretch > before // self.stretch

    @torch.no_grad()
    def project(self, filled: Tensor | None = None) -> None:
        """Scale atoms that are too long to length 1, and those of the indices ``filled``, which are too short."""
        norm = self.dictionary.norm(dim=0)
        # The margins are above rounding: a projected atom is left exactly as it is.
        wrong = norm > 1 + 1e-6
        if filled is not None:
            wrong[filled] |= (norm[filled] < 1 - 1e-6) & (norm[filled] > 0)
        self.dictionary.div_(torch.where(wrong, norm, 1))

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """See base. On the patches that cover the images and converged codes, so that nothing is left to chance."""
        x = self.centred(self.patches.covering(batch.x))[0]
        _, metrics = self.reconstruct(x, sparse.fista(x, self.dictionary, self.penalty))
        return {"loss": metrics["objective"], **metrics}

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`. For each of the P covering patches its mean and code, (B, P * (1 + K))."""
        patches, mean = self.centred(self.patches.covering(x))
        return torch.cat([mean, sparse.fista(patches, self.dictionary, self.penalty)], 1).view(len(x), -1)

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`. Pixels in several patches are averaged."""
        mean, h = code.view(-1, 1 + self.dictionary.shape[1]).split([1, self.dictionary.shape[1]], 1)
        patches = h @ self.dictionary.T
        patches = mean + (patches if self.colourer is None else patches @ self.colourer)
        return self.patches.join(patches)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`. Atoms from coarse to fine, as whitened patches have them; grey is 0."""
        return {"atoms": self.patches.pictures(self.dictionary.T)}


def _without_revival(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Dictionaries saved before atoms were revived have counted nothing."""
    state.setdefault(f"{prefix}used", torch.zeros_like(module.get_buffer("used")))
