"""``gen sweep``: from an entry under ``sweeps:`` to the best recipe found, with every trial kept.

    runs/sweeps/<recipe>-<identity>/    the ledger and the trials' run directories (see pipelines.sweeping.ledger)
    sweeps/<recipe>/                    what came of it: best.yaml, trials.csv, pictures/, sweep.json

The identity is a digest of everything that decides what a trial becomes and which trials there are, so the same command
finds the same sweep, and a changed recipe starts another one.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from gen.data.manifest import manifest_digest, read_manifest
from gen.data.reading import spec_of
from gen.data.spaces import DataSpec, Space
from gen.errors import DataError, GenError, PreemptedError, RecipeError
from gen.recipe import Recipe
from gen.registry import build, entry
from pipelines.cluster.plan import Past, Plan, Scheduler
from pipelines.cluster.training import check_slices
from pipelines.cluster.trials import run_trials
from pipelines.layout import Layout, code_digest
from pipelines.params import Params, Resources, load
from pipelines.sweeping.course import Course
from pipelines.sweeping.ledger import Ledger, identity, writing_ledger
from pipelines.sweeping.making import Making
from pipelines.sweeping.objective import Examination
from pipelines.sweeping.population import Tidy, mutations
from pipelines.sweeping.publish import Result, publish
from pipelines.sweeping.search import SearchKind, make_search
from pipelines.sweeping.spaces import Sweep, check_models, own_values
from pipelines.sweeping.table import LiveTable
from pipelines.sweeping.trial import OVER
from pipelines.tracking.sweeps import track_sweep


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How to search.

    Attributes:
        trials: in all, over every session of the sweep.
        concurrent: at a time; ``None`` for what the cluster holds.
        workers: of one trial.
        gpus: of one trial of one worker.
        scheduler: who stops trials early.
        search: who proposes them.
        seed: of both.
        seconds: after which running trials are stopped; ``resume`` goes on with them.
        address: of a Ray cluster; ``None`` for what params.yaml says.
        resume: go on with the trials of an earlier session.
    """

    trials: int = 12
    concurrent: int | None = None
    workers: int = 1
    gpus: float = 0.0
    scheduler: Scheduler = "asha"
    search: SearchKind = "random"
    seed: int = 0
    seconds: float | None = None
    address: str | None = None
    resume: bool = False


def sweep(name: str, layout: Layout, options: Options) -> Result:
    """Search for a better recipe, and publish what was found.

    Args:
        name: of a recipe with an entry under ``sweeps``.
        layout: where things lie.
        options: how to search.

    Raises:
        RecipeError: params.yaml or the options are wrong, or there is such a sweep already and ``resume`` was not said.
        DataError: shards or judge are missing.
        PreemptedError: the process was asked to stop; ``resume`` goes on.
    """
    params = load(layout.root / "params.yaml")
    recipe, wanted = params.recipe(name), params.sweep(name)
    resources = _resources(params, recipe, options)
    facts, making, spec = _making(layout, params, recipe, wanted, options)
    check_models(wanted, recipe, spec, path=params.path)
    own = own_values(wanted, recipe, spec)
    plan = _plan(making, spec, options, resources)
    population = options.scheduler == "pbt"  # its members must have values that can be changed
    search = make_search(options.search, wanted, options.seed, include_default=not population, own=own)
    with writing_ledger(making.directory, facts) as ledger:
        _check_session(ledger, options)
        if not ledger.trials:
            _check_objective(making, spec)
        place, digests = making.directory, {"data": making.digest, "code": making.code}
        with track_sweep(layout, place, recipe=recipe, facts=facts, **digests) as tracker:
            with LiveTable(wanted, budget=recipe.training.images, trials=options.trials) as table:
                course = Course(ledger, search, making, tracker, table, trials=options.trials, seconds=options.seconds)
                try:
                    stopped = _run(course, plan) if course.left > 0 else False
                finally:
                    course.close("stopped by the time budget" if course.late else "stopped")
            result = publish(layout, ledger, wanted, recipe, tracker, default=own)
            if stopped and not course.late:
                raise PreemptedError(
                    f"{name}: asked to stop; {course.left} trial(s) are left, and checkpoints were saved. "
                    "The same command with --resume goes on."
                )
        if tracker.problem:
            print(f"{name}: warning: {tracker.problem} `gen runs sync` sends what is missing.", file=sys.stderr)
        return result


