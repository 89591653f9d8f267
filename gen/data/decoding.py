"""Image files to pixels: bounded in memory, exact, and never a guess.

A file is judged by its first bytes, not by its name. Its size is known from its header before memory for pixels is
taken, one damaged byte of a PNG is found (every chunk has a checksum), and a file that ends early is an error rather
than a grey area. JPEG and WebP carry no checksum: what a flipped byte does to them only shows in the checksum of the
file, which a source may state and shards always have.

What a file stores becomes uint8 (H, W, 1) if it is grey and (H, W, 3) if it has colours:

    16-bit grey, 32-bit grey of 0 ... 65535   round(x / 257)
    16-bit colours                            x // 256 (that is how Pillow reads them)
    1-bit                                     0 and 255
    palette, CMYK, YCbCr                      RGB
    transparency                              laid on white
    EXIF orientation                          applied

Several threads may decode at once: Pillow lets go of the interpreter's lock while it decodes, and nothing here depends
on settings that a process shares.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Transpose
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gen.data.sample import Pixels
from gen.errors import DataError

Mode = Literal["L", "RGB", "index"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an image may be.

    Attributes:
        pixels: width times height. Decoding takes up to 20 bytes of memory for each (an image with transparency).
        bytes: of the file.
    """

    pixels: int = 1 << 26
    bytes: int = 1 << 27


LIMITS = Limits()

# The classes are called directly: Image.open() tries them in turn, which takes as long as decoding a small image, and
# warns by a limit that all threads share.
_READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89P": PngImageFile,
    b"\xff\xd8": JpegImageFile,
    b"RI": WebPImageFile,
    b"GI": GifImageFile,
    b"BM": BmpImageFile,
    b"II": TiffImageFile,
    b"MM": TiffImageFile,
    **{b"P%d" % kind: PpmImageFile for kind in range(1, 7)},
}
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "I;16B")
_MAY_BE_TURNED = frozenset(("exif", "xmp", "Raw profile type exif"))
_TURNS = {  # EXIF 2.3, tag 0x0112
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def decode(contents: bytes, *, what: str, mode: Mode | None = None, limits: Limits = LIMITS) -> Pixels:
    """The pixels of an image file: PNG, JPEG, WebP, GIF, BMP, PPM or TIFF.

    Args:
        contents: the file.
        what: what messages call it.
        mode: ``None`` keeps grey grey and colours RGB, ``L`` and ``RGB`` convert (ITU-R 601-2 luma). ``index`` is for
            label maps: the numbers as they are stored, be they grey values or indices into a palette.
        limits: how large it may be.

    Returns:
        uint8 (H, W, 1) or (H, W, 3), read-only.

    Raises:
        DataError: it is larger than allowed, damaged, cut short, animated, or not such a file.
    """
    reader = _READERS.get(contents[:2])
    try:
        if len(contents) > limits.bytes:
            raise ValueError(f"the file has {len(contents):,} bytes, allowed are {limits.bytes:,}")
        if reader is None:
            raise ValueError(
                f"it begins with {contents[:8]!r}, allowed are PNG, JPEG, WebP, GIF, BMP, PPM and TIFF"
                if contents
                else "the file is empty"
            )
        return _read(reader, contents, mode, limits)
    except Exception as problem:  # Pillow raises nearly every kind there is
        kind = f" as {reader.format}" if reader else ""
        raise DataError(
            f"{what}: cannot be decoded{kind}: {problem or type(problem).__name__}. Replace the file or leave it out."
        ) from problem


def _read(reader: type[ImageFile.ImageFile], contents: bytes, mode: Mode | None, limits: Limits) -> Pixels:
    """Decode a file; whatever is wrong with it is an exception of any type."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which hides that a file is cut short; unset it")
    if reader is PngImageFile:
        _check_chunks(contents)
    elif reader is GifImageFile:
        _check_size(_gif_size(contents), limits)
    elif reader is WebPImageFile:
        _check_size(_webp_size(contents), limits)
    image = reader(BytesIO(contents))
    _check_size(image.size, limits)
    if reader is TiffImageFile:
        tags = cast(TiffImageFile, image).tag_v2
        _check_size((tags.get(322, 1), tags.get(323, 1)), limits)  # a tile may be larger than the image
    if getattr(image, "is_animated", False):
        raise ValueError("it has several frames, which is allowed for no image; make a clip (T, H, W, C) of them")
    image.load()
    if image.mode not in _MODES:
        raise ValueError(f"its pixels are of the kind '{image.mode}', allowed are {', '.join(_MODES)}")
    if not _MAY_BE_TURNED.isdisjoint(image.info):
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        image = cast(ImageFile.ImageFile, image if turn is None else image.transpose(turn))
    if mode != "index":
        return _colours(image, mode)
    indices = _indices(image)
    if reader is PngImageFile and contents[24:26] in (b"\x02\x00", b"\x04\x00"):  # Pillow spreads 2 and 4 bits of grey
        indices = indices // (255 // (2 ** contents[24] - 1))
    return indices


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    if not (0 < size[0] * size[1] <= limits.pixels and min(size) > 0):
        raise ValueError(f"its size is {size[0]} x {size[1]}, allowed are 1 to {limits.pixels:,} pixels")


def _check_chunks(contents: bytes) -> None:
    """Hold every chunk of a PNG to its checksum (PNG specification, section 5.3). Pillow checks the header's only."""
    position, kind, file = 8, b"", memoryview(contents)
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", file, position)
        end = position + 8 + length
        if zlib.crc32(file[position + 4 : end]) != struct.unpack_from(">I", file, end)[0]:
            raise ValueError(f"its chunk {kind!r} at byte {position} is damaged")
        position = end + 4


def _gif_size(contents: bytes) -> tuple[int, int]:
    """The screen of a GIF, or its first picture where that is larger: Pillow may take memory for it on opening."""
    width, height, flags = struct.unpack_from("<HHB", contents, 6)
    position = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0)
    while contents[position] == ord("!"):  # an extension: two bytes, then blocks that state their lengths up to 0
        position += 2
        while contents[position]:
            position += contents[position] + 1
        position += 1
    if contents[position] != ord(","):
        raise ValueError(f"there is no picture at byte {position}")
    left, top, w, h = struct.unpack_from("<4H", contents, position + 1)
    return max(width, left + w), max(height, top + h)


