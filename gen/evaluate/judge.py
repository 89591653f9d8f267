"""Judge: a small classifier whose features are the ruler of FID, KID, precision, recall and memorisation.

The usual ruler, Inception-v3, knows photographs and has to be downloaded. A ruler for a data set of one's own is a
classifier trained on its train split: three convolutions and a layer of 64 features, minutes at most. A different
judge is a different ruler, so it is versioned: every score in its space names the first eight hex digits of the
sha256 of its weights, and scores of two judges are never compared.

Models live in several spaces (:mod:`gen.data.spaces`), some of them binary. Half of the training images are therefore
binarised at random, so that one judge serves grey and binary samples alike.

Data without labels get a judge all the same: one that tells how an image was mirrored, which takes knowing what such
images look like (the pretext of [3], with mirrors for rotations, which would need square images).

The features are standardised (batch normalisation without scale or shift): over the training images each has mean 0
and variance about 1. This gives distances one unit whatever the size the weights happened to grow to.

References:
    [1] M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter. GANs trained by a two time-scale update rule
        converge to a local Nash equilibrium. 2017. (FID; a feature space of a classifier as the ruler)
    [2] G. Stein, J. C. Cresswell, R. Hosseinzadeh, Y. Sui, B. L. Ross, V. Villecroze, Z. Liu, A. L. Caterini,
        J. E. T. Taylor, G. Loaiza-Ganem. Exposing flaws of generative model evaluation metrics and their unfair
        treatment of diffusion models. 2023. (what a feature space does and does not see)
    [3] S. Gidaris, P. Singh, N. Komodakis. Unsupervised representation learning by predicting image rotations. 2018.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from gen.data.spaces import Space
from gen.errors import DataError, StoreError
from gen.evaluate.seeds import fixed_seed
from gen.files import atomic_directory, check_seal, load_tensors, read_json, save_tensors, seal, write_json

FEATURES = 64
BATCH = 64
SHIFT = 2  # pixels, each way; less where a side has fewer than 8
_BINARY = Space.parse("binary_dynamic")


class Judge(nn.Module):
    """A classifier of 8-bit images of any size, down to a single pixel: a point of the plane is one with two channels.

    Attributes:
        facts: JSON-able record of how it was trained and how well it does; empty before training.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.channels, self.num_classes = channels, num_classes
        self.facts: dict[str, Any] = {}
        self.body = nn.Sequential(
            *_block(channels, 32, stride=2),
            *_block(32, 64, stride=2),
            *_block(64, 64, stride=1),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES, affine=False),
        )
        self.head = nn.Linear(FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> features (N, 64)."""
        out: Tensor = self.body(images.to(self.head.weight.dtype) / 127.5 - 1.0)
        return out

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> class scores (N, K)."""
        out: Tensor = self.head(self.features(images))
        return out

    @property
    def hash(self) -> str:
        """First eight hex digits of the sha256 of the weights file, saved or not."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return hashlib.sha256(save(weights)).hexdigest()[:8]


def _block(inputs: int, outputs: int, *, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


MIRRORS = 4
"""Ways to mirror an image: not at all, left to right, top to bottom, both."""


def mirrored(images: Tensor) -> tuple[Tensor, Tensor]:
    """Every image in one of the four ways, in turn, and which: (N, C, H, W) and int64 (N,)."""
    ways = torch.arange(len(images), device=images.device) % MIRRORS
    across = torch.where((ways % 2 == 1)[:, None, None, None], images.flip(3), images)
    return torch.where((ways >= 2)[:, None, None, None], across.flip(2), across), ways


def frame_by_frame(images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Videos (N, C, T, H, W) as images (N T, C, H, W), each with its video's label; images as they are."""
    if images.ndim == 4:
        return images, labels
    frames = images.shape[2]
    return images.movedim(2, 1).flatten(0, 1), None if labels is None else labels.repeat_interleave(frames)


def train_judge(
    images: Tensor,
    labels: Tensor | None,
    validation: tuple[Tensor, Tensor | None],
    *,
    seed: int = 0,
    images_budget: int = 32_000,
) -> Judge:
    """Train a judge; the same seed, device and number of threads give the same weights.

    Args:
        images: the train split, uint8 (N, C, H, W); of videos (N, C, T, H, W) every frame is an image.
        labels: its classes, int64 (N,), from 0; ``None`` trains it to tell mirrored images.
        validation: held-out images and labels, for the accuracies in ``facts``.
        seed: of weights, order, binarisation and shifts.
        images_budget: images to train on, counted with repetition; at least one batch.
    """
    (images, labels), (held_out, classes) = frame_by_frame(images, labels), frame_by_frame(*validation)
    task = "mirrors" if labels is None or classes is None else "classes"
    if labels is None or classes is None:
        images, labels = mirrored(images)
        held_out, classes = mirrored(held_out)
    if labels.unique().numel() < 2:
        raise DataError("judge: the labels name fewer than two classes, so there is nothing to tell apart.")
    steps = max(1, images_budget // BATCH)
    with fixed_seed(seed), torch.enable_grad():
        judge = Judge(images.shape[1], int(labels.max()) + 1).to(images.device)
        optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.05, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        epochs = -(-steps * BATCH // len(images))
        order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)])[: steps * BATCH]
        for rows in order.to(images.device).split(BATCH):
            logits = judge.logits(_half_binarised(_shifted(images[rows])))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[rows]).backward()
            optimizer.step()
            schedule.step()
        judge.eval().requires_grad_(False)
        judge.facts = {
            "task": task,
            "seed": seed,
            "images_budget": images_budget,
            "train": {"n": len(images), "sha256": _digest(images, labels)},
            "validation": {
                "n": len(held_out),
                "accuracy_8_bit": accuracy(judge, held_out, classes),
                "accuracy_binarised": accuracy(judge, _BINARY.decode(_BINARY.encode(held_out)), classes),
            },
        }
    return judge


