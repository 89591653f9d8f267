"""The index of a shard: where every sample of the tar begins and ends, its crc32, its label and its attributes.

    ROOT/train/shard-000000.idx.npz

It makes a tar verified, random access and exactly resumable. The crc32 covers the whole record of a sample (headers,
labels, pixels and padding), so damage that a reader of tars would trip over is seen by ours too.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import FIELDS
from gen.errors import DataError

REMEDY = "Mend it with `gen data repair NAME`, restore it with `dvc checkout`, or write the shards again."


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Where the samples of a shard lie. All arrays have one row for each sample, in the order of the tar.

    Attributes:
        key: names of the samples, as WebDataset groups them.
        offset: int64, first byte of the record in the tar.
        size: int64, bytes of the record.
        crc32: uint32, of the record.
        spans: by field, int64 (N, 2): first byte within the record, and bytes, of what is decoded: the pixels of an
            ``.npy`` (without its header), the whole file for anything else.
        label: int64, the class; ``None`` where the data have none.
        attributes: float64 (N, A); ``None`` where the data have none.
    """

    key: NDArray[np.str_]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    crc32: NDArray[np.uint32]
    spans: Mapping[str, NDArray[np.int64]]
    label: NDArray[np.int64] | None = None
    attributes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.key)

    def dump(self) -> bytes:
        """The contents of the index file; equal indices give equal bytes."""
        arrays: dict[str, Any] = {"key": self.key, "offset": self.offset, "size": self.size, "crc32": self.crc32}
        arrays |= {f"span.{field}": self.spans[field] for field in FIELDS if field in self.spans}
        arrays |= {} if self.label is None else {"label": self.label}
        arrays |= {} if self.attributes is None else {"attributes": self.attributes}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # dates every member 1980-01-01
        return buffer.getvalue()

    @classmethod
    def parse(cls, contents: bytes) -> Index:
        """Inverse of :meth:`dump`. NumPy and zipfile raise a dozen types on damaged files."""
        with np.load(io.BytesIO(contents), allow_pickle=False) as found:
            arrays = dict(found)
        spans = {field: arrays.pop(f"span.{field}") for field in FIELDS if f"span.{field}" in arrays}
        return cls(**arrays, spans=spans)

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Index:
        """Some of the rows."""
        return Index(
            self.key[rows],
            self.offset[rows],
            self.size[rows],
            self.crc32[rows],
            {field: span[rows] for field, span in self.spans.items()},
            None if self.label is None else self.label[rows],
            None if self.attributes is None else self.attributes[rows],
        )

    def fits(self, samples: int, tar_bytes: int, num_classes: int, num_attributes: int) -> bool:
        """Whether it can be the index of a tar of that size with so many samples, and every access stays inside."""
        count = (samples,)
        whole = [self.offset, self.size, *self.spans.values()]
        return bool(
            "image" in self.spans
            and self.key.dtype.kind == "U"
            and self.crc32.dtype == np.uint32
            and all(array.dtype == np.int64 and (array >= 0).all() for array in whole)
            and all(array.shape == count for array in (self.key, self.offset, self.size, self.crc32))
            and (self.size <= tar_bytes).all()
            and (self.offset <= tar_bytes - self.size).all()
            and all(span.shape == (samples, 2) for span in self.spans.values())
            and all((span[:, 0] <= self.size - span[:, 1]).all() for span in self.spans.values())
            and (self.label is not None) == (num_classes > 0)
            and (
                self.label is None
                or (
                    self.label.dtype == np.int64
                    and self.label.shape == count
                    and ((self.label >= 0) & (self.label < num_classes)).all()
                )
            )
            and (self.attributes is not None) == (num_attributes > 0)
            and (
                self.attributes is None
                or (self.attributes.dtype == np.float64 and self.attributes.shape == (samples, num_attributes))
            )
        )


def concatenate(indices: Sequence[Index]) -> Index:
    """One index for all shards of a split; offsets stay relative to their own tar."""
    labels = [index.label for index in indices if index.label is not None]
    attributes = [index.attributes for index in indices if index.attributes is not None]
    return Index(
        np.concatenate([index.key for index in indices]),
        np.concatenate([index.offset for index in indices]),
        np.concatenate([index.size for index in indices]),
        np.concatenate([index.crc32 for index in indices]),
        {field: np.concatenate([index.spans[field] for index in indices]) for field in indices[0].spans},
        np.concatenate(labels) if labels else None,
        np.concatenate(attributes) if attributes else None,
    )


def read_index(path: Path) -> tuple[Index, str]:
    """Read an index file, whoever wrote it, and its sha256. Raises :class:`DataError` if it is not an index."""
    try:
        contents = path.read_bytes()
        return Index.parse(contents), hashlib.sha256(contents).hexdigest()
    except FileNotFoundError as error:
        raise DataError(f"{path}: is not there. {REMEDY}") from error
    except Exception as error:
        raise DataError(f"{path}: is not readable as an index ({error}). {REMEDY}") from error
