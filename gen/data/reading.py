"""How training reads its data: what is kept in memory, what on the disk, and how far ahead of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gen.data.draws import Order
from gen.data.loader import Loader
from gen.data.manifest import Manifest
from gen.data.reader import Reader, Resident, open_split
from gen.data.spaces import DataSpec, Space
from gen.errors import DataError, RecipeError
from gen.remote.cache import LIMIT, Cache, Shard


def spec_of(manifest: Manifest, space: Space, *, videos: bool = False) -> DataSpec:
    """What a data set dictates to a model of images, or of videos.

    Raises:
        DataError: the data are of the other kind.
    """
    match manifest.shape:
        case (channels, height, width) if not videos:
            return DataSpec((channels, height, width), len(manifest.classes), space)
        case (channels, frames, height, width) if videos:
            return DataSpec((channels, height, width), len(manifest.classes), space, frames)
    found, wanted, shape = ("images", "videos", "(C, T, H, W)") if videos else ("videos", "images", "(C, H, W)")
    raise DataError(
        f"{manifest.source.name}: holds {found} of shape {manifest.shape}, where {wanted} {shape} are needed. Choose a "
        f"data set of {wanted}, or a model of {found}: `gen models` lists them."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Changes speed and memory, never what is drawn.

    Attributes:
        resident_bytes: a split is held decoded in the device's memory if it needs no more than this.
        cache: directory for shards of a server; by default one below the user's cache directory.
        cache_bytes: that the shards in it never exceed.
        prefetch: global batches to read ahead, where the split is not in memory.
        threads: that read ahead. A second one pays for large compressed images only: small ones are read so quickly
            that threads mostly wait for each other.
    """

    resident_bytes: int = 2 << 30
    cache: str | None = None
    cache_bytes: int = LIMIT
    prefetch: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in (("resident_bytes", 0), ("cache_bytes", 1), ("prefetch", 0), ("threads", 1)):
            if getattr(self, name) < least:
                raise RecipeError(f"reading.{name}: found {getattr(self, name)}, allowed {least} or more.")

    def open(self, data: Path, split: str, *, device: torch.device) -> Reader:
        """Open a split; raises what :func:`gen.data.reader.open_split` does."""
        return open_split(data, split, device=device, resident_bytes=self.resident_bytes, cache=self._cache)

    def _cache(self, shards: Sequence[Shard]) -> Cache:
        return Cache(shards, None if self.cache is None else Path(self.cache).expanduser(), limit=self.cache_bytes)

    def load(self, reader: Reader, order: Order, *, batch: int, parts: Sequence[int], of: int) -> Loader:
        """Batches of a split; the arguments are those of :class:`gen.data.loader.Loader`."""
        prefetch = 0 if isinstance(reader, Resident) else self.prefetch
        return Loader(reader, order, batch=batch, parts=parts, of=of, prefetch=prefetch, threads=self.threads)
