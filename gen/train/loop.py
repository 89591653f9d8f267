"""The loop: from a recipe and shards to a trained model, resumable at any moment by the same call.

run directory
    events.jsonl       the record of the run (see events)
    pictures/          <name>/<images>.png: sample grids and filters over time
    checkpoints/       see checkpoint
    final/             the result (see gen.store); once it is there the run is complete
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen.data.augment import Augment
from gen.data.loader import arrange
from gen.data.order import order
from gen.data.reading import Reading, spec_of
from gen.data.sample import Drawn
from gen.data.spaces import Space
from gen.errors import PreemptedError, RecipeError, TrainingError
from gen.evaluate.grids import save_png
from gen.evaluate.predictions import STRIPS
from gen.files import atomic_directory
from gen.model import Batch, GenerativeModel, Predicts, Progress
from gen.recipe import Recipe
from gen.registry import build, entry
from gen.store import load_model, save_model
from gen.train import checkpoint
from gen.train.checkpoint import Clock
from gen.train.compiled import as_written, compile_networks
from gen.train.context import Context
from gen.train.ema import Average
from gen.train.events import EventLog
from gen.train.observe import Sums, draw, predict, validate
from gen.train.optim import override
from gen.train.parallel import Parallel
from gen.train.step import NotFiniteError, Stepper, seed_step

INITIAL_IMAGES = 2_000  # shown to GenerativeModel.initialize
ROLLBACKS = 3
BUILD, INITIALIZE, DRAW_GRID = 1, 2, 4  # random streams outside the steps: seed_step(seed, stream, 0)

Examine = Callable[[GenerativeModel], Mapping[str, float]]
"""Further scores of a model on held-out data, for whoever steers training by them (a sweep)."""


def fit(
    recipe: Recipe,
    *,
    data: Path,
    directory: Path,
    context: Context,
    code: str = "",
    reading: Reading = Reading(),  # noqa: B008  # immutable
    examine: Examine | None = None,
) -> Path:
    """Train a recipe to the end of its budget, going on from the newest checkpoint if there is one.

    Args:
        recipe: what to train.
        data: directory of shards.
        directory: of this run. Belongs to this recipe; on storage all ranks share.
        context: the surroundings of this worker.
        code: digest of the code that trains; a checkpoint of other code is refused.
        reading: how to read the data.
        examine: what else to measure at each validation, on rank 0. It must leave the default generators alone.

    Returns:
        The directory of the trained model, ``directory/final``.

    Raises:
        PreemptedError: the surroundings asked to stop; a checkpoint was saved.
        TrainingError: gradients were not finite and the recipe says stop.
    """
    final = directory / "final"
    if (final / "model.json").exists():
        load_model(final)  # raises if it was damaged since
        return final
    with _flushing_denormals():
        run = _Run(recipe, data=data, directory=directory, context=context, code=code, reading=reading, examine=examine)
        try:
            run.train()
        finally:
            run.close()
    return final


@contextmanager
def _flushing_denormals() -> Iterator[None]:
    """Zeros in the place of denormal numbers, as long as training lasts: it is a setting of the caller's thread.

    Adam's moments of weights that get no gradient decay into denormals, whose arithmetic is slow on CPUs: the steps of
    a VAE became a fifth longer after a thousand of them. Zeros change nothing.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class _Run:
    """One worker's share of one run."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        data: Path,
        directory: Path,
        context: Context,
        code: str,
        reading: Reading,
        examine: Examine | None = None,
    ) -> None:
        training, device = recipe.training, context.device
        self.recipe, self.directory, self.context, self.device = recipe, directory, context, device
        self.examine = examine
        self.reader = reading.open(data, "train", device=device)
        self.validation = reading.open(data, "validation", device=device)
        self.space = Space.parse(recipe.space)
        spec = spec_of(self.reader.manifest, self.space, videos=entry(recipe.model).cls.videos)
        if training.channels_last and spec.frames is not None:
            raise RecipeError(
                "training.channels_last: found true for a model of videos; it is for images. Leave it out."
            )
        self.format = torch.channels_last if training.channels_last else torch.contiguous_format
        self.augment = Augment.parse(training.augment)
        self.identity = checkpoint.identity(recipe, data=self.reader.digest, code=code)

        seed_step(training.seed, BUILD, 0)
        model = build(recipe.model, spec, **recipe.hyper)
        model.to(device).to(memory_format=self.format)  # type: ignore[call-overload]  # missing in torch's stubs
        optims = override(model.optimizers(), recipe.optim)
        parallel = Parallel(model.groups(), rank=context.rank, world=context.world, slices=training.slices)
        self.loader = reading.load(
            self.reader,
            arrange(self.reader, training.draw, seed=training.seed),
            batch=training.batch,
            parts=parallel.mine,
            of=training.slices,
        )
        self.found = checkpoint.newest(directory / "checkpoints", self.identity)
        if self.found is None:
            seed_step(training.seed, INITIALIZE, 0)
            first = self.reader.batch(order(training.seed, 0, len(self.reader))[:INITIAL_IMAGES].copy())
            model.initialize(self.space.encode(first.images))
        if training.compile:
            compile_networks(model)
        self.model, self.parallel = model, parallel
        self.stepper = Stepper(
            model,
            optims,
            parallel,
            seed=training.seed,
            precision=training.precision,
            skip_nonfinite=training.nonfinite == "skip",
        )
        self.average = Average(model, training.ema) if training.ema else None
        self.result = self.average.model if self.average else model
        self.clock, self.sums = Clock(), Sums(device=self.device)
        self.window = (0.0, 0)
        self.events = EventLog(directory / "events.jsonl") if context.rank == 0 else None
        self._say_what_is_left_out()
        self.parallel.barrier()

    def _say_what_is_left_out(self) -> None:
        """Record the samples that could not be read; raise if the ranks differ in them: their orders would."""
        mine = [self.reader.digest, self.validation.digest]
        differs = torch.tensor(float(self.parallel.agree(mine) != mine), device=self.device)
        if self.parallel.sum(differs).item() > 0:
            raise TrainingError(
                f"{self.recipe.dataset}: the workers see different data: their copies are damaged in different ways. "
                "Run `gen data verify` on every node."
            )
        for bad in (*self.reader.quarantined, *self.validation.quarantined):
            self._event("warning", message=f"left out {bad}")

    # ---- the clockwork ---------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Steps until the budget is spent."""
        training = self.recipe.training
        if self.found is not None:
            self._load(self.found)
        facts = {"world": self.context.world, "device": str(self.device), "pid": os.getpid()}
        self._event("start", resumed=self.clock.images, **facts)
        if self.found is None:
            self._pictures()
            if training.nonfinite == "rollback":
                self._save()
        rollbacks = 0
        self._begin_window()
        while self.clock.images < training.images:
            try:
                self._advance()
            except NotFiniteError as error:
                self._event("warning", message=str(error))
                rollbacks += 1
                if training.nonfinite != "rollback" or rollbacks > ROLLBACKS:
                    raise
                self._roll_back(self.clock.salt + 1)
        self._finish()

    def _advance(self) -> None:
        """One step, and whatever is due after it."""
        training, clock, before = self.recipe.training, self.clock, self.clock.images
        drawn, metrics = self.stepper(Progress(clock.step, before, training.images), self._draw, clock.salt)
        if not drawn:
            raise TrainingError(f"{self.recipe.model}.updates drew no batch: the clock would stand still")
        clock.step += 1
        clock.images += drawn * training.batch
        self.sums.add(metrics)
        if self.average is not None:
            self.average.update(drawn=drawn * training.batch, images=clock.images)

        done = clock.images >= training.images
        reported = before // training.report * training.report  # the mark of the report before

        def due(interval: int, since: int) -> bool:
            return done or clock.images // interval > since // interval

        if due(training.report, before):
            means = self._end_window()
            held_out = self._validate() if due(training.validate, reported) else None
            if due(training.pictures, reported):
                self._pictures()
            if due(training.checkpoint, reported):
                self._save()
            if held_out is not None:  # last: whoever hears of it may end this process, and finds the checkpoint
                self.context.report(clock.images, {**means, **held_out})
            if not done:
                self._stop_if_asked(saved=due(training.checkpoint, reported))
            self._begin_window()
        elif self.parallel.world == 1 and self.context.stopping():
            self.clock.seconds += time.perf_counter() - self.window[0]
            self._stop_if_asked(saved=False)

    def _begin_window(self) -> None:
        """Time steps from here on: what is measured is training, not validation, pictures or checkpoints."""
        self.window = (time.perf_counter(), self.clock.images)

    def _end_window(self) -> dict[str, float]:
        """Record the means of the window's metrics, and return them."""
        began, since = self.window
        elapsed = time.perf_counter() - began
        self.clock.seconds += elapsed
        means = {name: total / count for name, (total, count) in self.sums.totals(self.parallel).items()}
        self.sums = Sums(device=self.device)
        if self.events is not None:
            speed = {"images_per_second": (self.clock.images - since) / elapsed}
            self.events.metrics("metrics", self.clock.images, {**means, **speed}, step=self.clock.step)
        return means

    def _draw(self, n: int, part: int) -> Batch:
        drawn = self.loader.slice(self.clock.images + n * self.recipe.training.batch, part)
        images, targets = self.augment(drawn.images, drawn.targets)
        return self._encode(drawn._replace(images=images, targets=targets))

    def _encode(self, drawn: Drawn) -> Batch:
        return Batch(
            self.space.encode(drawn.images).contiguous(memory_format=self.format),
            drawn.labels,
            None if drawn.targets is None else self.space.encode(drawn.targets),
            drawn.captions,
            drawn.attributes,
        )

    def _stop_if_asked(self, *, saved: bool) -> None:
        asked = self.parallel.sum(torch.tensor(float(self.context.stopping()), device=self.device)).item() > 0
        if asked:
            if not saved:
                self._save()
            raise PreemptedError(
                f"{self.recipe.name}: asked to stop at {self.clock.images} of {self.recipe.training.images} images. "
                "A checkpoint was saved; the same command goes on from it."
            )

    def _roll_back(self, salt: int) -> None:
        found = checkpoint.newest(self.directory / "checkpoints", self.identity)
        assert found is not None, "a rollback run saves a checkpoint at its start"
        self._load(found)
        self.clock.salt = salt
        self._event("warning", message=f"rolled back to {self.clock.images} images; going on with fresh noise ({salt})")
        self._begin_window()

    # ---- what others see -------------------------------------------------------------------------------------------

    def _event(self, kind: str, **facts: Any) -> None:
        if self.events is not None:
            self.events.append(kind, self.clock.images, **facts)

    def _validate(self) -> dict[str, float]:
        """Record the validation metrics, and return them as ``val/<name>``."""
        training = self.recipe.training
        with as_written(training.compile):
            values = validate(self.result, self.validation, self._encode, self.parallel, seed=training.seed)
            if self.events is not None and self.examine is not None:
                values |= self.examine(self.result)
        if self.events is not None:
            self.events.metrics("validation", self.clock.images, values)
        return {f"val/{name}": value for name, value in values.items()}

    def _pictures(self) -> None:
        if self.events is None:
            return
        seed_step(self.recipe.training.seed, DRAW_GRID, 0)
        with as_written(self.recipe.training.compile):
            stacks = draw(self.result)
            if isinstance(self.result, Predicts):
                held_out = self.validation.batch(np.arange(min(STRIPS, len(self.validation))))
                stacks["predictions"] = predict(self.result, self.space, self._encode(held_out).x)
        for name, images in stacks.items():
            path = self.directory / "pictures" / name / f"{self.clock.images:012d}.png"
            save_png(path, images)
            self._event("picture", name=name, path=str(path.relative_to(self.directory)))

    # ---- what is kept ----------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self.stepper.check_weights(self.clock.step, self.clock.images)
        self.clock.sums = self.sums.totals(self.parallel)
        path = checkpoint.save(
            self.directory / "checkpoints",
            recipe=self.identity,
            clock=self.clock,
            stepper=self.stepper,
            average=self.average,
        )
        self._event("checkpoint", path=str(path.relative_to(self.directory)))

    def _load(self, found: Path) -> None:
        self.clock = checkpoint.load(found, recipe=self.identity, stepper=self.stepper, average=self.average)
        # What was saved are sums over ranks: rank 0 goes on with them, the others add nothing but their count.
        saved = {k: (total if self.parallel.rank == 0 else 0.0, n) for k, (total, n) in self.clock.sums.items()}
        self.sums = Sums(saved, device=self.device)

    def _finish(self) -> None:
        if self.context.rank == 0:
            with atomic_directory(self.directory / "final") as staging:
                save_model(
                    staging,
                    self.result,
                    name=self.recipe.model,
                    hyper=dict(self.recipe.hyper),
                    recipe=self.recipe.as_dict(),
                    data=self.reader.digest,
                    code=self.identity["code"],
                    images=self.clock.images,
                    steps=self.clock.step,
                    seconds=round(self.clock.seconds, 3),
                    device=str(self.device),
                    world=self.parallel.world,
                    threads=torch.get_num_threads(),
                    torch=torch.__version__,
                )
        self._event("end")
        self.parallel.barrier()

    def close(self) -> None:
        """Release files and threads."""
        self.loader.close()
        if self.events is not None:
            self.events.close()
