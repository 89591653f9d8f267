"""Ten losses of every model: what a pure refactor may not change.

A toy model is built, initialised and trained as the loop does it, on toy digits in batches of 8, in float64 on one
thread of a CPU. Its clock runs at one batch a step, whatever the algorithm draws, so that the ten steps are a whole
training: rates fall to their end and a stack reaches its last layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gen.data.draws import Shuffled
from gen.data.loader import Loader
from gen.data.order import order
from gen.data.reader import open_split
from gen.model import Batch, Progress
from gen.registry import build
from gen.train.loop import BUILD, INITIALIZE
from gen.train.parallel import Parallel
from gen.train.step import Stepper, seed_step
from tests.toys import TOY_HYPER, toy_data, toy_spec

GOLDEN = Path(__file__).parent
STEPS, BATCH, SEED = 10, 8, 0
TOLERANCE = 1e-9  # relative, of at least 1 nat: what another order of summation may change

Update = tuple[int, str, float]
"""Step, group, loss."""


@contextmanager
def exactly() -> Iterator[None]:
    """float64 and one thread."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


class _Recorder(Parallel):
    """Keeps the loss of every update."""

    def backward(self, group: str, loss: Tensor, *, last: bool) -> None:
        """See base."""
        self.losses.append((group, loss.item()))
        super().backward(group, loss, last=last)

    losses: list[tuple[str, float]]


def losses(name: str, shards: Path) -> list[Update]:
    """The losses of a registered model on the toy digits, one for every update."""
    with exactly():
        spec = toy_spec(name)
        reader = open_split(toy_data(name, shards), "train")
        loader = Loader(reader, Shuffled(SEED, len(reader)), batch=BATCH, parts=[0], of=1)
        seed_step(SEED, BUILD, 0)
        model = build(name, spec, **TOY_HYPER[name])
        seed_step(SEED, INITIALIZE, 0)
        model.initialize(spec.space.encode(reader.batch(order(SEED, 0, len(reader)).copy())[0]))
        recorder = _Recorder(model.groups())
        stepper = Stepper(model, model.optimizers(), recorder, seed=SEED)
        found: list[Update] = []
        drawn = 0
        for step in range(STEPS):
            recorder.losses = []

            def draw(n: int, part: int, start: int = drawn) -> Batch:
                pixels, labels, *_ = loader.slice((start + n) * BATCH, part)
                return Batch(spec.space.encode(pixels), labels)

            drawn += stepper(Progress(step, step * BATCH, STEPS * BATCH), draw)[0]
            found += [(step, group, loss) for group, loss in recorder.losses]
        return found


def path(name: str) -> Path:
    """The golden file of a model."""
    return GOLDEN / f"{name}.txt"


def write(name: str, updates: list[Update]) -> str:
    """The text of a golden file."""
    lines = [f"{step} {group} {loss:.12g}" for step, group, loss in updates]
    header = f"# step, group, loss in float64; `python -m tests.golden.update {name}`, torch {torch.__version__}"
    return "\n".join([header, *lines]) + "\n"


def read(text: str) -> list[Update]:
    """The updates in the text of a golden file."""
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return [(int(step), group, float(loss)) for step, group, loss in rows]
