"""The pipeline with one Ray worker, against the loop by hand in a process of its own."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch

from benchmarks.step_time.by_hand import plain_loop
from benchmarks.step_time.times import Times, all_milliseconds, milliseconds, timed
from gen.recipe import Recipe
from gen.train.events import read
from pipelines.layout import Layout

CLAIM = 1.03  # time of a step, of the plain loop's
WINDOWS = 12
POLL_S = 0.02


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
        "plain_ms": milliseconds(by_hand),
        "product_ms": milliseconds(product),
        "product_steps_ms": milliseconds(in_windows),
        "time_ratio": ratios,
        "time_ratio_steps": {"wall": statistics.median(in_windows["wall"]) / statistics.median(by_hand["wall"])},
        "rounds_ms": {"plain": all_milliseconds(by_hand), "product": all_milliseconds(product)},
        "claim": CLAIM,
        "holds": ratios["cpu"] <= CLAIM,
    }
