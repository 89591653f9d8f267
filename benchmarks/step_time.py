"""What does the product cost on top of a loop written by hand? Step times of both, one thread, in the same run.

    python -m benchmarks.step_time [--recipe dcgan-digits] [--ray | --loop] [--images N] [--rounds 3] [--json FILE]

On one side a recipe of params.yaml, trained by the product; on the other the same networks, optimizers (fused),
precision and batch in a plain PyTorch loop: rows of a resident uint8 tensor by ``index_select``, the recipe's space,
the model's updates as one would write them for that model alone, averaged weights where the recipe asks for them, a
running sum of the loss; denormal numbers are flushed to zero on both sides. ``factor`` has no networks; its loop does
the same EM step and likelihood. Two comparisons:

--ray    ``pipelines.train`` with one Ray Train worker, tracked in an embedded MLflow, with the recipe's reports and
         checkpoints, against the loop in a fresh process; they take turns, once each a round. *Steps* is the median
         over report windows, and leaves out what happens between windows: the report, the checkpoint. *All* is from
         the first report to the last but one, everything between them included. Its CPU time is the worker's, all
         threads (from /proc, so to 10 ms); the first window warms both sides up and is not counted.
         The claim is that *all* costs at most 3 % more than the loop.
--loop   ``gen.train.loop.fit`` in this process, which after every window hands over to the plain loop for as many
         steps; a report is included. The claim is at least 0.97 of the plain loop's steps per second.

Both without flags. Validation and pictures wait until the end of the run and are in neither side's time. Every figure
is given as wall-clock time and as CPU time; on a machine that others use as well, only the second means anything.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from gen.data.order import order
from gen.data.reader import everything
from gen.data.spaces import DataSpec, Space
from gen.model import SGD, Adam, GenerativeModel
from gen.recipe import Recipe
from gen.registry import build, entry
from gen.shards.write import write_shards
from gen.sources.digits import digits
from gen.train.context import ProcessContext
from gen.train.events import read
from gen.train.loop import INITIAL_IMAGES, fit
from gen.train.optim import override
from pipelines.layout import Layout
from pipelines.params import load

RAY_RECIPES = ("dcgan-digits", "vae-digits")
LOOP_RECIPES = ("vae-digits", "rbm-digits", "factor-digits", "dcgan-digits")
RAY_CLAIM = 1.03  # time of a step, of the plain loop's
LOOP_CLAIM = 0.97  # steps per second, of the plain loop's
WINDOWS = 12
POLL_S = 0.02

Step = Callable[[Tensor], Tensor]
"""One step on uint8 images (B, C, H, W); returns the loss, detached."""
Times = dict[str, list[float]]
"""Seconds a step, ``wall`` and ``cpu``, of every window."""


# ---- loops by hand ---------------------------------------------------------------------------------------------------


def dcgan(model: GenerativeModel, recipe: Recipe) -> Step:
    G, D, latents = model.generator, model.discriminator, model.latents
    optims = override(model.optimizers(), recipe.optim)
    optimizer_d, optimizer_g = _adam(D, optims["discriminator"]), _adam(G, optims["generator"])
    of_d, of_g = list(D.parameters()), list(G.parameters())
    bf16 = recipe.training.precision == "bf16"

    def step(pixels: Tensor) -> Tensor:
        x = pixels.to(torch.float32) / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                fakes = G(torch.rand(len(x), latents) * 2 - 1)
            loss_d = F.softplus(-D(x).float()).mean() + F.softplus(D(fakes).float()).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward(inputs=of_d)
        optimizer_d.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss_g = F.softplus(-D(G(torch.rand(len(x), latents) * 2 - 1)).float()).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward(inputs=of_g)
        optimizer_g.step()
        return loss_d.detach() + loss_g.detach()

    return step


def vae(model: GenerativeModel, recipe: Recipe) -> Step:
    encoder, decoder = model.encoder, model.decoder
    optimizer = _adam(model, override(model.optimizers(), recipe.optim)["model"])

    def step(pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).to(torch.float32)
        x = (torch.rand_like(x) * 255 < x).float()  # faster than torch.bernoulli
        mean, log_var = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
        loss = (reconstruction + kl) / len(x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def rbm(model: GenerativeModel, recipe: Recipe) -> Step:
    layer, steps, chains = model.rbm, model.steps, model.chains.clone()
    optimizer = _sgd(model, override(model.optimizers(), recipe.optim)["model"])

    def bits(logits: Tensor) -> Tensor:
        return (torch.rand_like(logits) < torch.sigmoid(logits)).float()

    def step(pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).to(torch.float32)
        v, v_k = (torch.rand_like(x) * 255 < x).float(), chains
        with torch.no_grad():
            for _ in range(steps):
                v_k = bits(layer.visible_logits(bits(layer.hidden_logits(v_k))))
        loss = layer.free_energy(v).mean() - layer.free_energy(v_k).mean()
        loss = loss + 0.5 * model.weight_cost * layer.W.square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        chains.copy_(v_k)
        return loss.detach()

    return step


def factor(model: GenerativeModel, recipe: Recipe) -> Step:
    statistics_ = [p.detach() for p in (model.mean, model.variance, model.cross, model.latent)]
    rate = override(model.optimizers(), recipe.optim)["statistics"].lr / 2

    @torch.no_grad()
    def step(pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).to(torch.float32)
        x = (x + torch.rand_like(x)) / 256
        mean, variance, cross, latent = statistics_
        # M-step of the statistics so far, then the posterior of h under it
        W = torch.linalg.solve_triangular(torch.linalg.cholesky(latent), cross.T, upper=False).T
        psi = model.pool(variance - W.square().sum(1)).clamp(min=model.floor)
        L = torch.linalg.cholesky(torch.eye(len(latent)) + (W.T / psi) @ W)
        residual = x - mean
        h = torch.cholesky_solve((residual / psi @ W).T, L).T
        quadratic = ((residual - h @ W.T).square() / psi).sum(1) + h.square().sum(1)
        log_det = psi.log().sum() + 2 * L.diagonal().log().sum()
        expected = (
            x.mean(0),
            residual.square().mean(0),
            residual.T @ h / len(x),
            torch.cholesky_inverse(L) + h.T @ h / len(x),
        )
        for statistic, target in zip(statistics_, expected, strict=True):
            statistic.lerp_(target, rate)
        return (quadratic.mean() + log_det) / 2

    return step


BY_HAND = {"dcgan": dcgan, "vae": vae, "rbm": rbm, "factor": factor}


def _adam(net: torch.nn.Module, optim: Adam) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        net.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
    )


def _sgd(net: torch.nn.Module, optim: SGD) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=optim.lr / 2, momentum=optim.momentum, fused=True)


def plain_loop(recipe: Recipe, shards: Path) -> Iterator[Tensor]:
    """The loop by hand: every ``next`` does one step and gives the sum of the losses so far."""
    pixels, _ = everything(shards, "train")
    spec = DataSpec(tuple(pixels.shape[1:]), 10, Space.parse(recipe.space))
    torch.manual_seed(0)
    model = build(recipe.model, spec, **recipe.hyper)
    model.initialize(spec.space.encode(pixels[torch.from_numpy(order(0, 0, len(pixels))[:INITIAL_IMAGES].copy())]))
    step, batch = BY_HAND[entry(recipe.model).name](model.train(), recipe), recipe.training.batch
    leading = list(model.parameters())
    trailing = [p.detach().clone() for p in leading]
    keep = 0.5 ** (batch / recipe.training.ema) if recipe.training.ema else 0.0
    total = torch.zeros((), dtype=torch.float64)
    while True:
        for rows in torch.randperm(len(pixels)).split(batch):
            if len(rows) == batch:
                total += step(pixels.index_select(0, rows))
                if keep:
                    with torch.no_grad():
                        torch._foreach_lerp_(trailing, leading, 1 - keep)
                yield total


def timed(loop: Iterator[Tensor], steps: int) -> tuple[float, float]:
    """Wall and CPU seconds of so many steps, and a look at the loss at their end."""
    wall, cpu = time.perf_counter(), time.process_time()
    *_, total = itertools.islice(loop, steps)
    if not torch.isfinite(total):
        raise ArithmeticError("the loop by hand diverged: its times mean nothing")
    return time.perf_counter() - wall, time.process_time() - cpu


# ---- in this process -------------------------------------------------------------------------------------------------


class TakingTurns(ProcessContext):
    """After every window of steps of the product, its report included, as many steps of the plain loop."""

    def __init__(self, plain: Iterator[Tensor], window: int) -> None:
        super().__init__(device=torch.device("cpu"))
        self.plain, self.window, self.steps = plain, window, 0
        self.product: Times = {"wall": [], "cpu": []}
        self.by_hand: Times = {"wall": [], "cpu": []}

    def stopping(self) -> bool:
        """See base. The loop asks once a step, after everything else that is due."""
        self.steps += 1
        if self.steps % self.window == 0:
            now = time.perf_counter(), time.process_time()
            warm = self.steps > self.window  # the first window warms both up
            if warm:
                for clock, end, begin in zip(self.product, now, self.since, strict=True):
                    self.product[clock].append((end - begin) / self.window)
            seconds = timed(self.plain, self.window)
            if warm:
                for clock, spent in zip(self.by_hand, seconds, strict=True):
                    self.by_hand[clock].append(spent / self.window)
            self.since = time.perf_counter(), time.process_time()
        return False


def loop(recipe: Recipe, shards: Path, images: int | None) -> dict[str, object]:
    """The loop in this process against the one by hand."""
    training = recipe.training
    images = images or 20 * training.report
    quiet = replace(training, images=images, validate=images, pictures=images, checkpoint=images)
    context = TakingTurns(plain_loop(recipe, shards), training.report // training.batch)
    with tempfile.TemporaryDirectory() as folder:
        fit(replace(recipe, training=quiet), data=shards, directory=Path(folder), context=context)
    ratios = {  # windows next to each other meet the same neighbours: the median of ratios, not the ratio of medians
        clock: statistics.median(b / a for a, b in zip(context.product[clock], context.by_hand[clock], strict=True))
        for clock in ("wall", "cpu")
    }
    return {
        "comparison": "loop",
        "recipe": recipe.name,
        "windows": len(context.product["wall"]),
        "steps_per_window": training.report // training.batch,
        "plain_ms": _milliseconds(context.by_hand),
        "product_ms": _milliseconds(context.product),
        "steps_per_second_ratio": ratios,
        "claim": LOOP_CLAIM,
        "holds": ratios["cpu"] >= LOOP_CLAIM,
    }


# ---- through Ray Train, with tracking --------------------------------------------------------------------------------


def _worker_cpu(run: Path, found: list[tuple[int, float, float]], stop: threading.Event) -> None:
    """Follow a run: at every report note images, the time it was recorded and its worker's CPU seconds so far."""
    worker: psutil.Process | None = None
    offset = 0
    while not stop.wait(POLL_S):
        for path in run.parent.glob(f"{run.name}*/events.jsonl"):
            events, offset = read(path, offset)
            for event in events:
                worker = worker or psutil.Process(int((path.parent / "trainer.lock").read_text().split()[1].strip(":")))
                if event["kind"] == "metrics" and worker.is_running():
                    cpu = worker.cpu_times()
                    found.append((event["images"], event["time"], cpu.user + cpu.system))


