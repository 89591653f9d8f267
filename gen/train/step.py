"""One step: the only place where gradients are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gen.errors import TrainingError
from gen.model import Batch, GenerativeModel, Progress
from gen.train.optim import Optim, learning_rate, make_optimizer
from gen.train.parallel import Parallel

Draw = Callable[[int, int], Batch]
"""``draw(n, part)``: slice ``part`` of the n-th global batch after the clock, in the model's space."""


class NotFiniteError(TrainingError):
    """A gradient is not finite. The model, its optimizers and its buffers may be spoiled."""


def seed_step(seed: int, part: int, step: int, salt: int = 0) -> None:
    """Reseed the default generators: randomness is a function of (seed, slice, step), so a resume needs no state."""
    number = 0
    for value in (seed, part, step, salt):
        number = _mix(number ^ value)
    # What torch.manual_seed does, less the stack trace it formats for every accelerator that is not in use: 0.1 ms.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


def _mix(x: int) -> int:
    """One step of splitmix64 (Steele, Lea, Flood 2014): every bit of x changes half of the 63 bits that come out."""
    x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (x ^ (x >> 31)) >> 1


def shared_buffers(model: GenerativeModel) -> list[Tensor]:
    """Persistent floating-point buffers that all ranks share (running statistics), in a fixed order."""
    names = set(model.state_dict(keep_vars=True))
    return [
        buffer
        for name, buffer in model.named_buffers()
        if name in names and name not in model.rank_local and buffer.is_floating_point()
    ]


@dataclass(slots=True)
class Part:
    """What belongs to one slice of the batch: its random stream and its buffers.

    With one slice per process this is just a number. With several, slices take turns on the one model, and each finds
    it as if it had a process of its own.
    """

    index: int
    buffers: dict[str, Tensor] = field(default_factory=dict)
    stream: tuple[Tensor, ...] = ()

    def enter(self, model: GenerativeModel) -> None:
        """Put this slice's buffers and random stream in place."""
        for name, buffer in model.named_buffers():
            buffer.copy_(self.buffers[name])
        torch.set_rng_state(self.stream[0])
        if len(self.stream) > 1:
            torch.cuda.set_rng_state(self.stream[1])

    def leave(self, model: GenerativeModel) -> None:
        """Keep them until the next turn."""
        self.keep_buffers(model)
        self.stream = _streams()

    def keep_buffers(self, model: GenerativeModel) -> None:
        """Copy the model's buffers."""
        self.buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}


def _streams() -> tuple[Tensor, ...]:
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return (torch.get_rng_state(), torch.cuda.get_rng_state()) if cuda else (torch.get_rng_state(),)


