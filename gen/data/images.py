"""Pictures made ready for shards, stored without loss, and read back.

What a source gives - files of any size and colours, or arrays - becomes pixels of one shape by what ``prepare:`` in
params.yaml says. It is done once, when shards are written: convert, then crop, then resize. Resizing is antialiased,
which matters more than any other choice here: without it scores such as FID change by more than models differ (Parmar
et al. 2022, "On aliased resizing and surprising subtleties in GAN evaluation").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
from PIL import Image

from gen.data.decoding import Mode, decode
from gen.data.plain import read_plain, write_png
from gen.data.sample import Picture, Pixels
from gen.errors import DataError, RecipeError

Filter = Literal["lanczos", "bicubic", "bilinear", "box", "nearest"]
Encoding = Literal["npy", "png", "webp"]

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
_NPY = b"\x93NUMPY"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepare:
    """What is done to every picture of a data set: ``prepare:`` in params.yaml.

    Attributes:
        mode: ``keep`` leaves grey grey and colours RGB, ``L`` and ``RGB`` convert.
        crop: the largest centred ``square``, or a centred (height, width).
        resize: (height, width) of the result.
        filter: how to resize.
        target_mode: as ``mode``, for targets; ``index`` takes a label map's numbers as they are stored.
        target_filter: how to resize targets; ``nearest`` makes no labels up. Crop and size are those of the image.
    """

    mode: Literal["keep", "L", "RGB"] = "keep"
    crop: Literal["none", "square"] | tuple[int, int] = "none"
    resize: tuple[int, int] | None = None
    filter: Filter = "lanczos"
    target_mode: Literal["keep", "L", "RGB", "index"] = "keep"
    target_filter: Filter = "nearest"

    def __post_init__(self) -> None:
        choices = {"mode": ("keep", "L", "RGB"), "target_mode": ("keep", "L", "RGB", "index")}
        choices |= {"filter": tuple(_FILTERS), "target_filter": tuple(_FILTERS)}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise RecipeError(f"prepare.{key}: found {getattr(self, key)!r}, allowed: {', '.join(allowed)}.")
        for key, words in (("crop", ("none", "square")), ("resize", (None,))):
            value = getattr(self, key)
            if value not in words and not (
                isinstance(value, tuple) and len(value) == 2 and all(type(n) is int and n >= 1 for n in value)
            ):
                named = "none, square" if key == "crop" else "nothing"
                raise RecipeError(
                    f"prepare.{key}: found {value!r}, allowed: {named}, or [height, width] of at least 1."
                )

    @property
    def identity(self) -> bool:
        """Whether images come out as they go in, so that the bytes of a file can be stored as they are."""
        return self.mode == "keep" and self.crop == "none" and self.resize is None

    @property
    def target_identity(self) -> bool:
        """The same of targets."""
        return self.target_mode == "keep" and self.crop == "none" and self.resize is None

    def image(self, picture: Picture, what: str) -> Pixels:
        """An image or video made ready, uint8 (H, W, C) or (T, H, W, C).

        Args:
            picture: pixels, or the bytes of a file.
            what: what messages call it.

        Raises:
            DataError: it cannot be decoded, or is smaller than the crop.
        """
        return self._prepare(picture, what, self.mode, self.filter)

    def target(self, picture: Picture, what: str) -> Pixels:
        """A target made ready; as :meth:`image`."""
        return self._prepare(picture, what, self.target_mode, self.target_filter)

    def _prepare(self, picture: Picture, what: str, mode: Mode | Literal["keep"], by: Filter) -> Pixels:
        if isinstance(picture, bytes):
            pixels = decode(picture, what=what, mode=None if mode == "keep" else mode)
        else:
            pixels = _convert(picture, what, mode)
        pixels = self._cropped(pixels, what)
        if self.resize is None or pixels.shape[-3:-1] == self.resize:
            return np.ascontiguousarray(pixels)
        frames = pixels.reshape(-1, *pixels.shape[-3:])
        resized = np.stack([_resize(frame, self.resize, by) for frame in frames])
        return resized.reshape(*pixels.shape[:-3], *resized.shape[1:])

    def _cropped(self, pixels: Pixels, what: str) -> Pixels:
        if self.crop == "none":
            return pixels
        height, width = pixels.shape[-3:-1]
        h, w = (min(height, width),) * 2 if self.crop == "square" else self.crop
        if h > height or w > width:
            raise DataError(
                f"{what}: found {height} x {width} pixels, but prepare.crop cuts out {h} x {w}. "
                "Choose a smaller crop, or leave the image out."
            )
        top, left = (height - h) // 2, (width - w) // 2
        return pixels[..., top : top + h, left : left + w, :]


def _convert(pixels: Pixels, what: str, mode: Mode | Literal["keep"]) -> Pixels:
    """Pixels (..., H, W, C) in a mode, as :func:`gen.data.decoding.decode` converts files."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or not pixels.size:
        raise DataError(
            f"{what}: found {pixels.dtype} of shape {pixels.shape}, allowed uint8 of shape (H, W, C) or (T, H, W, C)."
        )
    channels = pixels.shape[-1]
    if mode == "keep" or channels == {"L": 1, "RGB": 3, "index": 1}[mode]:
        return pixels
    if mode == "RGB" and channels == 1:
        return pixels.repeat(3, axis=-1)
    if mode == "L" and channels == 3:
        tall = Image.fromarray(pixels.reshape(-1, *pixels.shape[-2:])).convert("L")
        return np.asarray(tall).reshape(*pixels.shape[:-1], 1)
    raise DataError(
        f"{what}: {channels} channels cannot become '{mode}'; allowed are 1 or 3 channels, and 1 for 'index'. "
        "Change prepare.mode or prepare.target_mode."
    )