def _run(course: Course, plan: Plan) -> bool:
    """Run what is left; whether it was stopped before the end."""
    over = [trial for trial in course.ledger.trials.values() if trial.state in ("finished", "pruned")]
    past = [Past(trial.number, trial.curve) for trial in over]
    return run_trials(plan, course, count=course.left, past=past)


# ---- before the first trial --------------------------------------------------------------------------------------


def _resources(params: Params, recipe: Recipe, options: Options) -> Resources:
    """What one trial runs with."""
    if options.workers > 1:
        check_slices(recipe, options.workers)
        if options.gpus:
            raise RecipeError(
                "--gpus-per-trial: with --workers-per-trial, each worker takes one GPU if the cluster has as many "
                "(resources.gpu). Leave one of the two out."
            )
    given = params.resources_of(recipe.name)
    return replace(given, workers=options.workers, address=options.address or given.address)


def _making(
    layout: Layout, params: Params, recipe: Recipe, wanted: Sweep, options: Options
) -> tuple[dict[str, Any], Making, DataSpec]:
    """What makes this sweep this one; the maker of its jobs; and what its models are built for."""
    data, judge = layout.shards(recipe.dataset), layout.judge(recipe.dataset)
    for path, stage in ((data / "manifest.json", "shard"), (judge / "judge.json", "judge")):
        if not path.exists():
            raise DataError(f"{path}: not there. Run `dvc repro {stage}@{recipe.dataset}` first.")
    manifest = read_manifest(data)
    code, evaluation = code_digest(recipe.model), params.evaluation
    facts = {
        **wanted.as_dict(),
        "base": recipe.as_dict(),
        "data": manifest_digest(data),
        "code": code,
        "evaluation": asdict(evaluation),
        "search": options.search,
        "scheduler": options.scheduler,
        "seed": options.seed,
    }
    making = Making(
        sweep=wanted,
        recipe=recipe,
        data=data,
        directory=layout.sweep_run(recipe.name, identity(facts)),
        digest=facts["data"],
        code=code,
        reading=params.resources_of(recipe.name).reading,
        examination=Examination(wanted.objective.score, data, judge, evaluation.samples, evaluation.seed),
    )
    spec = spec_of(manifest, Space.parse(recipe.space), videos=entry(recipe.model).cls.videos)
    return facts, making, spec


def _check_session(ledger: Ledger, options: Options) -> None:
    """There is something to start, or something to go on with, and which of the two was said."""
    if ledger.trials and not options.resume:
        over = sum(trial.state in OVER for trial in ledger.trials.values())
        raise RecipeError(
            f"{ledger.directory}: this sweep was begun before: {over} of {len(ledger.trials)} trials are over. "
            "Go on with --resume (and more --trials to add some), or start another one with --seed."
        )


def _check_objective(making: Making, spec: DataSpec) -> None:
    """An untrained model shows whether there is such a score at all, before trials are spent on it."""
    model = build(making.recipe.model, spec, **making.recipe.hyper)
    try:
        making.examination(model)
    except RecipeError as problem:
        raise RecipeError(f"sweeps.{making.recipe.name}.objective: {problem}") from None
    except GenError:
        return  # it has the score; that it is not finite before training is no wonder


def _plan(making: Making, spec: DataSpec, options: Options, resources: Resources) -> Plan:
    wanted = making.sweep
    return Plan(
        job=making,
        score=wanted.objective.score,
        mode="min" if wanted.objective.direction == "minimize" else "max",
        every=wanted.every,
        budget=making.recipe.training.images,
        scheduler=options.scheduler,
        mutations=mutations(wanted, making.recipe, spec) if options.scheduler == "pbt" else {},
        tidy=Tidy(wanted.space),
        seed=options.seed,
        resources=resources,
        gpus=options.gpus,
        concurrent=options.concurrent,
        scratch=making.directory / "tune",
    )
