"""Image files of any kind become the pixels they hold, or an error that names them: never grey areas, never a bomb."""

from __future__ import annotations

import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from gen.data.decoding import LIMITS, Limits, decode
from gen.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM", "TIFF")


def picture(height: int = 9, width: int = 13, channels: int = 3) -> np.ndarray:
    """Smooth random colours: JPEG changes them little."""
    grid = np.random.default_rng(0).integers(0, 256, (3, 4, channels), dtype=np.uint8)
    bands = [Image.fromarray(grid[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(band) for band in bands], -1)


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG made by hand, with ``extra`` chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decoded_or_named(contents: bytes, limits: Limits = LIMITS) -> np.ndarray | None:
    """The pixels; ``None`` where there is an error that names the file."""
    try:
        return decode(contents, what="a.file", limits=limits)
    except DataError as error:
        if not str(error).startswith("a.file: cannot be decoded"):
            raise
        return None


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "PPM", "TIFF"])
def test_colours_are_those_of_the_file(kind) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(saved(picture(), kind, **options), what="a")
    np.testing.assert_array_equal(pixels, picture())
    assert pixels.dtype == np.uint8 and pixels.shape == (9, 13, 3)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_grey_stays_grey(kind) -> None:
    grey = picture(channels=1)
    np.testing.assert_array_equal(decode(saved(grey, kind), what="a"), grey)
    np.testing.assert_array_equal(decode(saved(grey, kind), what="a", mode="RGB"), grey.repeat(3, -1))


def test_jpeg_is_what_its_decoder_says() -> None:
    for pixels, options in ((picture(), {}), (picture(), {"progressive": True}), (picture(channels=1), {})):
        file = saved(pixels, "JPEG", quality=95, subsampling=0, **options)
        decoded = decode(file, what="a")
        np.testing.assert_array_equal(decoded.squeeze(), np.asarray(Image.open(BytesIO(file))))
        assert abs(decoded.astype(int) - pixels).mean() < 4


def test_grey_of_colours_is_their_luma() -> None:
    luma = picture() @ [0.299, 0.587, 0.114]
    found = decode(saved(picture()), what="a", mode="L")
    assert found.shape == (9, 13, 1) and abs(found[..., 0] - luma).max() <= 0.51


def test_bits_palettes_and_printing_colours() -> None:
    bits = picture(channels=1)[..., 0] > 127
    np.testing.assert_array_equal(decode(saved(Image.fromarray(bits)), what="a")[..., 0], 255 * bits)
    palette = Image.fromarray(picture()).quantize(7)
    np.testing.assert_array_equal(decode(saved(palette), what="a"), np.asarray(palette.convert("RGB")))
    for kind in ("JPEG", "TIFF"):
        file = saved(Image.fromarray(picture()).convert("CMYK"), kind)
        assert abs(decode(file, what="a").astype(int) - picture()).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_rounded_to_eight(kind) -> None:
    values = np.arange(0, 65536, 7, dtype=np.uint16)[: 9 * 13 * 80].reshape(9 * 13, -1)
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(values), kind), what="a")[..., 0], expected)


def test_grey_values_that_have_no_place_in_eight_bits_are_refused() -> None:
    for values in (np.full((2, 2), 65536, np.int32), np.full((2, 2), -1, np.int32)):
        with pytest.raises(DataError, match="allowed are 0 to 65535"):
            decode(saved(Image.fromarray(values), "TIFF"), what="a")
    with pytest.raises(DataError, match="kind 'F'"):
        decode(saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), what="a")


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_transparency_is_laid_on_white(kind, options) -> None:
    layers = picture(channels=4)
    colour, alpha = layers[..., :3].astype(int), layers[..., 3:].astype(int)
    expected = np.round((colour * alpha + 255 * (255 - alpha)) / 255)
    assert abs(decode(saved(layers, kind, **options), what="a") - expected).max() <= 0.5


def test_transparent_grey_stays_grey() -> None:
    layers = picture(channels=2)
    grey, alpha = layers.astype(int).transpose(2, 0, 1)
    found = decode(saved(Image.fromarray(layers, "LA")), what="a")
    assert found.shape == (9, 13, 1)
    assert abs(found[..., 0] - (grey * alpha + 255 * (255 - alpha)) / 255).max() <= 0.5


