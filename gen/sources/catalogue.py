"""Where data come from: one function for each kind of source.

    collection = open_source("digits")
    collection = open_source("named", Path("faces"), pattern="{age}_{gender}_{race}_*", label="gender")

The keyword-only arguments of such a function are its options, and the schema of ``options`` in params.yaml. What it
returns is lazy: nothing but names and labels is read before the samples are asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gen.data.sample import Collection
from gen.errors import DataError, RecipeError, nearest
from gen.sources.arrays import arrays
from gen.sources.binarized_mnist import binarized_mnist
from gen.sources.captioned import captioned
from gen.sources.captioned_digits import captioned_digits
from gen.sources.clips import clips
from gen.sources.dead_leaves import dead_leaves
from gen.sources.digits import digits
from gen.sources.folder import folder
from gen.sources.mixture import mixture
from gen.sources.moving_digits import moving_digits
from gen.sources.named import named
from gen.sources.pairs import pairs
from gen.sources.photos import photos
from gen.sources.placed_digits import placed_digits
from gen.sources.stacked_digits import stacked_digits
from gen.sources.tars import TarSet, tars
from gen.sources.torchvision import torchvision

SOURCES: Mapping[str, Callable[..., Collection | TarSet]] = {
    function.__name__: function
    for function in (
        digits,
        torchvision,
        arrays,
        binarized_mnist,
        folder,
        captioned,
        named,
        pairs,
        photos,
        clips,
        tars,
        moving_digits,
        stacked_digits,
        captioned_digits,
        placed_digits,
        mixture,
        dead_leaves,
    )
}


def source(name: str) -> Callable[..., Collection | TarSet]:
    """The function of a source. Raises :class:`RecipeError` with the nearest one if there is none."""
    if name not in SOURCES:
        raise RecipeError(
            f"source: there is no source '{name}'. Allowed: {', '.join(SOURCES)}.{nearest(name, SOURCES)}"
        )
    return SOURCES[name]


def options(name: str) -> Mapping[str, inspect.Parameter]:
    """The options of a source, by name."""
    found = inspect.signature(source(name)).parameters.values()
    return {each.name: each for each in found if each.kind is each.KEYWORD_ONLY}


@dataclass(frozen=True, slots=True)
class Wants:
    """What a source must be told of where its files are.

    Attributes:
        kind: ``path`` is that of local files, a ``place`` may be a URL, nothing is for sources that read no files.
        required: whether it cannot do without.
    """

    kind: Literal["path", "place", ""] = ""
    required: bool = False


def wants(name: str) -> Wants:
    """What a source must be told."""
    parameters = inspect.signature(source(name)).parameters
    for kind in ("path", "place"):
        if kind in parameters:
            return Wants(kind, required=parameters[kind].default is inspect.Parameter.empty)
    return Wants()


def open_source(name: str, place: Path | str | None = None, /, **chosen: Any) -> Collection | TarSet:
    """Open a source.

    Args:
        name: of the source.
        place: where its files are, if it reads any.
        chosen: its options.

    Raises:
        RecipeError: there is no such source or option.
        DataError: the files are not what the source reads.
    """
    for option in chosen:
        if option not in options(name):
            raise RecipeError(
                f"options.{option}: the source {name} has no such option. "
                f"Allowed: {', '.join(options(name)) or 'none'}.{nearest(option, options(name))}"
            )
    if place is not None:
        return source(name)(place, **chosen)
    if wants(name).required:
        raise DataError(f"path: the source {name} reads files; say where they are.")
    return source(name)(**chosen)
