"""Pictures of a sweep: what they are computed from is right, and whatever the trials are, they can be drawn."""

import math

import numpy as np
import pytest
from PIL import Image

from pipelines.sweeping.canvas import Scale, number
from pipelines.sweeping.dimensions import Dimension
from pipelines.sweeping.importance import comparable, importance
from pipelines.sweeping.parallel import ticks_of
from pipelines.sweeping.pictures import _best_so_far, _end_to_end, draw, history
from pipelines.sweeping.spaces import Objective
from pipelines.sweeping.trial import Trial

FID = Objective(score="fid", direction="minimize")
NATS = Objective(score="nats", direction="maximize")
SPACE = [
    Dimension.parse("optim.generator.lr", {"loguniform": [1e-4, 1e-2]}),
    Dimension.parse("hyper.act", {"choice": ["relu", "tanh", None]}),
    Dimension.parse("training.batch", {"grid": [16, 32]}),
    Dimension.parse("hyper.width", {"int": [8, 64]}),
    Dimension.parse("training.ema", {"uniform": [0.0, 1.0]}),
]
DEFAULT = {
    "optim.generator.lr": 2e-2, "hyper.act": "gelu", "training.batch": 32, "hyper.width": 200, "training.ema": 0.5,
}  # fmt: skip


def some(count, *, seed=0, noise=0.1, reached=(100, 200, 300)):
    """Trials whose objective is the exponent of their learning rate, and a little of their width."""
    rng = np.random.default_rng(seed)
    trials = []
    for n in range(count):
        values = {each.key: each.draw(rng.random()) for each in SPACE}
        value = 3 * math.log10(values["optim.generator.lr"]) + values["hyper.width"] / 64 + 20 + noise * rng.normal()
        curve = tuple((mark, value + 300 / mark) for mark in reached)
        trials.append(Trial(number=n, values=values, state="finished", curve=curve, images=reached[-1]))
    return trials


def size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


# ---- what matters ----------------------------------------------------------------------------------------------------


def test_the_dimension_that_decides_is_found_and_the_others_are_not():
    found = importance(some(40), SPACE, FID)
    ranked = sorted(found.share, key=lambda key: -found.share[key][1])
    assert ranked[0] == "optim.generator.lr"
    assert found.predicted > 0.5
    low, mean, high = found.share["optim.generator.lr"]
    assert 0.3 < low <= mean <= high
    for key in ("hyper.act", "training.batch", "training.ema"):
        assert found.share[key][1] < 0.1 * mean


def test_nothing_is_said_where_nothing_can_be_known():
    rng = np.random.default_rng(1)
    noise = [
        Trial(number=n, values=trial.values, state="finished", curve=((100, float(rng.normal())),), images=100)
        for n, trial in enumerate(some(40))
    ]
    assert importance(noise, SPACE, FID).share == {}
    few = importance(some(24), SPACE, FID)
    assert (few.share, few.needed, len(few.trials)) == ({}, 25, 24)
    assert importance([], SPACE, FID).images == 0


def test_trials_are_compared_after_equal_budgets():
    long, short = some(5), some(6, reached=(100,))
    trials = [*long, *(Trial(number=5 + t.number, values=t.values, state="pruned", curve=t.curve) for t in short)]
    assert comparable(trials) == 100, "fewer than half got to 200"
    assert comparable(trials[:9]) == 300
    lost = Trial(number=11, values=short[0].values, state="failed", curve=((100, math.nan),))
    assert importance([*trials, lost], SPACE, FID).trials == list(range(11))


# ---- what was reached ------------------------------------------------------------------------------------------------


def trial(number, state, *values, images=None):
    curve = tuple((100 * (k + 1), value) for k, value in enumerate(values))
    return Trial(number=number, values={}, state=state, curve=curve, images=images or 100 * len(values))


def test_the_best_so_far_is_what_the_ledger_would_have_named():
    trials = [
        trial(0, "pruned", 3.0, 2.0),
        trial(1, "failed", 1.0),
        trial(2, "finished", 9.0, math.nan, 5.0),
        trial(3, "finished", 1.0, 4.0),
        trial(4, "pruned", 0.5),
    ]
    laid = _end_to_end(trials)
    assert laid == {
        0: [(100, 3.0), (200, 2.0)],
        1: [(300, 1.0)],
        2: [(400, 9.0), (600, 5.0)],
        3: [(700, 1.0), (800, 4.0)],
        4: [(900, 0.5)],
    }
    # the first that spends the whole budget is worse than one that did not, and counts all the same
    best = [(100, 3.0), (200, 2.0), (400, 2.0), (600, 5.0), (700, 5.0), (800, 4.0), (900, 4.0)]
    assert _best_so_far(trials, laid, FID) == best


def test_the_better_end_of_an_axis_is_up():
    assert Scale.of([1.0, 3.0], FID).place(1.0) == Scale.of([1.0, 3.0], NATS).place(3.0) == 1.0
    wide = Scale.of([1.0, 100.0, math.inf], FID)
    assert wide.log
    assert wide.place(10.0) == pytest.approx(0.5)
    assert not Scale.of([-1.0, 100.0], FID).log
    for low, high in ((8.02, 45.1), (0.001, 0.09), (-120.0, -97.0), (5.0, 5.0)):
        scale = Scale.of([low, high], FID)
        assert len(scale.ticks()) >= 3
        assert all(scale.low <= value <= scale.high for value in scale.ticks())


def test_ticks_lie_within_their_axis():
    for dimension in SPACE:
        assert all(0 <= dimension.unit(value) <= 1 for value in ticks_of(dimension))
    assert [number(value) for value in (0.0002, -108.153, 100_000, 999_999, 1_432_000, 2e-7, 12.0)] == [
        "0.0002", "-108.2", "100k", "1M", "1.43M", "2e-7", "12",
    ]  # fmt: skip


# ---- drawing ---------------------------------------------------------------------------------------------------------


def test_equal_trials_make_equal_files(tmp_path):
    trials = some(30)
    trials[3] = trial(3, "failed", math.nan)  # without values: those of the recipe as it stands
    trials[4] = Trial(number=4, values=trials[4].values, state="running")
    best = min(trials[5:], key=lambda each: each.value)
    for folder in ("one", "two"):
        files = draw(tmp_path / folder, "f", trials, SPACE, FID, best=best, default=DEFAULT)
    assert set(files) == {"parallel", "importance", "history"}
    for path in files.values():
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
        assert min(size(path)) > 500


@pytest.mark.parametrize("trials", [[], [Trial(number=0, values={})], [trial(0, "finished", 2.0)]])
def test_a_sweep_that_has_hardly_begun_can_be_drawn(tmp_path, trials):
    best = trials[0] if trials and trials[0].curve else None
    for path in draw(tmp_path, "f", trials, SPACE[:1], NATS, best=best, default=DEFAULT).values():
        assert min(size(path)) > 300


def test_two_sweeps_share_the_axes(tmp_path):
    history(tmp_path / "two.png", "f", {"ASHA": some(6), "random": some(4, seed=1)}, FID)
    with Image.open(tmp_path / "two.png") as image:
        colours = set(image.convert("RGB").getdata())
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
