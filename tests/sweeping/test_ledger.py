"""The ledger: killed whenever, it opens and holds all that was acknowledged; nothing damaged goes unnoticed."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.errors import StoreError
from pipelines.lifeline import BusyError
from pipelines.sweeping.ledger import Ledger, identity, writing_ledger
from pipelines.sweeping.spaces import Objective
from pipelines.sweeping.trial import Trial

FACTS = {"recipe": "toy", "seed": 0, "space": {"hyper.x": {"choice": (1, 2)}}}
LESS, MORE = Objective(score="fid", direction="minimize"), Objective(score="nats", direction="maximize")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with writing_ledger(tmp_path / "sweep", FACTS) as opened:
        yield opened


def run(
    ledger: Ledger, number: int, *values: float, state: str = "finished", values_in: Mapping[str, Any] | None = None
) -> Trial:
    """A trial to its end, measured every 100 images, a second each."""
    ledger.add(number, values_in or {})
    ledger.start(number)
    for n, value in enumerate(values):
        ledger.measured(number, 100 * (n + 1), value, seconds=1.0)
    return ledger.ended(number, state) if state != "running" else ledger[number]  # type: ignore[arg-type]


def same(a: Mapping[int, Trial], b: Mapping[int, Trial]) -> bool:
    return {n: t.as_dict() for n, t in a.items()} == {n: t.as_dict() for n, t in b.items()}


# ---- what is written is read -------------------------------------------------------------------------------------


def test_what_was_written_is_read_again(ledger: Ledger) -> None:
    run(ledger, 0, 3.0, math.nan, 1e-5)
    run(ledger, 3, 2.0, state="running", values_in={"hyper.hidden": [8, 8], "training.ema": None, "optim.a.lr": 1.5e-4})
    ledger.add(1, {"hyper.x": True})
    found = Ledger(ledger.directory)
    assert list(found.trials) == [0, 1, 3]
    assert same(found.trials, ledger.trials)
    assert found[3].values == {"hyper.hidden": [8, 8], "training.ema": None, "optim.a.lr": 1.5e-4}
    assert math.isnan(found[0].curve[1][1])
    assert (ledger.unused, found.place(3).name, found.facts["seed"]) == (2, "0003", 0)
    assert json.loads((found.place(0) / "trial.json").read_text())["curve"] == [[100, 3.0], [200, None], [300, 1e-5]]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "start", "measured", "changed", "finished", "pruned", "failed", "killed"]),
        st.integers(0, 2),
        st.integers(1, 500),
        st.floats(allow_nan=True, allow_infinity=True),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_whatever_is_done_or_refused_the_files_hold_what_the_memory_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list
) -> None:
    directory = tmp_path_factory.mktemp("sweep")
    with writing_ledger(directory, FACTS) as ledger:
        for what, number, images, value in steps:
            before, spent = dict(ledger.trials), ledger.spent()
            try:
                match what:
                    case "add":
                        ledger.add(number, {"hyper.x": images})
                    case "start":
                        ledger.start(number)
                    case "measured":
                        ledger.measured(number, images, value, seconds=0.5)
                    case "changed":
                        ledger.changed(number, images, {"hyper.x": -images}, donor=2)
                    case _:
                        ledger.ended(number, what)
            except StoreError:
                assert same(before, ledger.trials), "what is refused changes nothing"
            assert ledger.spent().images >= spent.images, "what was spent stays spent"
            if number in before:
                assert ledger[number].number == number
        assert same(Ledger(directory).trials, ledger.trials)


@pytest.mark.parametrize("over", ["finished", "pruned", "failed"])
def test_what_is_over_stays_over(ledger: Ledger, over: str) -> None:
    run(ledger, 0, 1.0, state=over)
    with pytest.raises(
        StoreError, match=rf"0000/trial\.json: the trial is {over} and cannot become running.*it is over"
    ):
        ledger.start(0)
    with pytest.raises(StoreError, match=rf"the trial is {over}; only a running one"):
        ledger.measured(0, 200, 0.5)


def test_states_follow_each_other_as_they_may(ledger: Ledger) -> None:
    ledger.add(0, {})
    with pytest.raises(StoreError, match="there is a trial 0 already"):
        ledger.add(0, {"hyper.x": 1})
    with pytest.raises(StoreError, match=r"waiting and cannot become finished\. Allowed: running, failed, killed"):
        ledger.ended(0, "finished")
    with pytest.raises(StoreError, match=r"there is no trial 5\. Add it before it starts"):
        ledger.start(5)
    ledger.ended(0, "killed", error="stopped")
    assert ledger.start(0).error == ""
    ledger.start(0)  # its driver was killed
    assert ledger.ended(0, "failed", error="not finite").error == "not finite"


# ---- interruptions -----------------------------------------------------------------------------------------------


def test_an_interrupted_trial_is_counted_once(ledger: Ledger) -> None:
    run(ledger, 0, 5.0, 4.0, state="killed")
    ledger.start(0)
    for images, value in ((100, 5.0), (200, 3.9), (300, 3.0)):  # told again; on another machine, not quite the same
        ledger.measured(0, images, value, seconds=1.0)
    ledger.ended(0, "finished", seconds=0.5)
    assert ledger[0].curve == ((100, 5.0), (200, 4.0), (300, 3.0)), "what a scheduler acted upon stays"
    assert ledger.spent() == (300, 5.5)


def test_a_member_of_a_population_goes_on_from_a_better_one(ledger: Ledger) -> None:
    run(ledger, 0, 9.0, 8.0, 7.0, state="running", values_in={"optim.a.lr": 1.0})
    changed = ledger.changed(0, 200, {"optim.a.lr": 2.0}, donor=4)
    assert (changed.values, changed.curve, changed.clock) == ({"optim.a.lr": 2.0}, ((100, 9.0), (200, 8.0)), 200)
    assert changed.images == 300, "weights that are gone were trained all the same"
    assert ledger.measured(0, 300, 5.0).images == 400
    ledger.changed(0, 600, {"optim.a.lr": 3.0})
    assert ledger.measured(0, 700, 4.0).images == 500, "what its donor trained is the donor's"
    found = Ledger(ledger.directory)[0]
    assert found.history == ((200, {"optim.a.lr": 2.0}, 4), (600, {"optim.a.lr": 3.0}, None))
    assert found.curve == ((100, 9.0), (200, 8.0), (300, 5.0), (700, 4.0))


# ---- the best ----------------------------------------------------------------------------------------------------


def test_the_best_is_the_best_of_those_that_finished(ledger: Ledger) -> None:
    assert ledger.best(LESS) is None
    ledger.add(9, {})
    assert ledger.best(LESS) is None
    run(ledger, 1, 5.0, state="pruned")
    assert ledger.best(LESS) == ledger[1], "without any that finished, it is the best so far"
    run(ledger, 2, 4.0, state="killed")
    run(ledger, 3, 6.0, 3.5, state="running")
    assert ledger.best(LESS) == ledger[3]
    assert ledger.best(MORE) == ledger[1]
    run(ledger, 4, 1.0, 9.0)
    assert ledger.best(LESS) == ledger[4], "pruned ones never win over one that finished; its last value counts"
    run(ledger, 5, 2.0, 8.0)
    run(ledger, 6, 2.0, 8.0)
    run(ledger, 7, 0.5, state="failed")
    run(ledger, 8, 1.0, math.nan)
    assert ledger.best(LESS) == ledger[5], "of equals the first; failed never; not finite loses"
    assert ledger.best(MORE) == ledger[4]


# ---- damage, strangers, other writers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: "", "Invalid JSON"),
        (lambda text: "[]", "should be an object"),
        (lambda text: text.replace('"finished"', '"fine"'), "state: Input should be 'waiting', 'running'"),
        (lambda text: text.replace('"seconds"', '"secs"'), "keys are missing or unknown"),
        (lambda text: text.replace('"images": 200', '"images": "200"'), "images: Input should be a valid integer"),
        (lambda text: text.replace('"images": 200', '"images": -1'), "below 0"),
        (lambda text: text.replace("200,\n", "100,\n", 1), "the images do not ascend"),
        (lambda text: text.replace('"number": 0', '"number": 1'), "holds trial 1, which belongs into trials/0001"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(ledger: Ledger, damage: Any, message: str) -> None:
    run(ledger, 0, 2.0, 1.0)
    path = ledger.place(0) / "trial.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(StoreError, match=message) as caught:
        Ledger(ledger.directory)
    assert str(path) in str(caught.value)
    assert path.read_text() == damage(text), "nothing is repaired behind anyone's back"


def test_what_a_killed_writer_left_behind_does_not_matter(ledger: Ledger) -> None:
    run(ledger, 0, 1.0)
    (ledger.place(0) / ".trial.json.123.part").write_text("{")
    ledger.place(1).mkdir()
    found = Ledger(ledger.directory)
    assert (list(found.trials), found.unused) == ([0], 1)


def test_a_directory_belongs_to_one_sweep(tmp_path: Path) -> None:
    with writing_ledger(tmp_path, FACTS) as ledger:
        run(ledger, 0, 1.0)
    with writing_ledger(tmp_path, FACTS) as again:  # tuples are lists when they are read again
        assert again[0].state == "finished"
    other = {**FACTS, "space": {"hyper.x": {"choice": [1, 3]}}, "every": 5}
    with (
        pytest.raises(
            StoreError, match=r"(?s)sweep\.json: .* another sweep.*every: saved None, wanted 5.*hyper\.x\.choice"
        ),
        writing_ledger(tmp_path, other),
    ):
        pass
    assert identity(FACTS) == identity(json.loads(json.dumps(FACTS))) != identity(other)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(StoreError, match=r"sweep\.json: damaged"):
        Ledger(tmp_path)
    with pytest.raises(StoreError, match=r"sweep\.json: no such file"):
        Ledger(tmp_path / "elsewhere")


def test_one_writes_and_all_may_read(tmp_path: Path) -> None:
    with writing_ledger(tmp_path, FACTS) as ledger:
        ledger.add(0, {})
        with pytest.raises(BusyError, match="another process is writing here"), writing_ledger(tmp_path, FACTS):
            pass
        reader = Ledger(tmp_path)
        assert reader[0].state == "waiting"
        with pytest.raises(StoreError, match="opened for reading"):
            reader.start(0)
    with pytest.raises(StoreError, match="opened for reading"):
        ledger.start(0)


# ---- killed at any moment ----------------------------------------------------------------------------------------


def busy(directory: Path, acknowledge: int) -> None:
    """Goes on with whatever the ledger holds, as fast as it can, and says what is done after each change."""
    with writing_ledger(directory, FACTS) as ledger:
        while True:
            number = ledger.unused
            for trial in [*ledger.trials.values()][-2:]:
                if trial.state in ("running", "waiting"):
                    number = trial.number
            if number == ledger.unused:
                ledger.add(number, {"optim.model.lr": 1.0 / (number + 1), "note": "x" * 20_000})
            ledger.start(number)
            for n in range(len(ledger[number].curve), 6):
                _say(acknowledge, ledger.measured(number, 100 * (n + 1), float(n), seconds=1.0))
            _say(acknowledge, ledger.ended(number, "finished"))


def _say(pipe: int, trial: Trial) -> None:
    os.write(pipe, f"{trial.number} {len(trial.curve)} {trial.state}\n".encode())


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(0)
    acknowledged: dict[int, tuple[int, str]] = {}
    for _ in range(15):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                busy(tmp_path, writing)
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = [pipe.readline() for _ in range(chance.randrange(1, 15))]
            time.sleep(chance.uniform(0, 0.004))  # about as long as two changes take
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            for line in (*told, *pipe.read().splitlines()):
                number, points, state = line.split()
                acknowledged[int(number)] = (int(points), state)
        trials = Ledger(tmp_path).trials
        for number, (points, state) in acknowledged.items():
            assert len(trials[number].curve) >= points
            assert state != "finished" or trials[number].state == "finished"
        assert sum(trial.state in ("running", "waiting") for trial in trials.values()) <= 1
    assert sum(state == "finished" for _, state in acknowledged.values()) > 5, "it was killed amid work, not before it"
    spent = Ledger(tmp_path).spent()
    assert spent.images == sum(100 * len(trial.curve) for trial in Ledger(tmp_path).trials.values())
