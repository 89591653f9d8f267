"""Pictures in the words of JSON: a PNG file in base64, or pixels as nested lists, [H][W] or [H][W][C].

Nothing that is sent is trusted: how large a PNG is is read in its header before memory for its pixels is taken, every
chunk is held to its checksum, and the result must have the size and the channels of the model's images.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from torch import Tensor

from gen.data.decoding import Limits, decode
from gen.data.plain import write_png
from gen.data.sample import Pixels
from gen.errors import DataError
from gen.serve.errors import RequestError, shown

DATA_URL = "data:image/png;base64,"
PNG = b"\x89PNG\r\n\x1a\n"
LIMITS = Limits(pixels=1 << 20, bytes=1 << 22)
REMEDY = "Send a base64 PNG, or nested lists of whole numbers from 0 to 255 as [H][W] or [H][W][C]"


def read_image(value: object, shape: tuple[int, int, int], where: str) -> Pixels:
    """The pixels of an image, uint8 (H, W, C).

    Args:
        value: as it was sent.
        shape: (C, H, W) of the model's images.
        where: what messages call it.

    Raises:
        RequestError: it is not an image, or not one of that shape.
    """
    return _fitting(_read(value, where), shape, where)


def read_frames(value: object, shape: tuple[int, int, int], where: str) -> Pixels:
    """The frames of a video, one below the other in an image: uint8 (T, H, W, C), T of at least 1.

    Arguments and errors as of :func:`read_image`; the shape is that of a frame.
    """
    (channels, height, width), array = shape, _read(value, where)
    frames = max(1, len(array) // height)
    return _fitting(array, (channels, frames * height, width), where).reshape(frames, height, width, channels)


def _read(value: object, where: str) -> Pixels:
    """Pixels of any size, (H, W) or (H, W, C)."""
    if isinstance(value, str):
        return _read_png(value, where)
    array = _read_lists(value, where)
    if array.dtype.kind == "b" or not ((array >= 0) & (array <= 255)).all():
        found = "true and false" if array.dtype.kind == "b" else f"values from {array.min():g} to {array.max():g}"
        raise RequestError(f"{where}: found {found}, allowed whole numbers from 0 to 255. {REMEDY}.")
    return array.astype(np.uint8)


def read_mask(value: object, shape: tuple[int, int, int], where: str) -> np.ndarray:
    """Which values of an image are known, bool (H, W, C): those where the mask is not zero.

    One number for a pixel, [H][W] or a grey PNG, holds for all its channels. Arguments and errors as of
    :func:`read_image`.
    """
    array: np.ndarray = _read_png(value, where) if isinstance(value, str) else _read_lists(value, where)
    channels, height, width = shape
    if array.shape in ((height, width), (height, width, 1)):
        return np.broadcast_to((array != 0).reshape(height, width, 1), (height, width, channels))
    return _fitting(array != 0, shape, where)


def png(pixels: Tensor) -> str:
    """An image, uint8 (C, H, W), as base64 PNG. One of another number of channels than 1 or 3 has no such file."""
    return base64.b64encode(write_png(_last(pixels))).decode()


def lists(pixels: Tensor) -> list[Any]:
    """An image, uint8 (C, H, W), as nested lists [H][W][C]."""
    return _last(pixels).tolist()


def _last(pixels: Tensor) -> Pixels:
    return pixels.permute(1, 2, 0).contiguous().numpy()


def _read_png(text: str, where: str) -> Pixels:
    """The pixels of a base64 PNG, uint8 (H, W, 1) or (H, W, 3)."""
    text = text.removeprefix(DATA_URL)
    if len(text) > LIMITS.bytes * 4 // 3 + 4:
        raise RequestError(f"{where}: found {len(text):,} characters of base64, allowed {LIMITS.bytes * 4 // 3:,}.")
    try:
        contents = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:  # ValueError: characters beyond ASCII
        raise RequestError(f"{where}: found {shown(text)}, which is not base64 ({problem}). {REMEDY}.") from None
    if not contents.startswith(PNG):
        raise RequestError(f"{where}: found a file that begins with {contents[:8]!r}, allowed a PNG. {REMEDY}.")
    try:
        return decode(contents, what=where, limits=LIMITS)
    except DataError as problem:
        raise RequestError(str(problem)) from None


def _read_lists(value: object, where: str) -> np.ndarray:
    """Numbers of nested lists, (H, W) or (H, W, C), whole or boolean."""
    if not isinstance(value, list | tuple | np.ndarray):
        raise RequestError(f"{where}: found {shown(value)}. {REMEDY}.")
    try:
        array = np.asarray(value.tolist() if isinstance(value, np.ndarray) else value)
    except (ValueError, OverflowError):
        raise RequestError(f"{where}: found lists of unequal lengths or depths. {REMEDY}.") from None
    if array.ndim not in (2, 3) or not array.size:
        raise RequestError(f"{where}: found lists of shape {list(array.shape)}, allowed [H][W] or [H][W][C]. {REMEDY}.")
    whole = array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all()
    if array.dtype.kind not in "bui" and not whole:
        items = np.array(value, object).flat  # as they were sent: NumPy turns numbers beside a word into words
        odd = next((item for item in items if not _is_whole(item)), array.flat[0])
        raise RequestError(f"{where}: found {shown(odd)} among the pixels. {REMEDY}.")
    return array


def _is_whole(item: object) -> bool:
    return isinstance(item, int | float) and -(2**31) < item < 2**31 and item == int(item)


def _fitting(array: np.ndarray, shape: tuple[int, int, int], where: str) -> np.ndarray:
    """The array as (H, W, C), if it has the shape (C, H, W) of the model's images."""
    channels, height, width = shape
    wanted = (height, width, channels)
    full = array[..., None] if array.ndim == 2 else array
    if full.shape != wanted:
        kind = {1: "grey", 3: "colour"}
        found, asked = (
            f"{h} x {w} pixels of {c} channel{'s' if c > 1 else ''}{f' ({kind[c]})' if c in kind else ''}"
            for h, w, c in (full.shape, wanted)
        )
        raise RequestError(f"{where}: found {found}, the model takes {asked}. Resize or convert the image.")
    return full
