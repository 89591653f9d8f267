"""The gate: what a version must show, measured now, on this machine, before an alias moves to it.

    bar            its recorded scores against `gates:` of params.yaml as it stands now
    checksum       every file is as registered; nothing of it is imported or loaded before that is known
    signature      what it serves is what this version of gen serves
    smoke sample   it loads and draws; the same seed draws the same images
    latency        how long drawing takes
    data           it, the champion and the shards here are of the same data
    no regression  not worse than the champion by more than a margin, on the same test images (gen.evaluate.regression)

A check that could not be made has failed, and says why: silence is not a pass.
"""

from __future__ import annotations

import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from torch import Tensor

from gen.data.manifest import manifest_digest
from gen.data.reader import everything
from gen.data.spaces import Space
from gen.errors import GenError, StoreError
from gen.evaluate.bench import Bench, in_space
from gen.evaluate.codes import decode_all, encode_all
from gen.evaluate.judge import load_judge
from gen.evaluate.predictions import continued
from gen.evaluate.regression import COMPARISONS, compare
from gen.evaluate.samples import draw, sampling_speed
from gen.model import Encodes, GenerativeModel, Predicts, Samples
from gen.store import load_model
from pipelines.evaluate import verdicts as held_to_bars
from pipelines.layout import Layout
from pipelines.params import Params
from pipelines.progress import QUICK_S
from pipelines.promotion.policy import Policy
from pipelines.promotion.verdicts import Verdict
from pipelines.tracking.registry import score_name, signature
from pipelines.tracking.sealed import Fetched, fetch
from pipelines.tracking.server import TrackingError
from pipelines.tracking.shelf import Version

SHORT = 12  # hex digits of a digest that are shown
AT_ONCE = 100  # images, as in stage evaluate
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?")
MANIFEST = "gen.manifest"  # tag of a version: the data it was trained on
Look = tuple[str, bool, str]
"""What a check found, whether that is enough, and what there is to say about it."""


class _Subject:
    """A version on its way through the gate: its files, once they are known to be as registered, and its model."""

    def __init__(self, layout: Layout, version: Version, into: Path) -> None:
        self.layout, self.version, self.into = layout, version, into
        self._damaged: StoreError | None = None

    @cached_property
    def fetched(self) -> Fetched:
        """Raises :class:`StoreError` for files that are not as registered."""
        if self._damaged is not None:
            raise self._damaged  # downloading it again changes nothing
        try:
            return fetch(self.layout.root, self.version.name, self.version.version, self.into)
        except StoreError as problem:
            self._damaged = problem
            raise

    @cached_property
    def model(self) -> GenerativeModel:
        """Raises :class:`StoreError` if it cannot be built or its weights do not fit."""
        return load_model(self.fetched.model).model


def examine(layout: Layout, params: Params, version: Version, champion: Version | None) -> list[Verdict]:
    """Hold a version to the gate of its recipe.

    Args:
        layout: where shards and judges lie, and whose registry it is.
        params: bars and policy.
        version: to be promoted.
        champion: to be compared with; ``None`` if there is none yet.

    Raises:
        RecipeError: params.yaml has no recipe of that name.
        TrackingError: the registry cannot be reached.
    """
    params.recipe(version.name)
    policy = params.promotion.policy(version.name)
    with TemporaryDirectory(prefix="gen-gate-") as scratch:
        subject = _Subject(layout, version, Path(scratch, "candidate"))
        rows = [*_bars(params, version), _checksum(subject), _signature(subject)]
        rows += [_smoke_sample(subject, params, policy), _latency(subject, policy)]
        if champion is None:
            rows.append(
                Verdict("no regression", "", "no champion yet", True, "the first one has nothing to fall behind.")
            )
        elif champion.version == version.version:
            rows.append(Verdict("no regression", "", "it is the champion", True))
        else:
            rows += _no_regression(subject, _Subject(layout, champion, Path(scratch, "champion")), params, policy)
    return rows


