"""Data parallelism: PyTorch's DistributedDataParallel, one per group of parameters.

The loss exists before the reducer knows of it, so DDP wraps a module that merely holds the group's parameters and
hands the loss through: its forward arms the reducer, whose hooks all-reduce gradients during the backward pass. No
``requires_grad`` toggles, and a double backward or a group that a lazy penalty touches only in part just work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gen.errors import RecipeError

T = TypeVar("T")


class _Group(nn.Module):
    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.parameters_of_group = nn.ParameterList(parameters)

    def forward(self, loss: Tensor) -> Tensor:
        return loss


class Parallel:
    """Who does which part of a global batch, and how gradients and statistics come together.

    A global batch is cut into ``slices``; rank r of W does slices r, r + W, r + 2W, ... The gradient is the mean over
    slices, so it does not depend on W.

    Attributes:
        mine: the slices of this rank.
        slices: the number of slices.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[nn.Parameter]], *, rank: int = 0, world: int = 1, slices: int = 1
    ) -> None:
        if world > slices:
            raise RecipeError(
                f"training.slices: a batch of {slices} slice(s) cannot be shared by {world} workers. "
                f"Set training.slices to {world} or a multiple of it, or use fewer workers."
            )
        self.rank, self.world, self.slices = rank, world, slices
        self.mine = list(range(rank, slices, world))
        self.groups = {name: list(parameters) for name, parameters in groups.items()}
        self._reducers = (
            {
                name: DistributedDataParallel(_Group(parameters), find_unused_parameters=True)
                for name, parameters in self.groups.items()
            }
            if world > 1
            else {}
        )

    def backward(self, group: str, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of one slice's loss to the group's parameters, and to nothing else.

        Args:
            group: whose parameters may receive a gradient.
            loss: scalar mean over the slice.
            last: whether this is the rank's last slice; with it the gradients of all ranks are averaged.
        """
        # DDP averages over ranks, which hold different numbers of slices when W does not divide them.
        loss = loss * (self.world / self.slices) if self.slices > 1 else loss
        if self.world > 1:
            reducer = self._reducers[group]
            with nullcontext() if last else reducer.no_sync():
                reducer(loss).backward(inputs=self.groups[group])
        else:
            # One group is all there is to a model, so nothing else can move: the graph need not be searched for it.
            loss.backward(inputs=self.groups[group] if len(self.groups) > 1 else None)

    @torch.no_grad()
    def mean_over_slices(self, tensors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Mean over all slices of all ranks.

        Args:
            tensors: one sequence of equally shaped tensors per local slice.
        """
        sums = [torch.stack(list(parts)).sum(0) for parts in zip(*tensors, strict=True)]
        if self.world > 1 and sums:
            flat = torch.cat([t.reshape(-1) for t in sums])
            dist.all_reduce(flat)
            sums = [part.view_as(t) for part, t in zip(flat.split([t.numel() for t in sums]), sums, strict=True)]
        return [t / self.slices for t in sums]

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, on every rank."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def agree(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.world > 1:
            box = [value]
            dist.broadcast_object_list(box, src=0)
            return box[0]
        return value

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier()
