"""Reading shards: any samples in any order, every one of them checked.

    reader = open_split(Path("data/shards/digits"), "train", device="cuda")
    images, labels, *_ = reader.batch(np.array([3, 1, 4]))

A split that fits a stated budget is decoded once into tensors on the device; a larger one is read from its tars
through their indices, from memory maps or, where the tars lie on a server, from a bounded cache. All give the same
tensors and never a damaged or partial sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen.data.damage import inspect
from gen.data.images import decode_as
from gen.data.index import REMEDY, Index, concatenate
from gen.data.manifest import Manifest, channels_first, read_manifest
from gen.data.quarantine import Bad, Policy
from gen.data.sample import Drawn
from gen.data.tars import MappedTars, StreamedTars, Tars
from gen.errors import DataError, nearest
from gen.files import digest
from gen.remote.cache import Cache, Shard
from gen.remote.files import is_remote

_CHUNK = 16 << 20  # bytes that are decoded at a time while a split is made resident or searched for damage


class Reader(Protocol):
    """Random access to the samples of a split.

    Attributes:
        manifest: of the data set.
        digest: the identity of the data: the manifest's digest, and what is left out.
        labels: int64 (N,); ``None`` if the data have none.
        attributes: float64 (N, A); ``None`` if the data have none.
        shard_sizes: samples in every shard, in the order of the samples.
        quarantined: the samples that are left out.
    """

    manifest: Manifest
    digest: str
    labels: NDArray[np.int64] | None
    attributes: NDArray[np.float64] | None
    shard_sizes: tuple[int, ...]
    quarantined: tuple[Bad, ...]

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> Drawn:
        """The samples at ``rows`` (B,), at least one, in that order and as often as they are named.

        Returns:
            The samples, on the reader's device.

        Raises:
            DataError: a sample is not what was written.
            IndexError: a row is outside [0, len).
        """
        ...

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Be told which samples will be asked for soon."""
        ...


def open_split(
    root: Path,
    split: str,
    *,
    device: str | torch.device = "cpu",
    resident_bytes: int = 2 << 30,
    check: bool = True,
    cache: Callable[[Sequence[Shard]], Cache] = Cache,
) -> Reader:
    """Open a split of the shards below ``root``.

    Args:
        root: the directory that holds the manifest.
        split: e.g. ``train``.
        device: where the batches shall be.
        resident_bytes: the split is held in the device's memory if its samples need no more than this.
        check: compare the crc32 of every sample that is read.
        cache: makes the cache for shards that lie on a server.

    Raises:
        DataError: there is no such split, or its files are not those of the manifest.
    """
    manifest = read_manifest(root)
    if split not in manifest.splits:
        raise DataError(
            f"{root}: there is no split '{split}'. Allowed: {', '.join(manifest.splits)}."
            f"{nearest(split, manifest.splits)} A split is taken out of 'train' by `splits: {{ {split}: 0.1 }}` of the "
            "data set in params.yaml."
        )
    indices, damages = inspect(root, manifest, split)
    if damages:
        raise DataError(f"{damages[0]} ({len(damages)} damages in all; `gen data verify` lists them.)")
    tars = _tars(root, manifest, split, cache)
    indexed = Indexed(manifest, split, indices, tars, device=torch.device(device), check=check)
    policy = Policy.parse(manifest.damaged)
    if policy.fraction and isinstance(tars, MappedTars):  # what a server sends is checked as a whole when it arrives
        indexed.leave_out(indexed.search(), policy)
    fits = len(indexed) * manifest.sample_bytes <= resident_bytes
    return Resident(indexed) if fits else indexed


def _tars(root: Path, manifest: Manifest, split: str, cache: Callable[[Sequence[Shard]], Cache]) -> Tars:
    """Where the tars of a split lie."""
    shards = manifest.splits[split].shards
    if not any(is_remote(shard.place) for shard in shards):
        return MappedTars([Path(shard.place) if shard.place else root / split / shard.tar.name for shard in shards])
    known = [Shard(shard.tar.name, shard.place, shard.tar.bytes, shard.tar.sha256) for shard in shards]
    return StreamedTars(cache(known))


