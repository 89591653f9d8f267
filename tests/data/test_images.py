"""Pictures are prepared as declared and antialiased, stored without loss, and read back as recorded."""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gen.data.images import Prepare, decode, decode_as, decode_npy, encode
from gen.errors import DataError, RecipeError
from tests.data.test_decoding import picture, saved

ENCODINGS = ("npy", "png", "webp")
pictures = st.tuples(st.sampled_from([(), (1,), (3,)]), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))
pixels_of = pictures.flatmap(lambda s: hnp.arrays(np.uint8, (*s[0], *s[1:])))


def test_nothing_declared_changes_nothing() -> None:
    for pixels in (picture(), picture(channels=1), picture(channels=2), np.stack([picture()] * 3)):
        np.testing.assert_array_equal(Prepare().image(pixels, "a"), pixels)
    np.testing.assert_array_equal(Prepare().image(saved(picture()), "a"), picture())
    assert Prepare().identity and Prepare().target_identity
    assert not any(Prepare(**key).identity for key in ({"mode": "L"}, {"crop": "square"}, {"resize": (4, 4)}))
    labels = Prepare(target_mode="index")
    assert labels.identity and not labels.target_identity


@pytest.mark.parametrize("mode", ["keep", "L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_and_arrays_are_converted_alike(mode, channels) -> None:
    prepare, pixels = Prepare(mode=mode), picture(channels=channels)
    from_array = prepare.image(pixels, "a")
    np.testing.assert_array_equal(from_array, prepare.image(saved(pixels), "a"))
    assert from_array.shape[-1] == {"keep": channels, "L": 1, "RGB": 3}[mode]


def test_what_is_cut_out_is_the_middle() -> None:
    pixels = picture(9, 13)
    np.testing.assert_array_equal(Prepare(crop="square").image(pixels, "a"), pixels[:, 2:11])
    np.testing.assert_array_equal(
        Prepare(crop="square").image(pixels.transpose(1, 0, 2), "a"), pixels.transpose(1, 0, 2)[2:11]
    )
    np.testing.assert_array_equal(Prepare(crop=(4, 6)).image(saved(pixels), "a"), pixels[2:6, 3:9])
    with pytest.raises(DataError, match=r"faces/7\.png: found 9 x 13 pixels, but prepare.crop cuts out 10 x 6"):
        Prepare(crop=(10, 6)).image(pixels, "faces/7.png")


def test_the_order_is_convert_crop_resize() -> None:
    pixels = picture(9, 13)
    steps = Prepare(mode="L", crop="square", resize=(5, 7), filter="bilinear").image(saved(pixels), "a")
    by_hand = Image.fromarray(pixels).convert("L").crop((2, 0, 11, 9)).resize((7, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(steps[..., 0], np.asarray(by_hand))


@pytest.mark.parametrize("filter", ["lanczos", "bicubic", "bilinear", "box"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resizing_is_antialiased(filter, channels) -> None:
    """A board of single pixels has no coarse structure: at a quarter of its size it is flat grey."""
    board = np.indices((64, 64)).sum(0)[..., None].repeat(channels, -1) % 2 * 255
    small = Prepare(resize=(16, 16), filter=filter).image(board.astype(np.uint8), "a")
    assert small.shape == (16, 16, channels)
    assert abs(small[2:-2, 2:-2].astype(int) - 127.5).max() <= 1


@pytest.mark.parametrize("filter", ["lanczos", "bicubic", "bilinear", "box"])
def test_resizing_keeps_the_mean(filter) -> None:
    pixels = picture(60, 80)
    for size in ((30, 40), (15, 16), (90, 120)):
        small = Prepare(resize=size, filter=filter).image(pixels, "a")
        assert small.shape == (*size, 3)
        assert abs(small.mean((0, 1)) - pixels.mean((0, 1))).max() < 1


def test_videos_are_prepared_frame_by_frame() -> None:
    video = np.stack([picture(9, 13), 255 - picture(9, 13), picture(9, 13) // 2])
    prepare = Prepare(mode="L", crop="square", resize=(4, 4))
    expected = np.stack([prepare.image(frame, "a") for frame in video])
    np.testing.assert_array_equal(prepare.image(video, "a"), expected)
    assert expected.shape == (3, 4, 4, 1)


def test_labels_are_never_mixed() -> None:
    labels = np.repeat(np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, 5, 0), 5, 1)[..., None]
    prepare = Prepare(resize=(3, 4), target_mode="index")
    np.testing.assert_array_equal(prepare.target(labels, "a"), labels[2::5, 2::5])
    palette = Image.fromarray(labels[..., 0], "P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    np.testing.assert_array_equal(prepare.target(saved(palette), "a"), labels[2::5, 2::5])
    with pytest.raises(DataError, match="target_mode"):
        prepare.target(picture(), "a")


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((1,) * 5, np.uint8)],
)
def test_what_is_no_picture_is_refused(pixels) -> None:
    with pytest.raises(DataError, match=r"row 3: found .* allowed uint8 of shape"):
        Prepare().image(pixels, "row 3")


def test_two_channels_are_no_colours() -> None:
    for mode in ("L", "RGB"):
        with pytest.raises(DataError, match=f"2 channels cannot become '{mode}'"):
            Prepare(mode=mode).image(picture(channels=2), "a")


@pytest.mark.parametrize(
    "key",
    [
        {"mode": "rgb"},
        {"crop": "middle"},
        {"crop": (4,)},
        {"crop": (0, 4)},
        {"resize": (4, 4.0)},
        {"resize": (4, True)},
        {"resize": [4, 4]},
        {"filter": "area"},
        {"target_filter": None},
        {"target_mode": "P"},
    ],
)
def test_impossible_preparations_are_refused(key) -> None:
    with pytest.raises(RecipeError, match=rf"prepare\.{next(iter(key))}: found .*allowed"):
        Prepare(**key)


@given(pixels_of, st.sampled_from(ENCODINGS))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_is_stored_is_read_back(pixels, encoding) -> None:
    stored = encode(pixels, encoding)
    found = decode_as(stored, pixels.shape, "a")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)
    assert stored == encode(np.asfortranarray(pixels), encoding)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=4, max_side=9)))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_npy_is_numpys_own(pixels) -> None:
    file = BytesIO()
    np.save(file, pixels)
    assert encode(pixels, "npy") == file.getvalue()
    np.testing.assert_array_equal(decode_as(file.getvalue(), pixels.shape, "a"), pixels)


def test_pictures_can_be_opened_by_anyone() -> None:
    video = np.stack([picture(), 255 - picture()])
    for encoding in ("png", "webp"):
        with Image.open(BytesIO(encode(video, encoding))) as image:
            np.testing.assert_array_equal(np.asarray(image), video.reshape(18, 13, 3))
    with Image.open(BytesIO(encode(picture(channels=1), "png"))) as image:
        assert image.mode == "L"


def test_what_an_encoding_cannot_store_is_refused() -> None:
    for encoding, pixels in (("png", picture(channels=4)), ("webp", np.zeros((200, 100, 4, 3), np.uint8))):
        with pytest.raises(DataError, match=f"encode: {encoding} stores .*Choose `encode: npy`"):
            encode(pixels, encoding)
        assert decode_as(encode(pixels, "npy"), pixels.shape, "a").shape == pixels.shape


def test_grey_files_among_colours_are_read_as_colours() -> None:
    grey = picture(channels=1)
    np.testing.assert_array_equal(decode_as(saved(grey), (9, 13, 3), "a"), grey.repeat(3, -1))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_another_shape_is_an_error(encoding) -> None:
    stored = encode(picture(), encoding)
    for shape in ((13, 9, 3), (3, 9, 13, 3), (9, 13, 1) if encoding == "npy" else (9, 12, 1)):
        with pytest.raises(DataError, match=r"key 7: found an? .* of shape \(9, 13, [13]\), expected \("):
            decode_as(stored, shape, "key 7")


def test_arrays_of_other_programs() -> None:
    """Versions 1 and 2 of the format, and headers padded in other ways, hold the same pixels."""
    pixels, second, narrow = picture(), BytesIO(), encode(picture(), "npy")
    np.lib.format.write_array(second, pixels, version=(2, 0))
    end = narrow.index(b"\n") + 1
    header = narrow[10:end].rstrip() + b"\n"
    narrow = narrow[:8] + len(header).to_bytes(2, "little") + header + narrow[end:]
    for contents in (second.getvalue(), narrow):
        np.testing.assert_array_equal(decode_as(contents, (9, 13, 3), "a"), pixels)


def hostile_arrays() -> dict[str, bytes]:
    def npy(array: np.ndarray) -> bytes:
        file = BytesIO()
        np.save(file, array, allow_pickle=True)
        return file.getvalue()

    good = npy(picture())
    return {
        "pickled objects": npy(np.array([picture(), None], dtype=object)),
        "an archive": b"\x93NUMPY\1\0" + pickle.dumps(picture()),
        "floats": npy(picture().astype(np.float32)),
        "Fortran order": npy(np.asfortranarray(picture())),
        "one dimension": npy(picture().ravel()),
        "too few bytes": good[:-1],
        "too many bytes": good + b"\0",
        "half a header": good[:40],
        "an array of terabytes": good.replace(b"(9, 13, 3), }" + b" " * 12, b"(999999, 999999, 3), }   "),
        "code": good.replace(b"(9, 13, 3)", b"exit(0)   "),
        "an unknown version": b"\x93NUMPY\7\0" + good[8:],
    }


@pytest.mark.parametrize("name", hostile_arrays())
def test_hostile_arrays_are_refused(name) -> None:
    contents = hostile_arrays()[name]
    for read in (lambda: decode_npy(contents, "key 7"), lambda: decode_as(contents, (9, 13, 3), "key 7")):
        with pytest.raises(DataError, match="key 7: "):
            read()


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_bytes_after_the_magic_are_an_error(noise) -> None:
    with pytest.raises(DataError):
        decode_npy(b"\x93NUMPY" + noise, "a")


@pytest.mark.real
def test_real_photographs_become_squares(real_data: Path) -> None:
    prepare = Prepare(mode="RGB", crop="square", resize=(32, 32))
    for path in sorted((real_data / "BSDS300").rglob("*.jpg"))[:20]:
        with Image.open(path) as image:
            left, top = (image.width - 321) // 2, (image.height - 321) // 2
            expected = image.crop((left, top, left + 321, top + 321)).resize((32, 32), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(prepare.image(path.read_bytes(), str(path)), np.asarray(expected))


@pytest.mark.real
def test_real_label_maps_keep_their_classes(real_data: Path) -> None:
    prepare = Prepare(crop="square", resize=(64, 64), target_mode="index")
    for path in sorted((real_data / "camvid/valannot").glob("*.png")):
        whole = decode(path.read_bytes(), what=str(path), mode="index")
        small = prepare.target(path.read_bytes(), str(path))
        assert small.shape == (64, 64, 1) and set(small.ravel()) <= set(whole.ravel())
        np.testing.assert_array_equal(decode_as(encode(small, "png"), small.shape, "a"), small)
