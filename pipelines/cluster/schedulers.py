"""Who decides about running trials: Ray Tune's schedulers, which start knowing what earlier sessions measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.cluster.plan import Past, Plan

REDUCTION = 3  # ASHA keeps the best third at each rung


def make_scheduler(plan: Plan, *, past: Sequence[Past], synchronous: bool) -> Any:
    """Who decides about running trials.

    ``asha`` (Li et al. 2020): at rungs ``every * 3^k`` a trial goes on if it is among the best third of those that got
    there. ``median`` (Golovin et al. 2017): a trial stops if its best is worse than the median of the others' means.
    ``pbt`` (Jaderberg et al. 2017): after ``every`` images the worst quarter go on from the weights of the best, with
    values changed a little. ``none``: every trial spends the whole budget.

    Args:
        plan: of the sweep.
        past: trials that ended in earlier sessions; those that compare trials are told.
        synchronous: whether the members of a population that cannot all run at once take turns.
    """
    from ray.tune.schedulers import (
        AsyncHyperBandScheduler,
        FIFOScheduler,
        MedianStoppingRule,
        PopulationBasedTraining,
    )

    common = {"time_attr": "images", "metric": "objective", "mode": plan.mode}
    match plan.scheduler:
        case "asha":
            asha = AsyncHyperBandScheduler(
                **common, max_t=plan.budget, grace_period=plan.every, reduction_factor=REDUCTION
            )
            return _remembering(asha, past)
        case "median":
            return _remembering(MedianStoppingRule(**common, grace_period=plan.every), past, until_stopped=True)
        case "pbt":
            return PopulationBasedTraining(
                **common,
                perturbation_interval=plan.every,
                hyperparam_mutations={"trial": {"values": dict(plan.mutations)}},
                custom_explore_fn=lambda config: _tidied(config["trial"], plan.tidy),
                synch=synchronous,
            )
    return FIFOScheduler()


def _tidied(trial: Mapping[str, Any], tidy: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    return {"trial": {**trial, "values": dict(tidy(trial["values"]))}}


@dataclass(frozen=True, slots=True)
class _Stand:
    """In the place of a Tune trial of an earlier session."""

    trial_id: str


class _Alone:
    """In the place of Tune's controller: no trial runs yet."""

    def get_live_trials(self) -> list[Any]:
        return []


def _remembering(scheduler: Any, past: Sequence[Past], *, until_stopped: bool = False) -> Any:
    """A scheduler that has been told what earlier trials measured.

    Told in another order than they came in, some trials would have been stopped that were not. The median rule wants
    to hear no more of those; ASHA compares at each rung whoever got there.
    """
    nobody = _Alone()
    for trial in past:
        if not trial.curve:
            continue
        stand = _Stand(f"past-{trial.number}")
        scheduler.on_trial_add(nobody, stand)
        for images, value in trial.curve:
            told = {"images": images, "objective": value}
            if scheduler.on_trial_result(nobody, stand, told) == scheduler.STOP and until_stopped:
                break
        scheduler.on_trial_complete(nobody, stand, told)
    return scheduler
