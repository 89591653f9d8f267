"""Raw data: what `pull` leaves on the disk and `shard` reads, whatever the source.

    ROOT/train.npz, validation.npz, test.npz    images uint8 (N, H, W, C), labels int64 (N,) where there are any
    ROOT/source.json                            where they come from, the licence, counts and checksums

The files are ordinary NumPy archives, and writing the same data twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.data.writing import replacing
from gen.errors import DataError

_SOURCE = "source.json"


@dataclass(frozen=True, slots=True)
class Source:
    """Where data come from.

    Attributes:
        name: as in ``pull(name, ...)``.
        origin: who published them and how they were cut into splits.
        licence: the terms, as far as they are stated anywhere.
        citation: what to cite.
    """

    name: str
    origin: str
    licence: str
    citation: str


@dataclass(frozen=True, slots=True)
class Split:
    """Images of one split.

    Attributes:
        images: uint8, (N, H, W, C).
        labels: int64, (N,), indices into :attr:`Raw.classes`; ``None`` where the data have none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or not self.images.size:
            raise DataError(
                f"images: found {self.images.dtype} of shape {self.images.shape}, "
                "allowed uint8 of shape (N, H, W, C) with at least one image."
            )
        if self.labels is not None and (self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]):
            raise DataError(
                f"labels: found {self.labels.dtype} of shape {self.labels.shape}, "
                f"allowed int64 of shape ({len(self.images)},), one label for each image."
            )


@dataclass(frozen=True, slots=True)
class Raw:
    """A data set in memory.

    Attributes:
        source: where it comes from.
        classes: names of the classes, in the order of the labels; empty where the data have none.
        splits: by name. Every image of every split has the same shape.
    """

    source: Source
    classes: tuple[str, ...]
    splits: Mapping[str, Split]

    def __post_init__(self) -> None:
        shapes = {name: split.images.shape[1:] for name, split in self.splits.items()}
        if len(set(shapes.values())) != 1:
            raise DataError(f"splits: found images of shapes {shapes}, allowed one shape (H, W, C) for all of them.")
        for name, split in self.splits.items():
            if (split.labels is not None) != bool(self.classes):
                raise DataError(f"splits.{name}: labels and the names of the classes come together, or not at all.")
            if split.labels is not None and not 0 <= split.labels.min() <= split.labels.max() < len(self.classes):
                raise DataError(
                    f"splits.{name}: found labels from {split.labels.min()} to {split.labels.max()}, "
                    f"allowed 0 to {len(self.classes) - 1}, one for each class."
                )

    def save(self, destination: Path) -> None:
        """Write the data below ``destination``, all or nothing. Raises :class:`DataError` where it cannot."""
        needed = sum(split.images.nbytes + 8 * len(split.images) + 4096 for split in self.splits.values())
        with replacing(destination, marker=_SOURCE, needed=needed) as folder:
            for name, split in self.splits.items():
                # np.savez dates every member 1980-01-01, so equal data give equal bytes.
                np.savez(folder / f"{name}.npz", **_arrays(split))
            (folder / _SOURCE).write_text(json.dumps(self._describe(), indent=1, ensure_ascii=False) + "\n", "utf-8")

    def _describe(self) -> dict[str, Any]:
        return {
            **asdict(self.source),
            "classes": list(self.classes),
            "splits": {
                name: {
                    "count": len(split.images),
                    "shape": list(split.images.shape[1:]),
                    "sha256": {key: sha256(array) for key, array in _arrays(split).items()},
                }
                for name, split in self.splits.items()
            },
        }

    @classmethod
    def load(cls, root: Path) -> Raw:
        """Read what :meth:`save` wrote, and check it. Raises :class:`DataError` if it is missing or damaged."""
        remedy = "Pull it again: `dvc repro --force pull@NAME`, or restore it with `dvc checkout`."
        try:
            described = json.loads((root / _SOURCE).read_text("utf-8"))
            splits = {name: _read(root / f"{name}.npz") for name in described["splits"]}
            source = Source(*(described[key] for key in ("name", "origin", "licence", "citation")))
            raw = cls(source, tuple(described["classes"]), splits)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename}: is not there. {remedy}") from error
        except Exception as error:  # NumPy and zipfile raise a dozen types on damaged files
            raise DataError(f"{root}: is not readable as raw data ({error}). {remedy}") from error
        if raw._describe() != described:
            raise DataError(f"{root}: the images or labels are not those that {_SOURCE} describes. {remedy}")
        return raw


def sha256(array: NDArray[Any]) -> str:
    """Checksum of an array's values, whatever its memory layout."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _arrays(split: Split) -> dict[str, Any]:
    return {"images": split.images} | ({} if split.labels is None else {"labels": split.labels})


def _read(path: Path) -> Split:
    with np.load(path, allow_pickle=False) as arrays:
        return Split(arrays["images"], arrays.get("labels"))
