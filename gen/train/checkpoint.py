"""Checkpoints: a directory of named tensors and one JSON, whole or not there, and never trusted without its sums.

    checkpoints/000000090000/          images seen
        model.safetensors              parameters and shared buffers of the raw module
        average.safetensors            the moving average, if the recipe keeps one
        optimizers.safetensors         <group>/<index>/<name>
        slice-00000.safetensors        rank-local buffers of each slice (Gibbs chains)
        state.json                     clock, recipe, sums of the running averages, sha256 of every file

What is saved does not depend on the number of workers, so a run may go on with another number.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen.errors import StoreError
from gen.files import check_seal, commit, load_tensors, read_json, save_tensors, seal, write_json, writing
from gen.model import GenerativeModel
from gen.recipe import Recipe, difference
from gen.train.ema import Average
from gen.train.step import Stepper

FORMAT = 1
KEEP = 2
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Clock:
    """Where a run stands.

    Attributes:
        step: passes through the model's updates.
        images: images drawn.
        salt: number of roll-backs; part of the seed of every later step.
        seconds: time spent in steps, over all sessions.
        sums: of the metrics since the last report: per name the sum and the number of steps in it.
    """

    step: int = 0
    images: int = 0
    salt: int = 0
    seconds: float = 0.0
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)


def identity(recipe: Recipe, *, data: str, code: str) -> dict[str, Any]:
    """What a checkpoint belongs to: a recipe, the data it sees (digest) and the code that trains (digest)."""
    return {**recipe.as_dict(), "data": data, "code": code}


def _rank_local(model: GenerativeModel) -> list[str]:
    return [name for name, _ in model.named_buffers() if name in model.rank_local]


def optimizer_tensors(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """State of all optimizers as flat named tensors. Hyper-parameters are the recipe's and are not saved."""
    return {
        f"{group}/{index}/{name}": torch.as_tensor(value)
        for group, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def restore_optimizers(optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Inverse of :func:`optimizer_tensors`."""
    states: dict[str, dict[int, dict[str, Tensor]]] = {group: {} for group in optimizers}
    for key, value in tensors.items():
        group, index, name = key.rsplit("/", 2)
        states[group].setdefault(int(index), {})[name] = value
    for group, optimizer in optimizers.items():
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states[group]})


def save(
    directory: Path, *, recipe: Mapping[str, Any], clock: Clock, stepper: Stepper, average: Average | None
) -> Path:
    """Write a checkpoint; every rank calls it. Older ones beyond the newest :data:`KEEP` are removed.

    Args:
        directory: ``checkpoints/`` of the run, on storage that all ranks share.
        recipe: identity of the run; loading under another one is refused.
    """
    parallel, model = stepper.parallel, stepper.model
    destination = directory / f"{clock.images:012d}"
    staging = directory / f".{destination.name}.part"
    first = parallel.rank == 0
    with writing(destination):
        if first:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        parallel.barrier()
        names = _rank_local(model)
        for part in stepper.parts if names else ():
            buffers = part.buffers if len(stepper.parts) > 1 else dict(model.named_buffers())
            save_tensors(staging / f"slice-{part.index:05d}.safetensors", {name: buffers[name] for name in names})
        parallel.barrier()
        if first:
            shared = {name: t for name, t in model.state_dict().items() if name not in names}
            save_tensors(staging / "model.safetensors", shared)
            if average is not None:
                kept = {name: t for name, t in average.model.state_dict().items() if name not in names}
                save_tensors(staging / "average.safetensors", kept)
            save_tensors(staging / "optimizers.safetensors", optimizer_tensors(stepper.optimizers))
            state = {
                "format": FORMAT,
                "step": clock.step,
                "images": clock.images,
                "salt": clock.salt,
                "seconds": clock.seconds,
                "sums": clock.sums,
                "slices": parallel.slices,
                "recipe": recipe,
                "torch": torch.__version__,
                "files": seal(staging),
            }
            write_json(staging / "state.json", state)
            commit(staging, destination)
            for old in saved(directory)[:-KEEP]:
                shutil.rmtree(old)
    parallel.barrier()
    return destination


def transplant(source: Path, directory: Path, *, recipe: Mapping[str, Any]) -> Path:
    """Let a run go on from a checkpoint of another one: copy it under a new identity, in place of all others.

    Population-based training [Jaderberg et al. 2017] does this: a member takes the weights of a better one and goes on
    with hyper-parameters of its own. Weights that do not fit the new recipe are refused when they are loaded.

    Args:
        source: a checkpoint, which must be intact.
        directory: ``checkpoints/`` of the run that goes on.
        recipe: its identity (:func:`identity`).
    """
    state = read_json(source / "state.json")
    check_seal(source, state["files"])
    destination = directory / f"{state['images']:012d}"
    staging = directory / f".{destination.name}.part"
    with writing(destination):
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(source, staging)
        write_json(staging / "state.json", {**state, "recipe": recipe})
        others = [path for path in saved(directory) if path != destination]
        commit(staging, destination)
        for other in others:
            shutil.rmtree(other)
    return destination


def saved(directory: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in directory.glob("[0-9]" * 12) if path.is_dir())


def read_state(checkpoint: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """``state.json`` of an intact checkpoint of this very recipe.

    Raises:
        StoreError: damaged or changed files; or another recipe, with the difference spelled out.
    """
    state: dict[str, Any] = read_json(checkpoint / "state.json")
    if state.get("format") != FORMAT:
        raise StoreError(f"{checkpoint}: format {state.get('format')!r}; this version reads {FORMAT}.")
    check_seal(checkpoint, state["files"])
    if changed := difference(state["recipe"], recipe):
        raise StoreError(
            f"{checkpoint}: was saved by another recipe:\n  " + "\n  ".join(changed) + "\n"
            "Put the recipe back, or train in another directory."
        )
    return state


def load(checkpoint: Path, *, recipe: Mapping[str, Any], stepper: Stepper, average: Average | None) -> Clock:
    """Put a checkpoint into a freshly built run; every rank calls it. Raises like :func:`read_state`."""
    state = read_state(checkpoint, recipe)
    model, device = stepper.model, stepper.device
    names = _rank_local(model)
    _load_into(model, load_tensors(checkpoint / "model.safetensors", device=device), names)
    if average is not None:
        _load_into(average.model, load_tensors(checkpoint / "average.safetensors", device=device), names)
    restore_optimizers(stepper.optimizers, load_tensors(checkpoint / "optimizers.safetensors", device=device))
    buffers = dict(model.named_buffers())
    for part in stepper.parts:
        path = checkpoint / f"slice-{part.index:05d}.safetensors"
        for name, tensor in (load_tensors(path, device=device) if names else {}).items():
            buffers[name].copy_(tensor)
        part.keep_buffers(model)
    keys = ("step", "images", "salt", "seconds", "sums")
    return Clock(**{key: state[key] for key in keys})


def _load_into(model: GenerativeModel, tensors: Mapping[str, Tensor], rank_local: list[str]) -> None:
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as problem:  # weights of other shapes
        raise StoreError(f"the checkpoint does not fit the model: {problem}") from None
    if unexpected or set(missing) - set(rank_local):
        raise StoreError(f"the checkpoint does not fit the model: missing {missing}, unexpected {unexpected}.")


def newest(directory: Path, recipe: Mapping[str, Any]) -> Path | None:
    """The newest intact checkpoint, or ``None`` if nothing was saved yet.

    A damaged one is passed over with a warning, because an older one is still good.

    Raises:
        StoreError: checkpoints exist but none can be used.
    """
    problem: StoreError | None = None
    for checkpoint in reversed(saved(directory)):
        try:
            read_state(checkpoint, recipe)
        except StoreError as error:
            log.warning("passing over a checkpoint: %s", error)
            problem = problem or error
        else:
            return checkpoint
    if problem is not None:
        raise problem
    return None
