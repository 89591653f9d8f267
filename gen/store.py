"""Trained models on disk: safetensors and JSON, never a pickle, and never loaded unless every byte is as saved.

model.safetensors    weights and persistent buffers
model.json           what builds the model again, the checksum of the weights, and its own

A checksum beside what it sums up finds damage and careless edits, no more: who can write here can write a new one.
A registered model is also held to checksums kept in the registry (pipelines/tracking/sealed.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gen.data.spaces import DataSpec, Space
from gen.errors import StoreError
from gen.files import check_seal, load_tensors, read_json, save_tensors, seal, sha256, write_bytes, write_json
from gen.model import GenerativeModel
from gen.registry import build

FORMAT = 2
CONFIG, WEIGHTS = "model.json", "model.safetensors"


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
    save_tensors(directory / WEIGHTS, model.state_dict())
    spec, path = model.spec, directory / CONFIG
    write_json(
        path,
        {
            "format": FORMAT,
            "seal": "",
            "model": name,
            "hyper": hyper,
            "spec": {
                "shape": list(spec.shape),
                "num_classes": spec.num_classes,
                "space": str(spec.space),
                **({} if spec.frames is None else {"frames": spec.frames}),
            },
            "files": seal(directory),
            **meta,
        },
    )
    write_bytes(path, path.read_bytes().replace(b'""', f'"{sha256(path)}"'.encode(), 1))  # the seal is the first text


def read_config(directory: Path) -> dict[str, Any]:
    """The ``model.json`` of a stored model, byte for byte as it was saved; the weights are not looked at.

    Raises:
        StoreError: it is missing, damaged, changed since it was saved, or of another format.
    """
    path = directory / CONFIG
    meta: dict[str, Any] = read_json(path)
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:  # an older one has no seal; if it were read, a changed number would get round the seal
        raise StoreError(f"{path}: format {found!r}; this version reads {FORMAT}. Train the model again with it.")
    seal = str(meta.get("seal", ""))
    if hashlib.sha256(path.read_bytes().replace(seal.encode(), b"", 1)).hexdigest() != seal:
        raise StoreError(
            f"{path}: it is not as it was saved: it was damaged or changed, a hyper-parameter perhaps. Restore it or "
            "train again."
        )
    return meta


def load_model(directory: Path | str, *, device: torch.device | str = "cpu") -> Stored:
    """Read a model back.

    Raises:
        StoreError: a file is missing, damaged, changed since it was saved, or does not fit the model's code.
    """
    directory = Path(directory)
    meta = read_config(directory)
    check_seal(directory, meta["files"])
    spec = DataSpec(
        shape=tuple(meta["spec"]["shape"]),
        num_classes=meta["spec"]["num_classes"],
        space=Space.parse(meta["spec"]["space"]),
        frames=meta["spec"].get("frames"),
    )
    model = build(meta["model"], spec, **meta["hyper"])
    try:
        model.load_state_dict(load_tensors(directory / WEIGHTS))
    except RuntimeError as problem:
        raise StoreError(f"{directory}: the weights do not fit the code of '{meta['model']}': {problem}") from None
    return Stored(model.to(device).eval(), meta)