class Indexed:
    """A :class:`Reader` of tars through their indices. Batches may be read from several threads at once."""

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        indices: dict[str, Index],
        tars: Tars,
        *,
        device: torch.device,
        check: bool,
    ) -> None:
        self.manifest, self.digest = manifest, manifest.digest
        self._tars, self._device, self._check = tars, device, check
        shards = manifest.splits[split].shards
        self._names = [f"{split}/{shard.tar.name}" for shard in shards]
        self._use(
            concatenate([indices[shard.tar.name] for shard in shards]),
            np.repeat(np.arange(len(shards)), [shard.samples for shard in shards]),
        )
        self.quarantined: tuple[Bad, ...] = ()

    def _use(self, index: Index, shard: NDArray[np.int64]) -> None:
        self._index, self._shard = index, shard
        self._stop = index.offset + index.size
        self.labels, self.attributes = index.label, index.attributes
        self.shard_sizes = tuple(np.bincount(shard, minlength=len(self._names)).tolist())

    def __len__(self) -> int:
        return len(self._shard)

    def batch(self, rows: NDArray[np.int64]) -> Drawn:
        """See :meth:`Reader.batch`."""
        _check_range(rows, len(self))
        index, sizes = self._index, self._index.size[rows]
        starts, stops = index.offset[rows].tolist(), self._stop[rows].tolist()
        # One copy, then everything below works on memory that nobody else can change: what is checked is what is used.
        records = memoryview(self._tars.read(list(zip(self._shard[rows].tolist(), starts, stops, strict=True))))
        ends = np.cumsum(sizes)
        begins = ends - sizes
        if self._check:
            spans = zip(begins.tolist(), ends.tolist(), strict=True)
            found = [crc32(records[begin:end]) for begin, end in spans]
            if found != index.crc32[rows].tolist():
                raise self._damage(rows, np.array(found, np.uint32))
        fields = {name: self._field(name, records, begins, rows) for name in self.manifest.fields}
        return Drawn(
            fields["image"],
            None if index.label is None else torch.from_numpy(index.label[rows]),
            fields.get("target"),
            fields.get("caption"),
            None if index.attributes is None else torch.from_numpy(index.attributes[rows]).to(torch.float32),
        ).map(lambda field: field.to(self._device))

    def _field(self, name: str, records: memoryview, begins: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
        """A field of the samples whose records begin at ``begins``, as a batch has it."""
        field, spans = self.manifest.fields[name], self._index.spans[name][rows]
        firsts = begins + spans[:, 0]
        if field.raw and name != "caption":
            pixels = _rows(records, firsts, field.bytes)
            return pixels.view(len(rows), *field.shape).movedim(-1, 1).contiguous()
        lasts = firsts + spans[:, 1]
        stored = [records[first:last] for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]
        if name == "caption":
            length = field.shape[0]
            return torch.frombuffer(
                bytearray().join([bytes(text).ljust(length, b"\0") for text in stored]), dtype=torch.uint8
            ).view(len(rows), length)
        pixels = torch.empty(len(rows), *channels_first(field.shape), dtype=torch.uint8)
        channels_last = pixels.movedim(1, -1).numpy()
        for place, (contents, what) in enumerate(zip(stored, self._describe(rows), strict=True)):
            channels_last[place] = decode_as(bytes(contents), field.shape, what)
        return pixels

    def expect(self, rows: NDArray[np.int64]) -> None:
        """See :meth:`Reader.expect`."""
        self._tars.expect(list(dict.fromkeys(self._shard[rows].tolist())))

    def in_turn(self) -> Iterator[NDArray[np.int64]]:
        """All rows in order, as many at a time as decode to a moderate number of bytes."""
        step = max(1, _CHUNK // self.manifest.sample_bytes)
        return (np.arange(start, min(start + step, len(self))) for start in range(0, len(self), step))

    def search(self) -> list[Bad]:
        """Read every sample; those that cannot be read."""
        bad = []
        for rows in self.in_turn():
            try:
                self.batch(rows)
            except DataError:
                for row in rows:
                    try:
                        self.batch(np.array([row]))
                    except DataError as problem:
                        bad.append(Bad(str(self._index.key[row]), self._names[self._shard[row]], str(problem)))
        return bad

    def leave_out(self, bad: list[Bad], policy: Policy) -> None:
        """Read on without some samples. Raises :class:`DataError` if they are more than the policy allows."""
        policy.check(str(self._names[0].partition("/")[0]), bad, len(self))
        if bad:
            gone = {(each.origin, each.key) for each in bad}
            names = zip([self._names[shard] for shard in self._shard.tolist()], self._index.key.tolist(), strict=True)
            kept = np.array([name not in gone for name in names])
            self._use(self._index.select(kept), self._shard[kept])
            self.quarantined = tuple(bad)
            self.digest = digest({"manifest": self.digest, "without": sorted(gone)})

    def _describe(self, rows: NDArray[np.int64]) -> list[str]:
        """What messages call the samples."""
        places = zip(self._shard[rows].tolist(), self._index.key[rows].tolist(), strict=True)
        return [f"{self._names[shard]}: sample '{key}'" for shard, key in places]

    def _damage(self, rows: NDArray[np.int64], found: NDArray[np.uint32]) -> DataError:
        bad = np.flatnonzero(found != self._index.crc32[rows])
        what, expected = self._describe(rows[bad])[0], self._index.crc32[rows[bad]][0]
        return DataError(
            f"{what} is damaged (crc32 {found[bad[0]]:08x}, expected {expected:08x}); "
            f"{len(bad)} of the {len(rows)} samples of this batch are. {REMEDY}"
        )


class Resident:
    """A :class:`Reader` of a split that was read once, and checked, into tensors on the device."""

    def __init__(self, indexed: Indexed) -> None:
        self.manifest, self.digest, self.quarantined = indexed.manifest, indexed.digest, indexed.quarantined
        self.labels, self.attributes, self.shard_sizes = indexed.labels, indexed.attributes, indexed.shard_sizes
        count = len(indexed)
        first = indexed.batch(np.zeros(1, np.int64))
        self._whole = first.map(lambda field: field.new_empty((count, *field.shape[1:])))
        for rows in indexed.in_turn():
            for whole, part in zip(self._whole, indexed.batch(rows), strict=True):
                if whole is not None and part is not None:
                    whole[rows[0] : rows[-1] + 1] = part

    def __len__(self) -> int:
        return len(self._whole.images)

    def batch(self, rows: NDArray[np.int64]) -> Drawn:
        """See :meth:`Reader.batch`."""
        _check_range(rows, len(self))
        chosen = torch.from_numpy(rows).to(self._whole.images.device)
        return self._whole.map(lambda field: field.index_select(0, chosen))

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Nothing to do: everything is here."""


def _rows(records: memoryview, firsts: NDArray[np.int64], size: int) -> Tensor:
    """The ``size`` bytes from each of ``firsts`` (B,) on, uint8 (B, size); a view where that can be."""
    steps = np.diff(firsts)
    if (steps == steps[:1]).all():  # records of one length, the usual case: saves a tenth of the time of a batch
        step = int(steps[0]) if len(steps) else size
        return torch.frombuffer(records, dtype=torch.uint8).as_strided((len(firsts), size), (step, 1), int(firsts[0]))
    stored = [records[first : first + size] for first in firsts.tolist()]
    return torch.frombuffer(bytearray().join(stored), dtype=torch.uint8).view(len(firsts), size)


def _check_range(rows: NDArray[np.int64], count: int) -> None:
    # Checked here because a negative row would wrap around and, on a GPU, one too large would kill the context.
    if len(rows) and rows.view(np.uint64).max() >= count:  # seen as unsigned, a negative row is a huge one
        raise IndexError(f"rows from {rows.min()} to {rows.max()} of a split of {count} samples")


def everything(root: Path, split: str, *, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor | None]:
    """The images of a whole split in stored order, uint8 (N, C, H, W), and labels, int64 (N,), if there are any."""
    reader = open_split(root, split, device=device)
    drawn = reader.batch(np.arange(len(reader)))
    return drawn.images, drawn.labels