def test_a_transparent_colour_becomes_white() -> None:
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    assert decode(saved(grey, transparency=100), what="a").ravel().tolist() == [0, 255, 200, 255]
    colours = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    assert decode(saved(colours, transparency=(1, 2, 3)), what="a").tolist() == [[[255] * 3, [4, 5, 6]]]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 0, 0, 0, 7, 7, 7])
    assert decode(saved(palette, transparency=0), what="a").tolist() == [[[255] * 3, [0] * 3, [7] * 3]]
    deep = png(2, 1, b"\0" + struct.pack(">HH", 1000, 2570), depth=16, extra=chunk(b"tRNS", struct.pack(">H", 1000)))
    assert decode(deep, what="a").ravel().tolist() == [255, 10]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_are_turned_as_exif_says(kind, orientation) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    file = saved(picture(), kind, exif=exif, **options)
    with Image.open(BytesIO(file)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape[:2] == ((9, 13) if orientation < 5 else (13, 9))
    np.testing.assert_array_equal(decode(file, what="a"), expected)


def test_label_maps_keep_their_numbers() -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(labels, "P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    deep = Image.fromarray(labels.astype(np.uint16))
    for image in (Image.fromarray(labels), palette, deep):
        np.testing.assert_array_equal(decode(saved(image), what="a", mode="index")[..., 0], labels)
    assert decode(saved(Image.fromarray(labels > 4)), what="a", mode="index").ravel().tolist() == [0] * 5 + [1] * 7


@pytest.mark.parametrize(("depth", "rows", "labels"), [(4, b"\0\x01\x2f", [0, 1, 2, 15]), (2, b"\0\x1b", [0, 1, 2, 3])])
def test_labels_of_a_few_bits_are_not_spread(depth, rows, labels) -> None:
    file = png(4, 1, rows, depth=depth)
    assert decode(file, what="a", mode="index").ravel().tolist() == labels
    assert decode(file, what="a").ravel().tolist() == [label * 255 // (2**depth - 1) for label in labels]


def test_colours_are_no_labels() -> None:
    with pytest.raises(DataError, match="mode RGB"):
        decode(saved(picture()), what="map", mode="index")
    with pytest.raises(DataError, match="allowed are 0 to 255"):
        decode(saved(np.full((2, 2), 256, np.uint16)), what="map", mode="index")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_ends_early_is_an_error_or_whole(kind) -> None:
    """Some bytes at the end may say nothing about pixels; a file without them is the same picture."""
    file = saved(picture(40, 30), kind)
    whole, errors = decode(file, what="a"), 0
    for end in range(len(file)):
        found = decoded_or_named(file[:end])
        if found is None:
            errors += 1
        else:
            np.testing.assert_array_equal(found, whole)
    assert errors >= 0.95 * len(file)


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"optimize": True}])
def test_no_flipped_bit_of_a_png_goes_unnoticed(options) -> None:
    file = saved(picture(), **options)
    for position in range(len(file)):
        broken = bytearray(file)
        broken[position] ^= 1 << position % 8
        with pytest.raises(DataError):
            decode(bytes(broken), what="a")


@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=6)), max_size=4))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_damage_of_any_kind_gives_pixels_or_a_data_error(kind, patches) -> None:
    file = bytearray(saved(picture(), kind))
    for place, patch in patches:
        position = place % len(file)
        file[position : position + len(patch)] = patch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = decoded_or_named(bytes(file), Limits(pixels=10_000))
    if pixels is not None:
        assert pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3) and 0 < pixels.size <= 30_000


@pytest.mark.parametrize(
    "contents", [b"", b"P", b"\x80\x04\x95pickle", b"<svg/>", b"\x89PNG", b"GIF89a", b"PF\n1 1\n1\n"]
)
def test_what_is_no_image_is_refused(contents) -> None:
    with pytest.raises(DataError, match=r"holiday/1\.png: cannot be decoded.*Replace the file or leave it out"):
        decode(contents, what="holiday/1.png")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_several_frames_are_no_image(kind) -> None:
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    with pytest.raises(DataError, match="several frames"):
        decode(saved(frames[0], kind, save_all=True, append_images=frames[1:]), what="a")


def test_the_limits_are_the_last_allowed() -> None:
    file = saved(picture(10, 20))
    assert decode(file, what="a", limits=Limits(pixels=200, bytes=len(file))).shape == (10, 20, 3)
    with pytest.raises(DataError, match=r"20 x 10, allowed are 1 to 199 pixels"):
        decode(file, what="a", limits=Limits(pixels=199))
    with pytest.raises(DataError, match=r"allowed are 10"):
        decode(file, what="a", limits=Limits(bytes=10))


def test_a_switch_that_hides_damage_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="unset it"):
        decode(saved(picture()), what="a")