def _shifted(images: Tensor) -> Tensor:
    """Each image moved by up to ``SHIFT`` pixels up, down, left and right, a small one by no more than a quarter of it;
    black comes in at the edge."""
    n, c, h, w = images.shape
    shift = min(SHIFT, h // 4, w // 4)
    padded = F.pad(images, (shift,) * 4)
    offsets = torch.randint(0, 2 * shift + 1, (2, n, 1), device=images.device)
    y, x = (torch.arange(size, device=images.device) + offset for size, offset in zip((h, w), offsets, strict=True))
    sample = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(c, device=images.device)[:, None, None]
    return padded[sample, channel, y[:, None, :, None], x[:, None, None, :]]


def _half_binarised(images: Tensor) -> Tensor:
    """About half of the images as a model of bits sees them, the others as they are."""
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(chosen, _BINARY.decode(_BINARY.encode(images)), images)


def _digest(images: Tensor, labels: Tensor) -> str:
    """sha256 of the pixels followed by the labels."""
    sha = hashlib.sha256(images.cpu().contiguous().numpy().tobytes())
    sha.update(labels.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


@torch.no_grad()
def extract(judge: Judge, images: Tensor, *, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """Features (N, 64) and class probabilities (N, K) of uint8 images, float64 on the CPU."""
    device = judge.head.weight.device
    features = torch.cat([judge.features(part.to(device)) for part in images.split(batch_size)])
    return features.double().cpu(), judge.head(features).double().softmax(dim=1).cpu()


def accuracy(judge: Judge, images: Tensor, labels: Tensor) -> float:
    """Share of the uint8 images whose most probable class is their label."""
    _, probabilities = extract(judge, images)
    return float((probabilities.argmax(dim=1) == labels.cpu()).double().mean())


def save_judge(directory: Path, judge: Judge) -> None:
    """Write ``judge.safetensors`` and ``judge.json``; the directory appears, or is replaced, in one step."""
    with atomic_directory(directory) as staging:
        save_tensors(staging / "judge.safetensors", judge.state_dict())
        shape = {"channels": judge.channels, "num_classes": judge.num_classes, "features": FEATURES}
        facts = {"hash": judge.hash, **shape, **judge.facts, "files": seal(staging)}
        write_json(staging / "judge.json", facts)


def load_judge(directory: Path) -> Judge:
    """Read a judge, in evaluation mode.

    Raises:
        StoreError: a file is missing, damaged, changed since it was saved, or does not fit this code.
    """
    facts = read_json(directory / "judge.json")
    try:
        check_seal(directory, facts.pop("files"))
        recorded, features = facts.pop("hash"), facts.pop("features")
        judge = Judge(facts.pop("channels"), facts.pop("num_classes"))
        judge.load_state_dict(load_tensors(directory / "judge.safetensors"))
    except (KeyError, RuntimeError) as problem:
        raise StoreError(f"{directory}: not a judge that this version can read: {problem}. Train it again.") from None
    if (features, judge.hash) != (FEATURES, recorded):
        raise StoreError(f"{directory}: the weights hash to {judge.hash}, but judge.json says {recorded}.")
    judge.facts = facts
    return judge.eval().requires_grad_(False)