def _look(check: str, required: str, look: Callable[[], Look], *, binding: bool = False) -> Verdict:
    """Make a check; one that cannot be made has failed."""
    began = time.monotonic()
    with Console(stderr=True).status(check):  # seen on a terminal only
        try:
            found, passed, why = look()
        except TrackingError:
            raise  # says nothing about the version: try again later
        except GenError as problem:
            found, passed, why = "could not be made", False, str(problem)
        except Exception as problem:  # whatever a model or its files come up with
            found, passed, why = "could not be made", False, f"{type(problem).__name__}: {problem}"
    if (seconds := time.monotonic() - began) > QUICK_S:
        print(f"{check}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return Verdict(check, required, found, passed, why, binding)


def _bars(params: Params, version: Version) -> Iterator[Verdict]:
    """The recorded scores against the bars of now."""
    gate = params.gates.get(version.name, {})
    if not gate:
        why = f"params.yaml holds it to nothing. Declare a bar under gates.{version.name}."
        yield Verdict("bar", "at least one", "none", False, why)
    recorded = {score: version.tags.get(score_name(score), "") for score in gate}
    values = {score: float(text) for score, text in recorded.items() if NUMBER.fullmatch(text)}
    for row in held_to_bars(gate, values):
        score, value = row["score"], row["value"]
        bars = [f"{kind.replace('_', ' ')} {row[kind]:g}" for kind in ("at_least", "at_most") if kind in row]
        why = "" if value is not None else "stage evaluate did not measure it; a score that is not there passes no bar."
        found = "not recorded" if value is None else f"{value:.6g}"
        yield Verdict(f"bar {score}", ", ".join(bars), found, row["passed"], why)


def _checksum(subject: _Subject) -> Verdict:
    def look() -> Look:
        return f"seal {subject.fetched.seal[:SHORT]}", True, ""

    return _look("checksum", "every file as registered", look, binding=True)


def _signature(subject: _Subject) -> Verdict:
    def look() -> Look:
        found, expected = subject.fetched.signature, signature()
        if found is None:
            return "none", False, "without one, requests cannot be checked. Register the model again."
        if found != expected:
            why = "it was registered by another version of gen and serves another schema. Register the model again."
            return "another", False, why
        return "equal", True, ""

    return _look("signature", "what this version of gen serves", look)


def _smoke_sample(subject: _Subject, params: Params, policy: Policy) -> Verdict:
    """Images out of it: drawn, or else made of test images, whose next frames or reconstructions they are."""

    def look() -> Look:
        model = subject.model
        shape: tuple[int, ...] = model.spec.shape
        if isinstance(model, Samples):
            drawn, again = (
                draw(model, model.spec, count, batch_size=count, condition=_labels(model, count)) for _ in range(2)
            )
        elif isinstance(model, Predicts):
            x = held_out(model.spec.space)
            drawn, again = (continued(model, model.spec, x).transpose(1, 2) for _ in range(2))
            shape = (x.shape[2] - model.given(), *shape)
        elif isinstance(model, Encodes):
            x = held_out(model.spec.space)
            drawn, again = (decode_all(model, model.spec, encode_all(model, x)) for _ in range(2))
        else:
            return "nothing to see", False, f"{type(model).__name__} neither draws images nor rebuilds them."
        found = f"{len(drawn)} x {'x'.join(map(str, drawn.shape[1:]))} {str(drawn.dtype).removeprefix('torch.')}"
        if not torch.equal(drawn, again):
            return f"{found}, others the second time", False, "equal seeds must give equal images."
        if (drawn == drawn.flatten()[0]).all():
            return f"{found}, all of one colour", False, "there is nothing to see in them. Training has failed."
        return found, drawn.shape == (count, *shape), ""

    def held_out(space: Space) -> Tensor:
        shards = subject.layout.shards(params.recipe(subject.version.name).dataset)
        return in_space(everything(shards, "test")[0][:count], space, seed=0)

    count = policy.images
    return _look("smoke sample", f"{count} images, equal for equal seeds", look)


def _labels(model: GenerativeModel, count: int) -> Tensor | None:
    """Each class in turn, for a model that takes one."""
    return torch.arange(count) % model.spec.num_classes if model.conditional else None


def _latency(subject: _Subject, policy: Policy) -> Verdict:
    wanted = policy.latency

    def look() -> Look:
        model = subject.model
        if not isinstance(model, Samples):
            return "draws no images", True, ""
        labels = _labels(model, wanted.images)
        speed = sampling_speed(model, model.spec, wanted.images, condition=labels)
        seconds = wanted.images / speed.images_per_second
        machine = f"{platform.node()}, {platform.machine()}, {speed.threads} thread(s), median of {speed.repeats}"
        return f"{seconds:.3g} s", seconds <= wanted.at_most_seconds, f"on {machine}."

    return _look("latency", f"{wanted.images} images in at most {wanted.at_most_seconds:g} s", look)


def _no_regression(subject: _Subject, champion: _Subject, params: Params, policy: Policy) -> Iterator[Verdict]:
    """The version against the champion, on the same test images under the same seeds."""
    name, against = subject.version.name, f"version {champion.version.version}"
    dataset = params.recipe(name).dataset
    data = _same_data(subject, champion, dataset)
    yield data
    if not policy.no_regression:
        why = f"params.yaml compares it on no score. Name one under promotion.{name}.no_regression."
        yield Verdict("no regression", "at least one score", "none", False, why)

    @cache
    def benches() -> tuple[Bench, Bench]:
        judge, test = load_judge(subject.layout.judge(dataset)), everything(subject.layout.shards(dataset), "test")
        evaluation = params.evaluation
        unseen = (test[0][:0], None)  # nothing that is compared looks at training images
        mine, theirs = (
            Bench(
                model,
                judge,
                train=unseen,
                test=test,
                seed=evaluation.seed,
                num_samples=evaluation.samples,
                batch_size=AT_ONCE,
                conditions=_labels(model, evaluation.samples),
            )
            for model in (subject.model, champion.model)
        )
        return mine, theirs

    for score, allowed in policy.no_regression.items():
        better = COMPARISONS[score].better

        def look(score: str = score, margin: float = allowed.margin) -> Look:
            if not data.passed:
                return "could not be made", False, "the data differ."
            found = compare(
                score, *benches(), confidence=policy.confidence, resamples=policy.resamples, seed=policy.seed
            )
            why = f"{found.candidate:.6g} against {found.champion:.6g} of {against}; its interval in brackets."
            return f"gain {found.gain:+.3g} [{found.low:+.3g}, {found.high:+.3g}]", found.low >= -margin, why

        required = f"gain at least {-allowed.margin:g} at {100 * policy.confidence:g} %, {better} is better"
        yield _look(f"no regression: {score}", required, look)


def _same_data(subject: _Subject, champion: _Subject, dataset: str) -> Verdict:
    def look() -> Look:
        here = manifest_digest(subject.layout.shards(dataset))
        mine, theirs = (each.version.tags.get(MANIFEST, "nothing") for each in (subject, champion))
        if here == mine == theirs:
            return here[:SHORT], True, ""
        why = (
            f"the shards here are {here[:SHORT]}, version {subject.version.version} was trained on {mine[:SHORT]}, "
            f"the champion, version {champion.version.version}, on {theirs[:SHORT]}; numbers on other data do not "
            "compare. Bring the shards of both (`dvc checkout`), or train both on the same ones."
        )
        return "other data", False, why

    return _look("data", "one manifest: here, its own, the champion's", look)
