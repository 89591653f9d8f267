"""The bytes of a sample in a tar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from gen.data.images import Encoding, encode
from gen.data.sample import FIELDS, Pixels, Sample
from gen.errors import DataError, RecipeError
from gen.shards import tar

_SUFFIXES = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"RIFF": "webp",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II": "tiff",
    b"MM": "tiff",
    b"P": "ppm",
}


Encode = Encoding | Literal["keep"]


class Member(NamedTuple):
    """A file of a sample: its extension, its bytes, and how many of them, from the end, are what is decoded."""

    extension: str
    contents: bytes
    decoded: int


def members(
    sample: Sample,
    pictures: Mapping[str, Pixels],
    encoding: Encode,
    attributes: Sequence[str],
    label: int | None = None,
) -> dict[str, Member]:
    """The files of a sample, in the order in which they are stored."""
    if len(sample.attributes) != len(attributes):
        raise DataError(
            f"{sample.origin}: found {len(sample.attributes)} attributes, expected {len(attributes)}: "
            f"{', '.join(attributes)}. Correct the source."
        )
    files = {}
    if label is not None:
        files["label"] = _whole("cls", b"%d" % label)
    if sample.caption is not None:
        files["caption"] = _whole("txt", sample.caption.encode())
    if attributes:
        numbers = dict(zip(attributes, sample.attributes, strict=True))
        files["attributes"] = _whole("json", json.dumps(numbers).encode())
    for name, picture in pictures.items():
        given = sample.target if name == "target" else sample.image
        if encoding == "keep":
            if not isinstance(given, bytes):
                raise RecipeError(
                    f"{sample.origin}: encode: keep stores a source's own files, but this source gives pixels. "
                    "Choose npy, png or webp."
                )
            files[name] = _whole(f"{name}.{_suffix(given)}", given)
        else:
            contents = encode(picture, encoding)
            decoded = picture.nbytes if encoding == "npy" else len(contents)
            files[name] = Member(f"{name}.{encoding}", contents, decoded)
    return files


def _whole(extension: str, contents: bytes) -> Member:
    return Member(extension, contents, len(contents))


def _suffix(contents: bytes) -> str:
    return next(suffix for magic, suffix in _SUFFIXES.items() if contents.startswith(magic))


def record(key: str, files: Mapping[str, Member]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The bytes of one sample in the tar, and where in them the fields are."""
    pieces: list[bytes] = []
    spans: dict[str, tuple[int, int]] = {}
    length = 0
    for name, (extension, contents, decoded) in files.items():
        size = len(contents)
        piece = (tar.header(f"{key}.{extension}", size), contents, tar.padding(size))
        if name in FIELDS:
            spans[name] = (length + tar.BLOCK + size - decoded, decoded)
        length += tar.BLOCK + size + len(piece[2])
        pieces += piece
    return b"".join(pieces), spans