class Stepper:
    """Carries out a model's updates.

    Attributes:
        optimizers: one torch optimizer per group; all exist from step 0.
        parts: this rank's slices.
    """

    def __init__(
        self,
        model: GenerativeModel,
        optims: dict[str, Optim],
        parallel: Parallel,
        *,
        seed: int,
        precision: str = "float32",
        skip_nonfinite: bool = False,
    ) -> None:
        self.model, self.optims, self.parallel, self.seed = model, optims, parallel, seed
        self.skip_nonfinite = skip_nonfinite
        self.bf16 = precision == "bf16"
        self.device = next(model.parameters()).device
        self.optimizers = {name: make_optimizer(optims[name], params) for name, params in parallel.groups.items()}
        self.parts = [Part(index) for index in parallel.mine]
        for part in self.parts:
            part.keep_buffers(model)

    def __call__(self, progress: Progress, draw: Draw, salt: int = 0) -> tuple[int, dict[str, Tensor]]:
        """One pass through ``model.updates``.

        Returns:
            The number of global batches drawn, and this rank's share of the metrics (device scalars): summed over
            ranks they are means over the global batch. Of a metric given several times, the last counts.

        Raises:
            NotFiniteError: a gradient is not finite (unless such updates are skipped).
        """
        model, parts = self.model, self.parts
        if not model.training:  # setting the mode walks through all modules
            model.train()
        alone = len(parts) == 1
        before = [b.clone() for b in model.buffers()] if self.skip_nonfinite else []
        draws = [_Draws(draw, part.index) for part in parts]
        passes = [model.updates(drawn, progress) for drawn in draws]
        for part in parts:
            seed_step(self.seed, part.index, progress.step, salt)
            part.stream = _streams() if not alone else ()
        metrics: dict[str, Tensor] = {"skipped_updates": torch.zeros(())} if self.skip_nonfinite else {}
        skipped = 0

        while True:
            group: str | None = None
            finished, total = 0, 0.0
            for turn, (part, updates) in enumerate(zip(parts, passes, strict=True)):
                if not alone:
                    part.enter(model)
                with self._autocast():
                    update = next(updates, None)
                if not torch.is_grad_enabled():
                    raise TrainingError(
                        f"{type(model).__name__}.updates yields inside a context that turns off gradients"
                    )
                if update is None:
                    finished += 1
                else:
                    if group is None:
                        group = update.group
                        for parameter in self.parallel.groups[group]:
                            parameter.grad = None
                    elif group != update.group:
                        raise TrainingError(f"slices disagree on the group to move: {group} and {update.group}")
                    self.parallel.backward(group, update.loss, last=turn == len(parts) - 1)
                    total += update.loss.item()
                    for name, value in update.metrics.items():
                        share = value.detach() / self.parallel.slices if self.parallel.slices > 1 else value.detach()
                        metrics[name] = metrics[name] + share if turn else share
                if not alone:
                    part.leave(model)
            if finished:
                if finished != len(parts):
                    raise TrainingError("slices disagree on the number of updates in a step")
                break
            assert group is not None
            skipped += not self._move(group, progress, total)

        self._share_buffers()
        if skipped:
            for buffer, good in zip(model.buffers(), before, strict=True):
                buffer.copy_(good)
            metrics["skipped_updates"] = torch.tensor(skipped / self.parallel.world)
        return draws[0].count, metrics

    def _move(self, group: str, progress: Progress, loss: float) -> bool:
        """Check, clip and step one group.

        Gradients are equal on all ranks by now, so all ranks decide alike. A process alone looks at its loss instead,
        which says almost as much without another pass over the weights; they are checked before they are saved.
        """
        optim, optimizer, parameters = self.optims[group], self.optimizers[group], self.parallel.groups[group]
        norm: Tensor | None = None
        if optim.clip is not None or self.skip_nonfinite or self.parallel.world > 1:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not math.isfinite(loss if norm is None else norm):
            if self.skip_nonfinite:
                return False
            raise NotFiniteError(_not_finite(f"the gradient of group '{group}'", progress.step, progress.images))
        if optim.clip is not None and norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, optim.clip, norm)
        for settings in optimizer.param_groups:
            settings["lr"] = learning_rate(optim, progress)
        optimizer.step()
        return True

    def check_weights(self, step: int, images: int) -> None:
        """Raise :class:`NotFiniteError` unless all weights are finite."""
        for group, parameters in self.parallel.groups.items():
            if not all(torch.isfinite(p.sum()) for p in parameters):
                raise NotFiniteError(_not_finite(f"a weight of group '{group}'", step, images))

    def _share_buffers(self) -> None:
        """Average running statistics over slices and ranks, so that every rank holds the same model."""
        alone = len(self.parts) == 1
        if alone and self.parallel.world == 1:
            return
        model = self.model
        if alone:
            per_part = [shared_buffers(model)]
        else:
            order = {id(buffer): name for name, buffer in model.named_buffers()}
            names = [order[id(buffer)] for buffer in shared_buffers(model)]
            per_part = [[part.buffers[name] for name in names] for part in self.parts]
        means = self.parallel.mean_over_slices(per_part)
        for buffer, mean in zip(shared_buffers(model), means, strict=True):
            buffer.copy_(mean)
        if not alone:
            for part in self.parts:
                for name, mean in zip(names, means, strict=True):
                    part.buffers[name].copy_(mean)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()


def _not_finite(what: str, step: int, images: int) -> str:
    return (
        f"{what} is not finite at step {step} ({images} images). Lower its learning rate or set a clip (optim), "
        "or choose training.nonfinite: skip or rollback."
    )


class _Draws(Iterator[Batch]):
    """The batches a model sees in one step; counts them, which is what moves the clock."""

    def __init__(self, draw: Draw, part: int) -> None:
        self.draw, self.part, self.count = draw, part, 0

    def __next__(self) -> Batch:
        batch = self.draw(self.count, self.part)
        self.count += 1
        return batch