def _product(recipe: Recipe, shards: Path) -> tuple[Times, Times]:
    """One training through the pipeline: seconds of a step in every window, and of a step with all between them."""
    from pipelines.train import train

    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        layout.shards(recipe.dataset).parent.mkdir(parents=True)
        layout.shards(recipe.dataset).symlink_to(shards)
        body = {key: value for key, value in recipe.as_dict().items() if key != "name"}
        contents = {"datasets": {recipe.dataset: {"source": "digits"}}, "recipes": {recipe.name: body}}
        (layout.root / "params.yaml").write_text(json.dumps(contents))
        reports: list[tuple[int, float, float]] = []
        stop = threading.Event()
        follower = threading.Thread(target=_worker_cpu, args=(layout.run(recipe.name, ""), reports, stop))
        follower.start()
        try:
            train(recipe.name, layout, workers=1)
        finally:
            stop.set()
            follower.join()
        events, _ = read(layout.model(recipe.name) / "events.jsonl")
    rates = [event["values"]["images_per_second"] for event in events if event["kind"] == "metrics"]
    windows = [recipe.training.batch / rate for rate in rates[1:-1]]
    (first, began, cpu_began), (last, ended, cpu_ended) = reports[0], reports[-2]
    steps = (last - first) / recipe.training.batch
    return {"wall": windows, "cpu": []}, {"wall": [(ended - began) / steps], "cpu": [(cpu_ended - cpu_began) / steps]}


