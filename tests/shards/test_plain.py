"""Plain files are read as every other file is, only faster; what is special or wrong is left to the careful reader."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gen.data.decoding import decode
from gen.data.images import Prepare, decode_as
from gen.data.plain import read_plain, write_png
from gen.errors import DataError
from tests.data.test_decoding import chunk, picture, png, saved

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))


@settings(deadline=None)
@given(shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape)))
def test_anyone_can_read_what_is_written(pixels) -> None:
    file = write_png(pixels)
    with Image.open(BytesIO(file)) as image:
        image.verify()
    np.testing.assert_array_equal(decode(file, what="a"), pixels)
    np.testing.assert_array_equal(read_plain(file, pixels.shape), pixels)


@pytest.mark.parametrize("empty", [0.0, 0.4, 0.6, 1.0])
def test_drawings_and_photographs_are_filtered_differently_and_kept(empty) -> None:
    pixels = np.where(np.random.default_rng(0).random((28, 28, 1)) < empty, 0, picture(28, 28, 1)).astype(np.uint8)
    np.testing.assert_array_equal(decode(write_png(pixels), what="a"), pixels)


@pytest.mark.real
def test_real_photographs_take_little_more_than_with_the_best_filters(real_data: Path) -> None:
    files = sorted((real_data / "utkface").rglob("*.jpg"))[:50]
    photographs = [Prepare(resize=(64, 64)).image(file.read_bytes(), str(file)) for file in files]
    ours, best = (sum(map(len, map(write, photographs))) for write in (write_png, saved))
    assert ours < 1.1 * best


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "PNG"},
        {"kind": "PNG", "dpi": (72, 72)},
        {"kind": "JPEG"},
        {"kind": "JPEG", "progressive": True},
        {"kind": "JPEG", "subsampling": 0, "quality": 100},
        {"kind": "JPEG", "restart_marker_blocks": 1, "comment": b"a"},
    ],
)
def test_plain_files_give_the_same_pixels(channels, options) -> None:
    file = saved(picture(9, 13, channels), **options)
    pixels = read_plain(file, (9, 13, channels))
    assert pixels is not None, "not seen as plain"
    np.testing.assert_array_equal(pixels, decode(file, what="a"))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture(9, 9), "JPEG", exif=exif)


def interlaced() -> bytes:
    file = bytearray(png(1, 1, b"\0\7"))
    header = bytes(file[12:28]) + b"\1"
    return bytes(file[:8]) + chunk(b"IHDR", header[4:]) + bytes(file[33:])


SPECIAL = {
    "turned": (turned(), (9, 9, 3)),
    "another size": (saved(picture(9, 13)), (13, 9, 3)),
    "another size, JPEG": (saved(picture(9, 13), "JPEG"), (13, 9, 3)),
    "grey among colours": (saved(picture(channels=1)), (9, 13, 3)),
    "grey among colours, JPEG": (saved(picture(channels=1), "JPEG"), (9, 13, 3)),
    "colour map": (saved(Image.fromarray(picture()).convert("P")), (9, 13, 3)),
    "one bit": (saved(Image.fromarray(picture()).convert("1")), (9, 13, 1)),
    "16 bits": (png(1, 1, b"\0\1\2", depth=16), (1, 1, 1)),
    "transparent": (saved(Image.fromarray(picture()).convert("RGBA")), (9, 13, 3)),
    "transparent colour": (png(1, 1, b"\0\7", extra=chunk(b"tRNS", b"\0\7")), (1, 1, 1)),
    "interlaced": (interlaced(), (1, 1, 1)),
    "animated": (png(1, 1, b"\0\7", extra=chunk(b"acTL", b"\0\0\0\2\0\0\0\0")), (1, 1, 1)),
    "inks": (saved(Image.fromarray(picture()).convert("CMYK"), "JPEG"), (9, 13, 3)),
    "a text that may turn it": (png(1, 1, b"\0\7", extra=chunk(b"tEXt", b"XML:com.adobe.xmp\0")), (1, 1, 1)),
    "something behind the end": (saved(picture()) + b"a", (9, 13, 3)),
    "two channels": (saved(picture()), (9, 13, 2)),
    "WebP": (saved(picture(), "WEBP"), (9, 13, 3)),
    "nothing": (b"", (9, 13, 3)),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_files_are_left_to_the_careful_reader(name) -> None:
    assert read_plain(*SPECIAL[name]) is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["PNG", "JPEG"]), st.sampled_from([1, 3]), st.data())
def test_damage_is_never_read_otherwise(kind, channels, data) -> None:
    """Cut or changed anywhere, a file gives the pixels that the careful reader gives, or its error."""
    file = bytearray(saved(picture(channels=channels), kind))
    place = data.draw(st.integers(0, len(file) - 1))
    if data.draw(st.booleans()):
        del file[place:]
    else:
        file[place] ^= data.draw(st.integers(1, 255))
    mode = "L" if channels == 1 else "RGB"
    pixels = read_plain(bytes(file), (9, 13, channels))
    if pixels is None:
        return
    np.testing.assert_array_equal(pixels, decode(bytes(file), what="a", mode=mode))
    assert kind == "JPEG", "a PNG's checksums cover all of it"


def test_damage_is_named() -> None:
    with pytest.raises(DataError, match="a: cannot be decoded as PNG"):
        decode_as(write_png(picture())[:-20], (9, 13, 3), "a")
