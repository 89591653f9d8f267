"""Who is stopped: by comparison with the trials of this session and of those before it; and what fits on a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gen.errors import RecipeError
from pipelines.cluster.plan import Past, Plan
from pipelines.cluster.schedulers import make_scheduler
from pipelines.cluster.trials import capacity
from pipelines.params import Resources


def no_job(number: int, values: Any) -> Any:
    raise AssertionError("nothing is trained here")


PLAN = Plan(
    job=no_job,
    score="fid",
    mode="min",
    every=10,
    budget=90,
    scheduler="asha",
    mutations={},
    tidy=dict,
    seed=0,
    resources=Resources(),
    gpus=0,
    concurrent=None,
    scratch=Path("nowhere"),
)


@dataclass(frozen=True)
class Trial:
    trial_id: str


class Controller:
    def get_live_trials(self) -> list[Any]:
        return []


def verdict(scheduler: Any, name: str, images: int, value: float) -> str:
    trial = Trial(name)
    scheduler.on_trial_add(Controller(), trial)
    return str(scheduler.on_trial_result(Controller(), trial, {"images": images, "objective": value}))


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_new_trial_is_compared_with_those_of_earlier_sessions(kind: str) -> None:
    past = [Past(n, ((10, value), (20, value))) for n, value in enumerate((1.0, 2.0, 3.0, 4.0, 5.0))]
    plan = replace(PLAN, scheduler=kind)
    remembering = make_scheduler(plan, past=past, synchronous=False)
    assert verdict(remembering, "bad", 20, 9.0) == "STOP"
    assert verdict(remembering, "good", 20, 0.5) == "CONTINUE"
    assert verdict(make_scheduler(plan, past=(), synchronous=False), "bad", 20, 9.0) == "CONTINUE"


def test_more_may_be_better() -> None:
    past = [Past(n, ((10, value),)) for n, value in enumerate((1.0, 2.0, 3.0, 4.0, 5.0))]
    scheduler = make_scheduler(replace(PLAN, mode="max"), past=past, synchronous=False)
    assert verdict(scheduler, "bad", 10, 0.5) == "STOP"
    assert verdict(scheduler, "good", 10, 9.0) == "CONTINUE"


def node(cpus: float, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}}


@pytest.mark.parametrize(
    ("resources", "gpus", "nodes", "fits"),
    [
        (Resources(workers=1), 0, [node(2), node(1)], 3),
        (Resources(workers=1), 0, [node(2), node(1, alive=False)], 2),
        (Resources(workers=1, threads=2), 0, [node(3), node(3)], 2),  # a trial is whole on one node
        (Resources(workers=1), 0.5, [node(16, 1)], 2),
        (Resources(workers=2), 0, [node(1), node(1), node(1)], 1),  # its workers need not be
        (Resources(workers=2), 0, [node(4), node(3)], 3),
        (Resources(workers=2, gpu="yes"), 0, [node(16, 4)], 2),
    ],
)
def test_as_many_trials_as_fit(resources: Resources, gpus: float, nodes: list[dict[str, Any]], fits: int) -> None:
    assert capacity(replace(PLAN, resources=resources, gpus=gpus), nodes) == fits


def test_what_can_never_fit_is_said_at_once() -> None:
    with pytest.raises(RecipeError, match=r"1 CPUs and 0 GPUs on 1 node\(s\), and one trial needs 2 workers"):
        capacity(replace(PLAN, resources=Resources(workers=2)), [node(1)])
