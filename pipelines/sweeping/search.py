"""Who proposes the trials of a sweep.

``random`` and ``grid`` are lists fixed beforehand: the values of a trial depend on the seed and its number alone, not
on what ran before or beside it, so a sweep that was killed goes on with the very trials it would have run. ``optuna``
(Akiba et al. 2019) learns from what was measured, by tree-structured Parzen estimators (Bergstra et al. 2011); it
keeps no state of its own either, but is refilled from what it is told.

No configuration is proposed twice. Trial 0 is the recipe as it stands: what is found is compared with where it began.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Any, Literal, Protocol, get_args

import numpy as np

from gen.errors import RecipeError, nearest
from pipelines.sweeping.dimensions import RANGES, Dimension, canonical
from pipelines.sweeping.spaces import Sweep

SearchKind = Literal["random", "grid", "optuna"]
SEARCHES: tuple[SearchKind, ...] = get_args(SearchKind)
ATTEMPTS = 10  # of Optuna to propose something new
REPEATS = 1_000  # draws in a row that were all there before: the space is used up

Values = Mapping[str, Any]


class Search(Protocol):
    """Proposes trials by number."""

    def suggest(self, number: int) -> Values | None:
        """What trial ``number`` changes in the recipe; ``None`` when there is nothing new to try."""
        ...

    def told(self, number: int, values: Values, curve: Sequence[tuple[int, float]], state: str) -> None:
        """How a trial stands, as often as that changes: its measurements so far, and its state in the ledger."""
        ...


def make_search(
    kind: str, sweep: Sweep, seed: int, *, include_default: bool = True, own: Values | None = None
) -> Search:
    """A search by name.

    Args:
        kind: one of :data:`SEARCHES`.
        sweep: what is varied, and what is looked for.
        seed: 0 or more.
        include_default: whether trial 0 is the recipe as it stands: its values are ``{}``.
        own: the recipe's own values at the keys of the sweep (see :func:`pipelines.sweeping.spaces.own_values`), so
            that no other trial repeats trial 0, and so that what it measured is learnt from.

    Raises:
        RecipeError: an unknown kind, or a space it cannot search.
    """
    if seed < 0:
        raise RecipeError(f"seed: found {seed}; give 0 or more.")
    first = [dict(own or {})] if include_default else []
    match kind:
        case "random":
            return Listed(_draws(sweep, seed), first)
        case "grid":
            return Listed(_grid(sweep), first)
        case "optuna":
            return Learned(sweep, seed, first)
    raise RecipeError(f"search: found '{kind}'. Allowed: {', '.join(SEARCHES)}.{nearest(kind, SEARCHES)}")


# ---- lists fixed beforehand --------------------------------------------------------------------------------------


class Listed:
    """Configurations in a fixed order, none twice.

    Args:
        candidates: where they come from, in order; repeats are passed over.
        first: the recipe's own values, if trial 0 is the recipe as it stands.
    """

    def __init__(self, candidates: Iterator[Values], first: Sequence[Values]) -> None:
        self._candidates = candidates
        self._found: list[Values] = [{} for _ in first]
        self._seen = {_identity(values) for values in first}

    def suggest(self, number: int) -> Values | None:
        """See base."""
        while len(self._found) <= number:
            candidate = next(_unseen(self._candidates, self._seen), None)
            if candidate is None:
                self._candidates = iter(())  # for good, however often it is asked
                return None
            self._seen.add(_identity(candidate))
            self._found.append(candidate)
        return self._found[number]

    def told(self, number: int, values: Values, curve: Sequence[tuple[int, float]], state: str) -> None:
        """See base: what was measured changes nothing."""


def _unseen(candidates: Iterator[Values], seen: Collection[str]) -> Iterator[Values]:
    """Those that were not there before, until too many in a row were."""
    repeats = 0
    for candidate in candidates:
        repeats = repeats + 1 if _identity(candidate) in seen else 0
        if repeats == 0:
            yield candidate
        elif repeats == REPEATS:
            return


def _draws(sweep: Sweep, seed: int) -> Iterator[Values]:
    """Independent draws without end; those of a ``grid`` take turns, the last one fastest."""
    cycle = list(product(*(d.given for d in sweep.dimensions if d.kind == "grid")))
    for number in count():
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, number])))
        units = generator.random(len(sweep.dimensions))
        turn = iter(cycle[number % len(cycle)])
        yield {
            d.key: next(turn) if d.kind == "grid" else d.draw(float(u))
            for d, u in zip(sweep.dimensions, units, strict=True)
        }


def _grid(sweep: Sweep) -> Iterator[Values]:
    """Every combination, the last dimension fastest."""
    endless = [d for d in sweep.dimensions if d.values is None]
    if endless:
        d = endless[0]
        some = ", ".join(f"{d.draw(u):g}" for u in (0.0, 0.5, 1.0))
        raise RecipeError(
            f"sweeps.{sweep.recipe}.space: {', '.join(d.key for d in endless)}: a grid has no end of values there. "
            f"List them, e.g. `{d.key}: {{ grid: [{some}] }}`, or search at random."
        )
    return (
        dict(zip(sweep.space, values, strict=True)) for values in product(*(d.values or () for d in sweep.dimensions))
    )


def _identity(values: Values) -> str:
    return ";".join(f"{key}={canonical(values[key])}" for key in sorted(values))


# ---- a list that learns ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """A trial as it was last told."""

    values: Values
    curve: Sequence[tuple[int, float]]
    state: str


class Learned:
    """Tree-structured Parzen estimators, through Optuna.

    Each suggestion starts from a study that is filled anew with everything told: what it is depends on the seed, the
    number and that, so a sweep goes on as if it had never stopped. Trials that still run count as bad ones ("constant
    liar"), which keeps concurrent ones apart.

    Args:
        sweep: what is varied, and what is looked for.
        seed: of the suggestions.
        first: the recipe's own values, if trial 0 is the recipe as it stands.
    """

    def __init__(self, sweep: Sweep, seed: int, first: Sequence[Values]) -> None:
        try:
            import optuna
        except ImportError:
            raise RecipeError(
                "search: 'optuna' is not installed. Install it with: pip install -c infra/constraints.txt optuna, or "
                "search at random."
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep, self._seed, self._first = sweep, seed, first
        self._known: dict[int, _Known] = {}

    def suggest(self, number: int) -> Values | None:
        """See base."""
        if number < len(self._first):
            return {}
        seen = {_identity(each) for each in (*self._first, *(known.values for known in self._known.values()))}
        for attempt in range(ATTEMPTS):
            values = self._ask(number, attempt)
            if _identity(values) not in seen:
                return values
        return next(_unseen(_draws(self._sweep, self._seed), seen), None)  # it insists on what is known: try another

    def told(self, number: int, values: Values, curve: Sequence[tuple[int, float]], state: str) -> None:
        """See base."""
        self._known[number] = _Known(values, tuple(curve), state)

    def _ask(self, number: int, attempt: int) -> Values:
        import optuna

        dimensions = self._sweep.dimensions
        seed = int(np.random.SeedSequence([self._seed, number, attempt]).generate_state(1)[0])
        study = optuna.create_study(
            direction=self._sweep.objective.direction,
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        )
        spaces = {d.key: _distribution(d) for d in dimensions}
        for told in sorted(self._known):
            if (trial := self._recorded(self._known[told], spaces)) is not None:
                study.add_trial(trial)
        chosen = study.ask(spaces).params
        return {d.key: d.tidy(chosen[d.key]) if d.kind in RANGES else d.given[chosen[d.key]] for d in dimensions}

    def _recorded(self, known: _Known, spaces: Mapping[str, Any]) -> Any:
        """A trial as Optuna knows it; ``None`` if it says nothing: it failed, or lies outside the space."""
        from optuna.trial import TrialState, create_trial

        values = known.values or (self._first[0] if self._first else {})
        params = {}
        for d in self._sweep.dimensions:
            if d.key not in values or not 0 <= d.unit(values[d.key]) <= 1:
                return None
            params[d.key] = values[d.key] if d.kind in RANGES else d.index(values[d.key])
        curve = {images: value for images, value in known.curve if math.isfinite(value)}
        final = known.curve[-1][1] if known.curve else math.nan
        match known.state:
            case "finished" if math.isfinite(final):
                outcome = {"state": TrialState.COMPLETE, "value": final}
            case "pruned" | "killed" if curve:
                outcome = {"state": TrialState.PRUNED}
            case "waiting" | "running":
                outcome = {"state": TrialState.RUNNING}
            case _:
                return None
        return create_trial(**outcome, params=params, distributions=dict(spaces), intermediate_values=curve)


def _distribution(dimension: Dimension) -> Any:
    """As Optuna has it. Of choices it is given the places: it takes no lists, and takes 1 for True."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high = dimension.given[0], dimension.given[-1]
    match dimension.kind:
        case "uniform" | "loguniform":
            return FloatDistribution(low, high, log=dimension.kind == "loguniform")
        case "int":
            return IntDistribution(low, high)
    return CategoricalDistribution(tuple(range(len(dimension.given))))
