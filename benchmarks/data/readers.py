"""Who reads: each contender gives a pass over one case in batches of images and labels.

Ours draws in random order and checks the crc32 of every sample. WebDataset and LitData check nothing; WebDataset
reads in stored order, which is faster than its shuffle. All hand out uint8 images; that some leave the channels last
saves them a copy that ours makes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import webdataset as wds
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.data.cases import Case, Labelled
from benchmarks.data.clock import Rate, in_turns, read_rate
from gen.data.loader import Loader, arrange
from gen.data.reader import open_split
from gen.vision import patched, torchvision

Passes = Callable[[], Iterable[Any]]
"""Gives a pass over the data, or an endless one; a batch is (images, labels, ...) or a dict with a ``label``."""

COMPILED = patched is None  # whether torchvision's own decoders can be used here


class Contender(NamedTuple):
    """Attributes: its name, its worker processes or threads, and how it is opened."""

    name: str
    workers: int
    open: Callable[[], Passes]


Reading = dict[str, dict[int, Rate]]
"""Rates by contender and number of workers."""


def compare(case: Case, batch: int, workers: Sequence[int], seconds: float, rounds: int) -> Reading:
    """How fast everyone reads a case, with so many workers each."""
    opened = {(each.name, each.workers): each.open() for each in contenders(case, batch) if each.workers in workers}
    rates = in_turns(
        {key: lambda p=passes, w=key[1]: read_rate(p(), seconds, w) for key, passes in opened.items()}, rounds
    )
    found: Reading = {}
    for (name, count), rate in rates.items():
        found.setdefault(name, {})[count] = rate
    return found


def contenders(case: Case, batch: int) -> list[Contender]:
    """Everyone who can read the case."""
    found = [Contender("mapped", workers, lambda w=workers: ours(case, batch, w, resident=0)) for workers in (0, 1, 2)]
    if case.encoding == "npy":
        found.append(Contender("resident", 0, lambda: ours(case, batch, 0, resident=1 << 40)))
        found.append(Contender("webdataset, bytes", 0, lambda: webdataset_bytes(case, batch)))
    peers: dict[str, Callable[[Case, int, int], Passes]] = {"webdataset": webdataset, "folder": folder}
    if case.encoding == "npy":
        peers |= {"arrays": arrays, "tensors": tensors}
    elif COMPILED:
        peers["folder, torchvision.io"] = folder_compiled
    if case.chunks.exists():
        peers["litdata"] = litdata
    for name, peer in peers.items():
        found += [Contender(name, w, lambda peer=peer, w=w: peer(case, batch, w)) for w in (0, 1, 2)]
    return found


# ---- ours ------------------------------------------------------------------------------------------------------------


def ours(case: Case, batch: int, threads: int, *, resident: int) -> Passes:
    reader = open_split(case.shards, "train", resident_bytes=resident)
    order = arrange(reader, "shuffle", seed=0)
    loader = Loader(reader, order, batch=batch, parts=(0,), of=1, prefetch=4 * threads, threads=threads)
    return lambda: loader


# ---- WebDataset ------------------------------------------------------------------------------------------------------


def webdataset(case: Case, batch: int, workers: int) -> Passes:
    image = f"image.{case.encoding}"
    decode = [] if case.encoding == "npy" else ["l8" if case.shape[-1] == 1 else "rgb8"]
    dataset = wds.WebDataset(case.tars, shardshuffle=False).decode(*decode).to_tuple(image, "cls")
    return _passes(DataLoader(dataset.batched(batch), batch_size=None, **_workers(workers)))


def webdataset_bytes(case: Case, batch: int) -> Passes:
    """The walk through the tars alone: nothing is decoded or put together."""

    def walk() -> Iterator[tuple[None, list[Any]]]:
        samples = iter(wds.WebDataset(case.tars, shardshuffle=False))
        while chunk := list(itertools.islice(samples, batch)):
            yield None, chunk

    return walk


# ---- torchvision's data sets and torch's loader ----------------------------------------------------------------------


def folder(case: Case, batch: int, workers: int) -> Passes:
    """``DatasetFolder``: a file for each image, decoded by Pillow."""
    as_tensor = torch.from_numpy if case.encoding == "npy" else torchvision.transforms.PILToTensor()
    load = np.load if case.encoding == "npy" else _open_grey if case.shape[-1] == 1 else _open_colour
    return _files(case, batch, workers, load, as_tensor)


def folder_compiled(case: Case, batch: int, workers: int) -> Passes:
    """The same, decoded by torchvision's own operators."""
    return _files(case, batch, workers, torchvision.io.decode_image, None)


def _files(case: Case, batch: int, workers: int, load: Callable[[str], Any], transform: Any) -> Passes:
    dataset = torchvision.datasets.DatasetFolder(
        str(case.folder), loader=load, extensions=(f".{case.encoding}",), transform=transform
    )
    return _passes(DataLoader(dataset, batch, shuffle=True, **_workers(workers)))


def _open_grey(path: str) -> Image.Image:
    with Path(path).open("rb") as file:
        return Image.open(file).convert("L")


def _open_colour(path: str) -> Image.Image:
    with Path(path).open("rb") as file:
        return Image.open(file).convert("RGB")


class InMemory(Dataset[tuple[Tensor, int]]):
    """As torchvision's MNIST and CIFAR10 are written: an array, of which an image is made, of which a tensor is."""

    def __init__(self, data: Labelled) -> None:
        self.data, self.targets = data.images, data.labels.tolist()
        self.transform = torchvision.transforms.PILToTensor()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.data[index]
        return self.transform(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)), self.targets[
            index
        ]


def arrays(case: Case, batch: int, workers: int) -> Passes:
    return _passes(DataLoader(InMemory(case.data), batch, shuffle=True, **_workers(workers)))


def tensors(case: Case, batch: int, workers: int) -> Passes:
    images = torch.from_numpy(case.data.images).movedim(-1, 1).contiguous()
    dataset = TensorDataset(images, torch.from_numpy(case.data.labels))
    return _passes(DataLoader(dataset, batch, shuffle=True, **_workers(workers)))


# ---- LitData ---------------------------------------------------------------------------------------------------------


def litdata(case: Case, batch: int, workers: int) -> Passes:
    return _passes(litdata_loader(case, batch, workers))


def litdata_loader(case: Case, batch: int, workers: int) -> Any:
    from litdata import StreamingDataLoader, StreamingDataset

    dataset = StreamingDataset(
        str(case.chunks), shuffle=True, transform=None if case.encoding == "npy" else Decoded(case.shape[-1])
    )
    return StreamingDataLoader(dataset, batch_size=batch, **_workers(workers))


class Decoded:
    """Turns the bytes of an image file into a tensor, by torchvision where it can and by Pillow otherwise."""

    def __init__(self, channels: int) -> None:
        self.mode = "L" if channels == 1 else "RGB"

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The same sample with its image decoded."""
        contents = sample["image"]
        if COMPILED:
            image = torchvision.io.decode_image(torch.frombuffer(bytearray(contents), dtype=torch.uint8))
        else:
            image = torch.from_numpy(np.array(Image.open(BytesIO(contents)).convert(self.mode)))
        return {**sample, "image": image}


# ---- both ------------------------------------------------------------------------------------------------------------


def _workers(count: int) -> dict[str, Any]:
    return {"num_workers": count, "persistent_workers": True, "prefetch_factor": 4} if count else {}


def _passes(loader: DataLoader) -> Passes:
    return lambda: loader
