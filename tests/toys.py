"""Every registered model at toy size: one line here is all a new model owes the contract tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gen.data.sample import Arrays, Collection, Split, in_memory
from gen.data.spaces import DataSpec, Space
from gen.recipe import Recipe, Training
from gen.registry import entry
from gen.shards.write import write_shards

TOY_HYPER: dict[str, dict[str, Any]] = {
    "factor": {"latents": 4},
    "factor_gradient": {"latents": 4},
    "sparse_coding": {"patch": 6, "atoms": 60, "penalty": 1.0, "whiten": 0.3, "stretch": 16},
    "autoencoder": {"latents": 3, "hidden": (16,)},
    "denoising": {"latents": 5, "hidden": (16,), "steps": 5},
    "rbm": {"hidden": 12, "chains": 6, "burn_in": 5, "particles": 10, "temperatures": 20},
    "gaussian_rbm": {"hidden": 12, "chains": 6, "burn_in": 5, "particles": 10, "temperatures": 20},
    "dbn": {"hidden": (12, 10), "chains": 6, "burn_in": 5, "particles": 10, "temperatures": 20},
    "vae": {"latents": 3, "hidden": (16,)},
    "iwae": {"latents": 3, "hidden": (16, 16), "samples": 3},
    "conditional_vae": {"latents": 3, "features": 12, "embedding": 8, "hidden": (16,)},
    "flow_vae": {"latents": 3, "hidden": (16,), "features": 5, "width": 8},
    "ladder_vae": {"latents": (3, 2), "hidden": (16,), "width": 8, "warm_up": 32},
    "dcgan": {"latents": 4, "width": 2},
    "wgan_gp": {"latents": 4, "width": 2, "critic_steps": 2},
    "pixelcnn": {"features": 4, "blocks": 2, "kernel": 3, "head": 6},
    "pixel_lstm": {"hidden": 6},
    "row_lstm": {"features": 4, "layers": 2, "kernel": 3, "head": 6},
    "diagonal_bilstm": {"features": 4, "layers": 2, "kernel": 3, "head": 6},
    "spatial_lstm": {"hidden": 4, "components": 2, "scales": 2, "features": 3},
    "pixelcnn_pp": {"features": 4, "resnets": 1, "scales": 2, "components": 2},
    "multiscale_pixelrnn": {"features": 4, "layers": 2, "small_layers": 2, "kernel": 3, "head": 6, "maps": 3},
    "gated_pixelcnn": {"features": 4, "layers": 3, "kernel": 3, "head": 6},
    "conditional_pixelcnn": {
        **{"where": "by_location", "embedding": 3, "hidden": (4,), "features": 4},
        **{"layers": 3, "kernel": 3, "head": 6},
    },
    "pixelcnn_decoder": {"latents": 3, "hidden": (4,), "maps": 3, "features": 4, "layers": 2, "kernel": 3, "head": 6},
    "video_pixel_network": {"context": 2, "features": 2, "encoder": 1, "states": 3, "decoder": 1},
}
SPEC = {kind: DataSpec(shape=(1, 12, 12), num_classes=10, space=Space.parse(text)) for kind, text in {
    "binary_dynamic": "binary_dynamic",
    "binary_fixed": "binary_fixed",
    "levels": "levels(4)",
    "dequantized": "dequantized",
    "signed": "signed",
}.items()}  # fmt: skip


FRAMES = 4


def toy_specs(model: str) -> dict[str, DataSpec]:
    """A data spec in every kind of space, of images or of videos."""
    return {kind: replace(spec, frames=FRAMES if entry(model).cls.videos else None) for kind, spec in SPEC.items()}


def toy_spec(model: str) -> DataSpec:
    """A data spec in the first space the model lives in."""
    return toy_specs(model)[entry(model).cls.spaces[0]]


def toy_data(model: str, shards: Path) -> Path:
    """The shards for a model: the toy digits, or the toy videos beside them. See :func:`write_toys`."""
    return shards.with_name("videos") if entry(model).cls.videos else shards


def write_toys(data: Collection, shards: Path) -> None:
    """Toy digits and toy videos as shards."""
    digits = toy_digits(data)
    write_shards(digits, shards)
    write_shards(toy_videos(digits), shards.with_name("videos"))


def toy_recipe(model: str, **training: Any) -> Recipe:
    """A recipe of a few steps: 8 images a batch, in 2 slices."""
    settings: dict[str, Any] = {"images": 64, "batch": 8, "slices": 2, "report": 16, "validate": 32, "pictures": 64}
    return Recipe(
        name=f"toy-{model}",
        model=model,
        dataset="toy",
        space=str(toy_spec(model).space),
        hyper=TOY_HYPER[model],
        training=Training(**{**settings, "checkpoint": 16, **training}),
    )


def toy_digits(data: Collection) -> Collection:
    """A few digits, cropped to 24x24 and averaged down to 12x12."""
    counts = {"train": 240, "validation": 60, "test": 60}

    def shrink(split: Split, count: int) -> Arrays:
        assert isinstance(split.samples, Arrays)
        chosen = np.linspace(0, len(split) - 1, count).astype(int)
        crop = split.samples.images[chosen][:, 2:26, 2:26].astype(np.float64)
        small = crop.reshape(count, 12, 2, 12, 2, 1).mean((2, 4)).round().astype(np.uint8)
        return Arrays(small, None if split.labels is None else split.labels[chosen])

    splits = {name: shrink(data.splits[name], count) for name, count in counts.items()}
    return in_memory(data.source, splits, classes=data.classes)


def toy_videos(digits: Collection) -> Collection:
    """Digits that move to the right, a pixel a frame."""

    def moved(split: Split) -> Arrays:
        assert isinstance(split.samples, Arrays)
        frames = [np.roll(split.samples.images, step, axis=2) for step in range(FRAMES)]
        return Arrays(np.stack(frames, 1), split.labels)

    return in_memory(digits.source, {k: moved(split) for k, split in digits.splits.items()}, classes=digits.classes)
