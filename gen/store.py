"""Trained models on disk: safetensors and JSON, never a pickle, and never loaded unless every byte is as saved.

model.safetensors    weights and persistent buffers
model.json           what builds the model again, and the checksum of the weights
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gen.data.spaces import DataSpec, Space
from gen.errors import StoreError
from gen.files import check_seal, load_tensors, read_json, save_tensors, seal, write_json
from gen.model import GenerativeModel
from gen.registry import build

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A model read from disk.

    Attributes:
        model: in evaluation mode.
        meta: the whole of ``model.json``: recipe, provenance, data digest.
    """

    model: GenerativeModel
    meta: dict[str, Any]


def save_model(directory: Path, model: GenerativeModel, *, name: str, hyper: dict[str, Any], **meta: Any) -> None:
    """Write a model into an existing (staging) directory.

    Args:
        directory: where to; the caller makes it appear atomically.
        model: to be saved.
        name: registered name or chapter.
        hyper: the hyper-parameters it was built with.
        meta: further JSON-able facts (recipe, images seen, data digest).
    """
    save_tensors(directory / "model.safetensors", model.state_dict())
    spec = model.spec
    write_json(
        directory / "model.json",
        {
            "format": FORMAT,
            "model": name,
            "hyper": hyper,
            "spec": {"shape": list(spec.shape), "num_classes": spec.num_classes, "space": str(spec.space)},
            "files": seal(directory),
            **meta,
        },
    )


def load_model(directory: Path | str, *, device: torch.device | str = "cpu") -> Stored:
    """Read a model back.

    Raises:
        StoreError: a file is missing, damaged, changed since it was saved, or does not fit the model's code.
    """
    directory = Path(directory)
    meta = read_json(directory / "model.json")
    if meta.get("format") != FORMAT:
        raise StoreError(f"{directory / 'model.json'}: format {meta.get('format')!r}; this version reads {FORMAT}.")
    check_seal(directory, meta["files"])
    spec = DataSpec(
        shape=tuple(meta["spec"]["shape"]),
        num_classes=meta["spec"]["num_classes"],
        space=Space.parse(meta["spec"]["space"]),
    )
    model = build(meta["model"], spec, **meta["hyper"])
    try:
        model.load_state_dict(load_tensors(directory / "model.safetensors"))
    except RuntimeError as problem:
        raise StoreError(f"{directory}: the weights do not fit the code of '{meta['model']}': {problem}") from None
    return Stored(model.to(device).eval(), meta)
