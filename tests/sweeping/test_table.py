"""A sweep on the terminal: what matters is shown whatever the terminal's size; elsewhere, each piece of news once."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from pipelines.sweeping.dimensions import Dimension
from pipelines.sweeping.ledger import Spent
from pipelines.sweeping.spaces import Objective, Sweep
from pipelines.sweeping.table import LiveTable
from pipelines.sweeping.trial import Trial

SPACE = {
    key: Dimension.parse(key, {"loguniform": [1e-4, 1e-2]}) for key in ("optim.generator.lr", "optim.discriminator.lr")
}
SWEEP = Sweep(recipe="f", objective=Objective(score="fid", direction="minimize"), every=100, space=SPACE)
VALUES = {"optim.generator.lr": 0.0005, "optim.discriminator.lr": 0.00125}


def trial(number, state="running", *curve, **facts):
    images = 100 * len(curve)
    points = tuple((100 * (k + 1), value) for k, value in enumerate(curve))
    return Trial(number=number, values=VALUES, state=state, curve=points, images=images, seconds=images / 10, **facts)


def many():
    """Trial 17 runs, 33 is the best, most are pruned."""
    states = ["finished" if n % 5 == 3 else "pruned" for n in range(60)]
    trials = {n: trial(n, state, 50.0 - n if n <= 33 else 30.0) for n, state in enumerate(states)}
    trials[17] = trial(17, "running", 60.0)
    trials[41] = trial(41, "failed")
    return trials


def shown(width, height, trials, best):
    console = Console(force_terminal=True, width=width, height=height, file=io.StringIO(), color_system=None)
    table = LiveTable(SWEEP, budget=400, trials=80, console=console)
    table.trials, table.best, table.spent = trials, best, Spent(12_300, 1_230.0)
    console.print(table.render())
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24), (46, 12)])
def test_running_trials_and_the_best_are_shown_and_the_rest_is_counted(width, height):
    trials = many()
    lines = shown(width, height, trials, trials[33])
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("f  best eval/fid 17 (trial 33)")
    rows = {int(line.split()[0]): line.split() for line in lines[2:-1]}
    assert {17, 33} <= set(rows)
    assert (rows[17][1], rows[33][1]) == ("running", "finished")
    folded = lines[-1]
    assert folded.startswith("and ")
    counts = sum(int(part.split()[0]) for part in folded.removeprefix("and ").split(", "))
    assert counts + len(rows) == 60


def test_a_wide_terminal_shows_every_value_and_a_narrow_one_what_fits():
    trials = {0: replace(trial(0, "finished", 3.0, 2.5), values={}), 1: trial(1, "running", 4.0)}
    wide = shown(120, 40, trials, trials[0])
    assert wide[2].split() == ["0", "finished", "-", "-", "2.5", "200", "/", "400", "20"]
    assert wide[3].split() == ["1", "running", "0.0005", "0.00125", "4", "100", "/", "400", "10"]
    narrow = shown(66, 40, trials, trials[0])
    assert "the recipe as it stands" in narrow[2]
    assert "0.0005, 0.00125" in narrow[3]
    assert narrow[3].split()[-2:] == ["4", "25%"]


def lines_of(*updates, total=2):
    console = Console(file=io.StringIO(), force_terminal=False)
    with LiveTable(SWEEP, budget=400, trials=total, console=console) as table:
        for trials, best in updates:
            spent = Spent(sum(each.images for each in trials), 0.0)
            table.update({each.number: each for each in trials}, best=best, spent=spent)
            table.refresh()
    return console.file.getvalue().splitlines()


def test_without_a_terminal_every_piece_of_news_is_a_line():
    waiting = replace(trial(0), state="waiting", values={})
    running = replace(waiting, state="running")
    measured = replace(running, curve=((100, 3.0),), images=100, seconds=9.0)
    other = trial(1)
    lost = replace(other, curve=((100, float("nan")),), images=100)
    failed = replace(lost, state="failed", error="not finite", seconds=7.0)
    finished = replace(measured, state="finished", curve=((100, 3.0), (400, 2.0)), images=400, seconds=40.0)
    lines = lines_of(
        ([waiting], None),
        ([running], None),
        ([measured], measured),
        ([measured], measured),
        ([measured, other], measured),
        ([measured, lost], measured),
        ([measured, failed], measured),
        ([finished, failed], finished),
    )
    assert lines == [
        "f: trial 0 started: the recipe as it stands",
        "f: trial 0: eval/fid 3 at 100 of 400 images  (best so far)",
        "f: trial 1 started: optim.generator.lr 0.0005, optim.discriminator.lr 0.00125",
        "f: trial 1: eval/fid not finite at 100 of 400 images",
        "f: trial 1 failed after 100 images, 7 s: not finite",
        "f: trial 0: eval/fid 2 at 400 of 400 images  (best so far)",
        "f: trial 0 finished after 400 images, 40 s",
        "f: 2 trials: 1 finished, 1 failed; 500 images; best eval/fid 2, trial 0",
    ]


def test_what_an_earlier_session_did_is_one_line():
    done, stopped = trial(0, "finished", 3.0), trial(1, "killed", 5.0)
    lines = lines_of(([done, stopped], done), ([done, replace(stopped, state="running")], done))
    assert lines[0] == "f: going on: 2 trials: 1 finished, 1 killed; 200 images; best eval/fid 3, trial 0"
    assert lines[1] == "f: trial 1 started: optim.generator.lr 0.0005, optim.discriminator.lr 0.00125"
    assert len(lines) == 3


def test_a_terminal_is_drawn_upon_and_given_back():
    console = Console(force_terminal=True, width=100, height=30, file=io.StringIO())
    with LiveTable(SWEEP, budget=400, trials=1, console=console) as table:
        assert "nothing yet" in console.file.getvalue()
        table.update({0: trial(0, "running", 3.0)}, best=trial(0), spent=Spent(100, 1.0))
    text = console.file.getvalue()
    assert "running" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is shown again"