def _resize(frame: Pixels, size: tuple[int, int], by: Filter) -> Pixels:
    """One picture (H, W, C) at (height, width)."""
    height, width = size
    if frame.shape[-1] not in (1, 3):  # the channels are resized on their own in any case
        return np.concatenate([_resize(band, size, by) for band in np.split(frame, frame.shape[-1], axis=-1)], axis=-1)
    image = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else np.ascontiguousarray(frame))
    return np.asarray(image.resize((width, height), _FILTERS[by])).reshape(height, width, -1)


def encode(pixels: Pixels, encoding: Encoding) -> bytes:
    """Store pixels without loss; equal pixels give equal bytes for one version of Pillow and zlib.

    Args:
        pixels: uint8 (H, W, C) or (T, H, W, C). A video becomes one tall picture (T H, W, C) in PNG and WebP.
        encoding: ``npy`` takes any number of channels and is read at the speed of memory; ``png`` and ``webp`` take
            1 or 3 channels and a fraction of the space.

    Raises:
        DataError: the encoding cannot store pixels of this shape.
    """
    if encoding == "npy":
        return b"".join((_npy_header(pixels.shape), np.ascontiguousarray(pixels).data))
    *_, width, channels = pixels.shape
    height = math.prod(pixels.shape[:-2])
    largest = 16383 if encoding == "webp" else 2**31 - 1
    if channels not in (1, 3) or max(height, width) > largest:
        raise DataError(
            f"encode: {encoding} stores 1 or 3 channels and sides of up to {largest:,}; found {channels} channels, "
            f"{height} x {width}{' (all frames in one picture)' if pixels.ndim == 4 else ''}. Choose `encode: npy`."
        )
    tall = np.ascontiguousarray(pixels).reshape(height, width, channels)
    if encoding == "png":
        return write_png(tall)
    image, file = Image.fromarray(tall if channels == 3 else tall[..., 0]), BytesIO()
    # Method 0 is 20 times as fast as the default, for about 10 % more space: still less than PNG takes.
    image.save(file, "WEBP", lossless=True, method=0)
    return file.getvalue()


def decode_as(contents: bytes, shape: tuple[int, ...], what: str) -> Pixels:
    """Read back a picture that has been stored: what :func:`encode` writes, or an image file of any kind.

    Args:
        contents: the bytes.
        shape: (H, W, C) or (T, H, W, C) as recorded; C = 1 reads an image file as grey, C = 3 as colours.
        what: what messages call it.

    Returns:
        uint8 of that shape, read-only.

    Raises:
        DataError: the bytes hold something else.
    """
    if not contents.startswith(_NPY):
        tall = (math.prod(shape[:-2]), *shape[-2:])
        if (plain := read_plain(contents, tall)) is not None:
            return plain.reshape(shape)
        pixels = decode(contents, what=what, mode="L" if shape[-1] == 1 else "RGB")
        if pixels.shape != tall:
            raise DataError(f"{what}: found an image of shape {pixels.shape}, expected {shape}.")
        return pixels.reshape(shape)
    header = _npy_header(shape)
    if contents.startswith(header) and len(contents) == len(header) + math.prod(shape):
        return np.frombuffer(contents, np.uint8, offset=len(header)).reshape(shape)
    pixels = decode_npy(contents, what)  # another program's header, or something to complain about
    if pixels.shape != shape:
        raise DataError(f"{what}: found an array of shape {pixels.shape}, expected {shape}.")
    return pixels


def decode_npy(contents: bytes, what: str) -> Pixels:
    """The array in a file of NumPy's format, without believing its header and without unpickling.

    Args:
        contents: the file.
        what: what messages call it.

    Returns:
        uint8 (H, W, C) or (T, H, W, C), read-only.

    Raises:
        DataError: it is cut short, or holds anything else.
    """
    wide = contents[6:7] > b"\1"  # from version 2 on the length has four bytes
    start = (12 if wide else 10) + int.from_bytes(contents[8 : 12 if wide else 10], "little")
    try:
        shape, fortran, dtype = _parse_npy_header(contents[:start])
    except Exception as problem:  # the header is parsed as Python, so it can be wrong in many ways
        raise DataError(f"{what}: is not a whole .npy file: {problem}. Replace the file or leave it out.") from problem
    if dtype != np.uint8 or fortran or len(shape) not in (3, 4) or not math.prod(shape):
        raise DataError(
            f"{what}: found {dtype} of shape {shape}{' in Fortran order' if fortran else ''}, allowed uint8 of shape "
            "(H, W, C) or (T, H, W, C) in C order."
        )
    if (found := len(contents) - start) != math.prod(shape):
        raise DataError(f"{what}: found {found:,} bytes of pixels, expected {math.prod(shape):,} for {shape}.")
    return np.frombuffer(contents, np.uint8, offset=start).reshape(shape)


@lru_cache(maxsize=64)  # the arrays of a data set have one header, and to parse it takes longer than all else
def _parse_npy_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is Fortran's, and type; raises errors of many kinds."""
    file = BytesIO(header)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


@lru_cache(maxsize=64)
def _npy_header(shape: tuple[int, ...]) -> bytes:
    """What precedes uint8 pixels in a file of NumPy's format, version 1.0: as ``np.save`` writes it."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()