def _plain(recipe: Recipe, shards: Path) -> Times:
    """The loop by hand in a fresh process: seconds of a step in every window."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_plain_windows, (recipe, shards))


def _plain_windows(recipe: Recipe, shards: Path) -> Times:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the product does: it is no part of what is compared
    plain, steps = plain_loop(recipe, shards), recipe.training.report // recipe.training.batch
    timed(plain, steps)
    seconds = [timed(plain, steps) for _ in range(recipe.training.images // recipe.training.report - 2)]
    return {clock: [s[i] / steps for s in seconds] for i, clock in enumerate(("wall", "cpu"))}


def ray(recipe: Recipe, shards: Path, images: int | None, rounds: int) -> dict[str, object]:
    """The pipeline with one Ray worker against the loop by hand."""
    training = recipe.training
    images = images or WINDOWS * training.report
    recipe = replace(recipe, training=replace(training, images=images, validate=images, pictures=images))
    plain: list[Times] = []
    windows: list[Times] = []
    whole: list[Times] = []
    for _ in range(rounds):
        plain.append(_plain(recipe, shards))
        steps, everything_ = _product(recipe, shards)
        windows.append(steps)
        whole.append(everything_)
    by_hand = {clock: [statistics.median(times[clock]) for times in plain] for clock in ("wall", "cpu")}
    product = {"wall": [times["wall"][0] for times in whole], "cpu": [times["cpu"][0] for times in whole]}
    in_windows = {"wall": [statistics.median(times["wall"]) for times in windows]}
    ratios = {clock: statistics.median(product[clock]) / statistics.median(by_hand[clock]) for clock in product}
    return {
        "comparison": "ray",
        "recipe": recipe.name,
        "rounds": rounds,
        "images": images,
        "checkpoints": (images - training.report) // training.checkpoint,
        "plain_ms": _milliseconds(by_hand),
        "product_ms": _milliseconds(product),
        "product_steps_ms": _milliseconds(in_windows),
        "time_ratio": ratios,
        "time_ratio_steps": {"wall": statistics.median(in_windows["wall"]) / statistics.median(by_hand["wall"])},
        "rounds_ms": {"plain": _all_milliseconds(by_hand), "product": _all_milliseconds(product)},
        "claim": RAY_CLAIM,
        "holds": ratios["cpu"] <= RAY_CLAIM,
    }


# ---- the command -----------------------------------------------------------------------------------------------------


def _milliseconds(times: Times) -> dict[str, float]:
    return {clock: round(1e3 * statistics.median(values), 3) for clock, values in times.items()}


def _all_milliseconds(times: Times) -> dict[str, list[float]]:
    return {clock: [round(1e3 * value, 3) for value in values] for clock, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", help="of params.yaml; default: all that are claimed")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ray", action="store_true", help="only the comparison through Ray Train")
    which.add_argument("--loop", action="store_true", help="only the comparison in this process")
    parser.add_argument("--images", type=int, help="budget of a run; default: 12 (20 with --loop) reports")
    parser.add_argument("--rounds", type=int, default=3, help="runs through Ray Train")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipes = load().recipes
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        write_shards(digits(), shards)
        if not arguments.ray:
            for name in [arguments.recipe] if arguments.recipe else LOOP_RECIPES:
                results.append(loop(recipes[name], shards, arguments.images))
                _show(results[-1])
        if not arguments.loop:
            for name in [arguments.recipe] if arguments.recipe else RAY_RECIPES:
                results.append(ray(recipes[name], shards, arguments.images, arguments.rounds))
                _show(results[-1])
    if arguments.json:
        command = " ".join(["python -m benchmarks.step_time", *sys.argv[1:]])
        found = {"command": command, "torch": torch.__version__, "threads": 1, "cores": os.cpu_count()}
        arguments.json.write_text(json.dumps({**found, "results": results}, indent=1) + "\n")


def _show(result: dict[str, object]) -> None:
    ratio = result.get("time_ratio") or result["steps_per_second_ratio"]
    print(f"{result['comparison']:5}{result['recipe']:16}", end="")
    for clock in ("wall", "cpu"):
        a, b = result["product_ms"][clock], result["plain_ms"][clock]
        print(f"{clock}: {a:7.2f} ms against {b:7.2f}, ratio {ratio[clock]:.3f}   ", end="")
    print(f"claim {result['claim']}: {'holds' if result['holds'] else 'DOES NOT HOLD'}", flush=True)


if __name__ == "__main__":
    main()
