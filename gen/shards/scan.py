"""Reading a tar as any WebDataset reader would, without its index: to check it, to mend it, or to make it ours.

Nothing in a tar is ever unpickled or run: a member is text, numbers in NumPy's own format, JSON, or an image.
"""

from __future__ import annotations

import json
import math
import mmap
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from gen.data.decoding import decode
from gen.data.images import decode_as, decode_npy
from gen.data.manifest import is_raw
from gen.data.quarantine import Bad
from gen.data.sample import Pixels
from gen.errors import DataError
from gen.shards import tar
from gen.shards.contents import Collector, Contents, Entry, check_attributes, check_caption

PICTURES = ("npy", "png", "jpg", "jpeg", "webp", "bmp", "gif", "ppm", "tif", "tiff")
NAMES = {
    "image": (*(f"image.{suffix}" for suffix in PICTURES), *PICTURES, "input.png", "input.jpg"),
    "target": (*(f"target.{suffix}" for suffix in PICTURES), "seg.png", "mask.png"),
    "caption": ("txt", "caption"),
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip"}


def scan(
    path: Path,
    *,
    classes: int = 0,
    attributes: tuple[str, ...] = (),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Contents:
    """Read a tar from beginning to end and decode everything in it.

    Args:
        path: the tar.
        classes: number of classes; with 0 labels are not looked for.
        attributes: names of the numbers to take from every sample's JSON.
        shapes: of the pictures that every sample must have; where it is missing the first sample decides.

    Raises:
        DataError: it is not a whole tar of samples, or holds none that can be read.
    """
    collector = Collector(classes, dict(shapes or {}))
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tarred:
            kind = next((kind for magic, kind in _COMPRESSED.items() if tarred[: len(magic)] == magic), None)
            if kind is not None:
                raise ValueError(f"it is compressed with {kind}; only plain tars can be read at random: decompress it")
            for key, members in tar.samples(file):
                try:
                    collector.add(
                        _entry(f"sample '{key}'", key, members, tarred, known=collector, attributes=attributes)
                    )
                except DataError as problem:
                    collector.bad.append(Bad(key, path.name, str(problem)))
    except (tarfile.TarError, ValueError, OSError) as error:
        raise DataError(f"{path}: is not a whole tar of samples ({error}).") from error
    if (contents := collector.contents()) is None:
        reason = f": {collector.bad[0].reason}" if collector.bad else ""
        raise DataError(f"{path}: holds no sample that can be read{reason}.")
    return contents


def _entry(
    what: str,
    key: str,
    members: Mapping[str, tar.Member],
    tarred: mmap.mmap,
    *,
    known: Collector,
    attributes: tuple[str, ...],
) -> Entry:
    """Read one sample; ``known`` is what was learned from those before it."""
    chosen = _choose(members, what)
    _check_fields(chosen, known, what)

    def read(member: tar.Member) -> bytes:
        return tarred[member.start : member.start + member.size]

    if "caption" in chosen:
        check_caption(read(chosen["caption"]), what)
    pictures = {
        name: _picture(read(member), member.extension, known.shapes.get(name), what)
        for name, member in chosen.items()
        if name != "caption"
    }
    label, numbers = (read(members[extension]) if extension in members else None for extension in ("cls", "json"))
    start = min(member.offset for member in members.values())
    spans = {}
    for name, member in chosen.items():
        # The values of an .npy file are at its end; anything else is decoded as a whole.
        size = pictures[name].nbytes if name != "caption" and is_raw(member.extension) else member.size
        spans[name] = (member.start + member.size - size - start, size)
    return Entry(
        key=key,
        offset=start,
        record=tarred[start : max(member.stop for member in members.values())],
        spans=spans,
        extensions={name: member.extension for name, member in chosen.items()},
        pictures=pictures,
        label=_label(label, known.classes, what) if known.classes else None,
        attributes=_numbers(numbers, attributes, what) if attributes else (),
    )


def _choose(members: Mapping[str, tar.Member], what: str) -> dict[str, tar.Member]:
    """Which member holds which field."""
    chosen = {}
    for name, allowed in NAMES.items():
        found = [extension for extension in members if extension in allowed]
        if len(found) > 1:
            raise DataError(f"{what}: has more than one {name}: {_list(found)}.")
        if found:
            chosen[name] = members[found[0]]
    if "image" not in chosen:
        raise DataError(f"{what}: has no image, only {_list(members)}; allowed are {_list(NAMES['image'])}.")
    return chosen


def _check_fields(chosen: Mapping[str, tar.Member], known: Collector, what: str) -> None:
    """Hold a sample to the fields of the others, and to how they are stored."""
    expected = known.extensions.keys() or known.shapes.keys() | (chosen.keys() - {"image", "target"})
    if known.shapes and chosen.keys() != expected:
        raise DataError(f"{what}: has {_list(chosen)}, the others have {_list(expected)}.")
    for name, extensions in known.extensions.items():
        found = chosen[name].extension
        if is_raw(found) != all(map(is_raw, extensions)):
            raise DataError(f"{what}: its {name} is stored as {found}, those of the others as {_list(extensions)}.")


def _picture(stored: bytes, extension: str, shape: tuple[int, ...] | None, what: str) -> Pixels:
    """Decode what a member holds, which is an array if and only if it is named so: readers go by its name."""
    where = f"{what}: {extension}"
    if is_raw(extension):
        pixels = decode_npy(stored, where)
        if shape is not None and pixels.shape != shape:
            raise DataError(f"{where}: found an array of shape {pixels.shape}, expected {shape}.")
        return pixels
    if stored.startswith(np.lib.format.MAGIC_PREFIX):
        raise DataError(f"{where}: holds an array of NumPy; its name must end in npy.")
    pixels = decode(stored, what=where)
    if shape is None:
        return pixels
    if shape[-1] == 1 and (pixels != pixels[..., :1]).any():  # grey WebP has three equal channels
        raise DataError(f"{where}: has colours, the others are grey: their colours would be lost without a word.")
    if pixels.shape == (math.prod(shape[:-2]), *shape[-2:]):
        return pixels.reshape(shape)
    return decode_as(stored, shape, where)  # grey among colours, or something to complain about


def _label(text: bytes | None, classes: int, what: str) -> int:
    try:
        label = int(text or b"")
    except ValueError:
        found = "no label (a member '.cls')" if text is None else f"the label {text[:40]!r}"
        raise DataError(f"{what}: has {found}; allowed is a whole number from 0 to {classes - 1}.") from None
    if not 0 <= label < classes:
        raise DataError(f"{what}: has the label {label}; allowed is 0 to {classes - 1}.")
    return label


def _numbers(text: bytes | None, attributes: tuple[str, ...], what: str) -> tuple[float, ...]:
    try:
        found = json.loads(text or b"{}")
        numbers = tuple(float(found[name]) for name in attributes)
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as problem:
        raise DataError(f"{what}: a member '.json' must give the numbers {_list(attributes)} ({problem!r}).") from None
    check_attributes(numbers, what)
    return numbers


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
