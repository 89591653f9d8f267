"""Existing WebDataset tars, which are used as they are: indexed and verified, not written again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gen.data.sample import Source
from gen.errors import DataError
from gen.remote.files import is_remote, listing, name_of


@dataclass(frozen=True, slots=True)
class TarSet:
    """Somebody's tars.

    Attributes:
        source: where they come from.
        places: by split, their paths or URLs, in order.
        classes: names of the classes; empty where labels are to be left alone.
        attributes: names of the numbers to take from every sample's JSON.
    """

    source: Source
    places: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of a local disk."""
        return tuple(Path(place) for each in self.places.values() for place in each if not is_remote(place))

    @property
    def counts(self) -> dict[str, int]:
        """Tars of every split."""
        return {split: len(each) for split, each in self.places.items()}


def tars(
    place: str,
    *,
    splits: dict[str, str],
    classes: list[str] | None = None,
    attributes: list[str] | None = None,
) -> TarSet:
    """WebDataset tars of a folder or below a URL.

    Args:
        place: the folder, or an ``https://`` or ``s3://`` URL.
        splits: by name, the tars of a split: ``train-{000000..000009}.tar``, or ``train-*.tar`` where the place can be
            listed (a folder, S3).
        classes: names of the classes, in the order of the numbers in ``.cls``; without them labels are left alone.
        attributes: names of the numbers to take from every sample's ``.json``.

    Raises:
        DataError: a pattern matches nothing, or what it matches is not an uncompressed tar.
    """
    places = {}
    for split, pattern in splits.items():
        found = tuple(listing(f"{place.rstrip('/')}/{pattern}"))
        if not found:
            raise DataError(f"{place}: nothing matches '{pattern}' of the split '{split}'. Correct `options.splits`.")
        for each in found:
            if not name_of(each).endswith(".tar"):
                raise DataError(
                    f"{each}: is not named .tar. Only uncompressed tars can be read at random: decompress it first."
                )
        places[split] = found
    if not places:
        raise DataError("options.splits: names no split; give `splits: { train: 'train-{000000..000009}.tar' }`.")
    return TarSet(Source("tars", f"WebDataset tars at {place}"), places, tuple(classes or ()), tuple(attributes or ()))
