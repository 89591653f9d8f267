"""PNG and JPEG files without anything special in them, written and read by the codecs alone.

What training reads by the million are files of 8 bits and of one channel or three, with no colour map, transparency,
orientation or interlacing. Around such a file Pillow's classes take as long as the codec: at 32 x 32 colours PNG is
written here in half their time, PNG and JPEG are read in two thirds of it. The pixels are the same.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

import numpy as np
from PIL import Image

from gen.data.sample import Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_COLOUR_TYPE = {1: 0, 3: 2}
_HARMLESS = (b"IDAT", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME")  # chunks of which Pillow uses none but the first
_TABLES = (0xDB, 0xC4, 0xDD, 0xFE, 0xE0)  # JPEG segments: quantisation, Huffman, restarts, comment, JFIF
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive
_MODE = {1: "L", 3: "RGB"}


def write_png(pixels: Pixels) -> bytes:
    """A PNG file. Equal pixels give equal bytes for one version of zlib.

    Args:
        pixels: uint8 (H, W, 1) or (H, W, 3).
    """
    # Run lengths alone are found in two thirds of the time it takes to look for repeats, which filtered rows hardly
    # have: on photographs the files are even smaller.
    deflate = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    rows = deflate.compress(_filtered(pixels).data) + deflate.flush()
    return b"".join((_opening(pixels.shape), _chunk(b"IDAT", rows), _END))


@lru_cache(maxsize=64)
def _opening(shape: tuple[int, ...]) -> bytes:
    """What a plain PNG of the shape (H, W, C) begins with."""
    height, width, channels = shape
    return _SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0))


def _filtered(pixels: Pixels) -> Pixels:
    """The rows of a PNG's image data, each with its filter's number before it (PNG specification, section 9).

    One filter for all rows: the average of the left and the upper neighbour costs 5 - 9 % of space against the best
    choice for every row, which takes longer to find than everything else together, and to undo. Drawings on an empty
    ground, such as digits, are smaller without a filter.
    """
    height, width, channels = pixels.shape
    values = pixels.reshape(height, width * channels)
    rows = np.empty((height, 1 + width * channels), np.uint8)
    if 2 * np.count_nonzero(values) < values.size:
        rows[:, 0], rows[:, 1:] = 0, values
        return rows
    padded = np.zeros((height + 1, (width + 1) * channels), np.uint8)
    padded[1:, channels:] = values
    left, above = padded[1:, :-channels], padded[:-1, channels:]
    # (a + b) // 2 without a ninth bit (Warren, "Hacker's Delight", section 2-5)
    rows[:, 0], rows[:, 1:] = 3, values - ((left & above) + ((left ^ above) >> 1))
    return rows


def _chunk(kind: bytes, contents: bytes) -> bytes:
    return b"".join((len(contents).to_bytes(4), kind, contents, zlib.crc32(contents, zlib.crc32(kind)).to_bytes(4)))


def read_plain(contents: bytes, shape: tuple[int, ...]) -> Pixels | None:
    """The pixels of a PNG or JPEG file, if it is a plain and whole one of this shape.

    Args:
        contents: the file.
        shape: (H, W, C) that is expected.

    Returns:
        uint8 (H, W, C), read-only, as :func:`gen.data.decoding.decode` gives them; ``None`` if that has to look into
        it, be it for something special or for what is wrong with it.
    """
    height, width, channels = shape
    if channels not in _MODE:
        return None
    mode = _MODE[channels]
    try:
        if contents.startswith(_SIGNATURE):
            image = Image.frombytes(mode, (width, height), _scanlines(contents, shape), "zip", mode)
        elif not _is_plain_jpeg(contents, shape):
            return None
        else:
            image = Image.frombytes(mode, (width, height), contents, "jpeg", mode, "")
    except (ValueError, LookupError, struct.error):
        return None
    return np.frombuffer(image.tobytes(), np.uint8).reshape(shape)


def _scanlines(contents: bytes, shape: tuple[int, ...]) -> bytes:
    """The compressed rows of a PNG. Raises ValueError if it is not a plain one of that shape with sound checksums."""
    if not contents.startswith(_opening(shape)):
        raise ValueError("header")
    start, pieces = len(_opening(shape)), []
    while (kind := contents[start + 4 : start + 8]) in _HARMLESS:
        end = start + 8 + int.from_bytes(contents[start : start + 4])
        if zlib.crc32(contents[start + 4 : end]) != int.from_bytes(contents[end : end + 4]):
            raise ValueError("checksum")
        if kind == b"IDAT":
            pieces.append(contents[start + 8 : end])
        start = end + 4
    if contents[start:] != _END:
        raise ValueError("end")
    return b"".join(pieces)


def _is_plain_jpeg(contents: bytes, shape: tuple[int, ...]) -> bool:
    """Whether all segments before the scan are tables, and the frame has 8 bits and that shape (ITU-T T.81, B.2)."""
    height, width, channels = shape
    frame, start = False, 2
    while contents[start] == 0xFF and (marker := contents[start + 1]) in (*_TABLES, *_FRAMES):
        if marker in _FRAMES:
            frame = struct.unpack_from(">BHHB", contents, start + 4) == (8, height, width, channels)
        start += 2 + int.from_bytes(contents[start + 2 : start + 4])
    return frame and contents[:2] == b"\xff\xd8" and contents[start : start + 2] == b"\xff\xda"