def _webp_size(contents: bytes) -> tuple[int, int]:
    """The size a WebP file states (RFC 9649): Pillow takes memory for two pictures on opening."""
    kind, bits = contents[12:16], int.from_bytes(contents[20:30], "little")
    if kind == b"VP8X":
        return (bits >> 32 & 0xFFFFFF) + 1, (bits >> 56 & 0xFFFFFF) + 1
    if kind == b"VP8L":
        return (bits >> 8 & 0x3FFF) + 1, (bits >> 22 & 0x3FFF) + 1
    return bits >> 48 & 0x3FFF, bits >> 64 & 0x3FFF


def _array(image: Image.Image) -> Pixels:
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)


def _colours(image: Image.Image, mode: Literal["L", "RGB"] | None) -> Pixels:
    """The pixels of a decoded image as grey or colours, (H, W, 1) or (H, W, 3)."""
    if image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(image))
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        colour = "L" if grey else "RGB"
        over = image.convert("RGBA")
        image = Image.new(colour, image.size, "white")
        image.paste(over.convert(colour), mask=over)
    wanted = mode or ("L" if grey else "RGB")
    return _array(image if image.mode == wanted else image.convert(wanted))


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Grey values of 0 ... 65535 as 0 ... 255, (H, W); what is transparent becomes white."""
    values = np.asarray(image)
    if not 0 <= values.min() <= values.max() <= 65535:
        raise ValueError(f"its grey values are {values.min()} to {values.max()}, allowed are 0 to 65535")
    small = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if "transparency" in image.info:
        small[values == image.info["transparency"]] = 255
    return small


def _indices(image: Image.Image) -> Pixels:
    """The numbers a label map stores, (H, W, 1)."""
    if image.mode in ("L", "P"):
        return _array(image)
    if image.mode != "1" and not image.mode.startswith("I"):
        raise ValueError(f"a label map stores grey values or indices into a palette, this has the mode {image.mode}")
    values = np.asarray(image)
    if not 0 <= values.min() <= values.max() <= 255:
        raise ValueError(f"its labels are {values.min()} to {values.max()}, allowed are 0 to 255")
    return values.astype(np.uint8)[..., None]
