"""Every registered model at toy size: one line here is all a new model owes the contract tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen.data.sample import Arrays, Collection, Split, in_memory
from gen.data.spaces import DataSpec, Space
from gen.recipe import Recipe, Training
from gen.registry import entry

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
}
SPEC = {kind: DataSpec(shape=(1, 12, 12), num_classes=10, space=Space.parse(text)) for kind, text in {
    "binary_dynamic": "binary_dynamic",
    "binary_fixed": "binary_fixed",
    "levels": "levels(4)",
    "dequantized": "dequantized",
    "signed": "signed",
}.items()}  # fmt: skip


def toy_spec(model: str) -> DataSpec:
    """A data spec in the first space the model lives in."""
    return SPEC[entry(model).cls.spaces[0]]


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
