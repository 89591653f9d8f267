"""Toy runs in this process, stopped at will, and in two processes that meet over gloo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from gen.data.reading import Reading
from gen.errors import PreemptedError
from gen.files import load_tensors
from gen.recipe import Recipe
from gen.train import checkpoint
from gen.train.context import ProcessContext
from gen.train.loop import _Run, fit
from tests.toys import toy_data

READING = Reading()


class Stopping(ProcessContext):
    """Asks to stop the n-th time it is asked."""

    def __init__(self, after: int, **facts: int) -> None:
        super().__init__(**facts)
        self.left = after

    def stopping(self) -> bool:
        self.left -= 1
        return self.left < 0


def run(
    recipe: Recipe, data: Path, directory: Path, *, stop_after: int | None = None, reading: Reading = READING
) -> dict[str, Tensor]:
    """Train in this process; returns everything its newest checkpoint holds."""
    context = ProcessContext() if stop_after is None else Stopping(stop_after)
    try:
        fit(recipe, data=data, directory=directory, context=context, reading=reading)
    except PreemptedError:
        assert stop_after is not None
    return state(directory)


def state(directory: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint, by file and name."""
    newest = checkpoint.saved(directory / "checkpoints")[-1]
    return {
        f"{path.stem}/{name}": tensor
        for path in sorted(newest.glob("*.safetensors"))
        for name, tensor in load_tensors(path).items()
    }


def worst(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Largest difference over all tensors, relative to each tensor's scale."""
    assert a.keys() == b.keys()
    return max(
        ((a[k].double() - b[k].double()).abs().max() / b[k].double().abs().max().clamp(min=1.0)).item()
        for k in a
        if a[k].numel()
    )


def _rank(rank: int, world: int, port: int, recipes: list[Recipe], data: Path, root: Path, reading: Reading) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    for recipe in recipes:
        context = ProcessContext(rank=rank, world=world)
        shards, directory = toy_data(recipe.model, data), root / recipe.name
        training = _Run(recipe, data=shards, directory=directory, context=context, code="", reading=reading)
        training.train()
        training.close()
        model = training.model
        held = {name: tensor for name, tensor in model.state_dict().items() if name not in model.rank_local}
        held |= checkpoint.optimizer_tensors(training.stepper.optimizers)
        torch.save(held, root / f"{recipe.name}-rank{rank}.pt")
    dist.destroy_process_group()


def run_in_processes(
    world: int, recipes: list[Recipe], data: Path, root: Path, port: int, *, reading: Reading = READING
) -> None:
    """Train recipes in float64 in ``world`` processes; leaves ``<recipe>/`` and what every rank held at the end."""
    root.mkdir(parents=True)
    mp.spawn(_rank, (world, port, recipes, data, root, reading), nprocs=world, join=True)
