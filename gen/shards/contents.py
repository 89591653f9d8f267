"""What a tar holds, collected sample by sample, by whoever writes it or reads it anew."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gen.data.index import Index
from gen.data.manifest import Field, Statistics
from gen.data.quarantine import Bad
from gen.data.sample import FIELDS, Pixels
from gen.errors import DataError

_WAITING = 1 << 20  # bytes of images that are kept before they are counted: counting few at a time is slow
_LARGEST = float(np.finfo(np.float32).max)  # attributes are read as float32
_LONGEST = 1 << 16  # bytes of a caption: in a batch, all are as long as the longest


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a tar holds.

    Attributes:
        index: of its samples.
        fields: their shapes and extensions.
        statistics: of their images.
        bad: the samples that could not be read, and are not in the index.
    """

    index: Index
    fields: dict[str, Field]
    statistics: Statistics
    bad: list[Bad]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A sample in a tar.

    Attributes:
        key: its name.
        offset: of its record in the tar.
        record: its bytes.
        spans: by field, first byte within the record and bytes of what is decoded.
        extensions: by field, of the member.
        pictures: by field, decoded.
        label: its class.
        attributes: its numbers.
    """

    key: str
    offset: int
    record: bytes
    spans: Mapping[str, tuple[int, int]]
    extensions: Mapping[str, str]
    pictures: Mapping[str, Pixels]
    label: int | None = None
    attributes: tuple[float, ...] = ()


@dataclass(slots=True)
class Collector:
    """Turns entries into :class:`Contents`.

    Attributes:
        classes: number of classes.
        shapes: of the pictures, by field, as far as they are known.
        bad: the samples that could not be read.
        extensions: that were met, by field; empty before the first sample.
    """

    classes: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)
    extensions: dict[str, set[str]] = field(default_factory=dict)
    _keys: list[str] = field(default_factory=list)
    _records: list[tuple[int, int, int]] = field(default_factory=list)
    _spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _labels: list[int] = field(default_factory=list)
    _attributes: list[tuple[float, ...]] = field(default_factory=list)
    _waiting: list[Pixels] = field(default_factory=list)
    _statistics: Statistics | None = None

    def add(self, entry: Entry) -> None:
        """Take in the next sample of the tar, which has the fields of the first and pictures of its shapes."""
        if not self._keys:
            self.shapes = {name: picture.shape for name, picture in entry.pictures.items()}
            self.extensions = {name: set() for name in entry.spans}
            self._spans = {name: [] for name in entry.spans}
        self._keys.append(entry.key)
        self._records.append((entry.offset, len(entry.record), zlib.crc32(entry.record)))
        for name, spans in self._spans.items():
            spans.append(entry.spans[name])
            self.extensions[name].add(entry.extensions[name])
        if entry.label is not None:
            self._labels.append(entry.label)
        if entry.attributes:
            self._attributes.append(entry.attributes)
        self._waiting.append(entry.pictures["image"])
        if len(self._waiting) * self._waiting[0].nbytes >= _WAITING:
            self._count()

    def _count(self) -> None:
        if self._waiting:
            self._statistics = self._statistics or Statistics(self.shapes["image"][-1], self.classes)
            labels = np.array(self._labels[-len(self._waiting) :], np.int64) if self._labels else None
            self._statistics.add(np.stack(self._waiting), labels)
            self._waiting = []

    def contents(self) -> Contents | None:
        """Everything taken in; ``None`` if that is nothing."""
        self._count()
        if self._statistics is None:
            return None
        records = np.array(self._records, np.int64)
        index = Index(
            np.array(self._keys),
            records[:, 0].copy(),
            records[:, 1].copy(),
            records[:, 2].astype(np.uint32),
            {name: np.array(spans, np.int64) for name, spans in self._spans.items()},
            np.array(self._labels, np.int64) if self._labels else None,
            np.array(self._attributes, np.float64) if self._attributes else None,
        )
        shapes = self.shapes
        if "caption" in index.spans:  # at least 1 byte, as a batch of nothing has no place in memory
            shapes = {**shapes, "caption": (max(1, int(index.spans["caption"][:, 1].max())),)}
        fields = {
            name: Field(shapes[name], tuple(sorted(self.extensions[name]))) for name in FIELDS if name in self._spans
        }
        return Contents(index, fields, self._statistics, self.bad)


def check_caption(stored: bytes, what: str) -> None:
    """Raise :class:`DataError` unless the bytes are a text that a reader can give back."""
    if len(stored) > _LONGEST:
        raise DataError(f"{what}: its caption has {len(stored):,} bytes, allowed are {_LONGEST:,}. Shorten it.")
    try:
        text = stored.decode()
    except UnicodeDecodeError as problem:
        raise DataError(f"{what}: its caption is no text in UTF-8 ({problem}). Convert or correct it.") from None
    if "\0" in text:  # a batch fills captions up with zeros
        raise DataError(f"{what}: its caption holds a character of code 0. Remove it.")


def check_attributes(values: Sequence[float], what: str) -> None:
    """Raise :class:`DataError` unless the numbers are finite as float32."""
    wrong = [value for value in values if not abs(value) <= _LARGEST]
    if wrong:
        raise DataError(f"{what}: found the attribute {wrong[0]}, allowed are finite numbers of 32 bits. Correct it.")