def test_threads_decode_at_once() -> None:
    files = [saved(picture(50 + k, 40), kind) for k in range(10) for kind in FORMATS]
    with ThreadPoolExecutor(8) as pool:
        for found, file in zip(pool.map(lambda file: decode(file, what="a"), files), files, strict=True):
            np.testing.assert_array_equal(found, decode(file, what="a"))


def bombs() -> dict[str, bytes]:
    """Small files that ask for much memory."""
    plain, zeros = Image.new("RGB", (8, 8)), zlib.compress(bytes(1 << 20))
    texts = b"".join(chunk(b"zTXt", b"%d\0\0" % k + zeros) for k in range(999))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(300_000_000)))
    same_megabyte = b"".join(struct.pack("<HHII", tag, 7, 1 << 20, 8) for tag in range(1, 40000))
    exif = chunk(b"eXIf", b"II*\0" + struct.pack("<IH", 8, 39999) + same_megabyte + bytes(1 << 20))
    canvas = b"WEBPVP8X" + struct.pack("<II", 10, 0) + (16382).to_bytes(3, "little") * 2 + saved(plain, "WEBP")[12:]
    pixel = b"\2\2D\1\0;"
    jpeg = saved(plain, "JPEG")
    size = jpeg.index(b"\xff\xc0") + 5
    tags = {256: 16, 257: 16, 258: 8, 259: 5, 262: 1, 277: 1, 322: 1 << 16, 323: 1 << 16, 324: 300, 325: 9}
    tiles = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return {
        "size.png": png(30000, 30000, bytes(30000 * 3751), depth=1),
        "text.png": png(8, 8, bytes(72), extra=texts),
        "profile.png": png(8, 8, bytes(72), extra=profile),
        "exif.png": png(8, 8, bytes(72), extra=exif),
        "rows.png": png(8, 8, bytes(300_000_000)),
        "canvas.webp": b"RIFF" + struct.pack("<I", len(canvas)) + canvas,
        "screen.gif": b"GIF89a" + struct.pack("<2H3x", 60000, 60000) + b"," + struct.pack("<4Hx", 0, 0, 8, 8) + pixel,
        "frame.gif": b"GIF89a"
        + struct.pack("<2H3x", 8, 8)
        + b"!\xf9\4\x08\0\0\0\0,"
        + struct.pack("<4Hx", 0, 0, 65535, 65535)
        + pixel,
        "size.jpg": jpeg[:size] + struct.pack(">HH", 65500, 65500) + jpeg[size + 4 :],
        "tile.tif": b"II*\0" + struct.pack("<IH", 8, len(tags)) + tiles + bytes(999),
        "size.bmp": b"BM" + struct.pack("<12xIiiHH24x", 40, 30000, 30000, 1, 24) + bytes(99),
        "size.ppm": b"P6 30000 30000 255 " + bytes(999),
    }


def explode() -> None:
    """Decode the bombs and print by how many megabytes each raises the peak of this process's memory."""

    def peak() -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024

    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which any library may lift
    for name, bomb in bombs().items():
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = peak()
        try:
            found = str(decode(bomb, what=name).shape)
        except DataError as error:
            found = str(error)
        print(name, peak() - before, found, sep="|")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_bombs_take_little_memory_and_are_named() -> None:
    command = [sys.executable, "-c", "from tests.data.test_decoding import explode; explode()"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    results = [line.split("|") for line in done.stdout.splitlines()]
    assert len(results) == 12
    for name, megabytes, found in results:
        assert int(megabytes) < 200, f"{name} took {megabytes} MB"
        if name in ("rows.png", "exif.png"):  # what is too much is left alone
            assert found == "(8, 8, 1)"
        else:
            assert found.startswith(f"{name}: cannot be decoded"), found


@pytest.mark.real
def test_real_files_are_decoded_as_pillow_decodes_them(real_data: Path) -> None:
    for folder in ("camvid/train", "camvid/trainannot", "BSDS300", "emoji", "utkface", "omniglot", "video"):
        files = [path for path in sorted((real_data / folder).rglob("*")) if path.suffix in (".png", ".jpg")]
        assert files, folder
        for path in files[:: len(files) // 20 + 1]:
            with Image.open(path) as image:
                expected = np.asarray(image.convert("RGB" if image.mode == "RGB" else "L"))
            found = decode(path.read_bytes(), what=str(path))
            np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.real
def test_real_label_maps_hold_class_numbers(real_data: Path) -> None:
    for path in sorted((real_data / "camvid/valannot").glob("*.png")):
        assert decode(path.read_bytes(), what=str(path), mode="index").max() <= 11
