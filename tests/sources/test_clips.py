"""Windows of video, against windows cut by hand; in the order of time, never across clips, decoded exactly."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.errors import DataError
from gen.sources.clips import clips
from tests.sources.trees import origins, plant, png, read_elsewhere, same, samples


def film(root, name: str, frames: int, start: int = 0, shape: tuple[int, ...] = (4, 5)):
    """A clip whose k-th frame is grey of the value start + k."""
    for k in range(frames):
        plant(root, f"{name}/{k}.png", contents=png(start + k, shape))
    return root


def shown(sample) -> list[int]:
    """Which frames a window is made of, by their grey values."""
    assert sample.image.dtype == np.uint8 and sample.image.ndim == 4
    assert (sample.image == sample.image[:, :1, :1, :1]).all()
    return sample.image[:, 0, 0, 0].tolist()


def test_windows_are_cut_as_documented(tmp_path) -> None:
    found = clips(film(tmp_path, "a", 10), frames=3, stride=2, hop=4)
    assert [shown(s) for s in samples(found)] == [[0, 2, 4], [4, 6, 8]]
    assert origins(found) == {"train": ["a/0.png to 4.png", "a/4.png to 8.png"]}
    assert [path.name for path in found.files] == ["0.png", "2.png", "4.png", "6.png", "8.png"]


def test_no_window_is_of_two_clips_and_by_default_no_frame_in_two_windows(tmp_path) -> None:
    film(film(tmp_path, "b", 7, start=100, shape=(6, 2)), "a", 10)
    found = clips(tmp_path, frames=3)
    assert [shown(s) for s in samples(found)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [100, 101, 102], [103, 104, 105]]
    assert [s.image.shape for s in samples(found)][2:4] == [(3, 4, 5, 1), (3, 6, 2, 1)]
    assert [shown(s) for s in samples(clips(tmp_path, frames=2, stride=3))] == [[0, 3], [6, 9], [100, 103]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), *[st.integers(1, 6)] * 3)
def test_windows_for_any_numbers(tmp_path_factory, lengths, frames, stride, hop) -> None:
    root = tmp_path_factory.mktemp("film")
    for k, length in enumerate(lengths):
        film(root, str(k), length, start=40 * k, shape=(1, 1))
    expected = [
        [40 * k + start + stride * t for t in range(frames)]
        for k, length in enumerate(lengths)
        for start in range(0, length, hop)
        if start + stride * (frames - 1) < length
    ]
    if not expected:
        with pytest.raises(DataError, match="that a window needs"):
            clips(root, frames=frames, stride=stride, hop=hop, skip_short=True)
        return
    found = clips(root, frames=frames, stride=stride, hop=hop, skip_short=True)
    assert [shown(s) for s in samples(found)] == expected


def test_frames_are_in_the_order_of_their_numbers(tmp_path) -> None:
    film(tmp_path, "a", 12)  # 0.png ... 11.png
    assert shown(samples(clips(tmp_path, frames=12))[0]) == list(range(12))
    names = ["shot2_frame9.png", "shot2_frame10.png", "shot10_frame1.png", "shot10_frame001a.png"]
    for k, name in enumerate(names):
        plant(tmp_path, f"b/{name}", contents=png(k))
    assert shown(samples(clips(tmp_path, frames=4, folders={"train": "b"}))[0]) == [0, 1, 2, 3]


def test_the_first_folder_is_the_class_of_a_clip(tmp_path) -> None:
    film(film(film(tmp_path, "train/run/c1", 2), "train/jump/c9", 4, start=50), "test/swim", 2)
    found = clips(tmp_path, frames=2, classes=True)
    assert found.classes == ("jump", "run", "swim")
    assert {k: v.labels.tolist() for k, v in found.splits.items()} == {"train": [0, 0, 1], "test": [2]}
    assert clips(tmp_path, frames=2).classes == ()


def test_a_folder_of_frames_is_a_clip(tmp_path) -> None:
    film(tmp_path, "one", 4)
    assert [shown(s) for s in samples(clips(tmp_path / "one", frames=2))] == [[0, 1], [2, 3]]
    with pytest.raises(DataError, match=r"one: found frames in no class's folder, allowed .* set `classes: false`"):
        clips(tmp_path / "one", frames=2, classes=True)


def test_short_clips_are_an_error_or_left_out_and_counted(tmp_path) -> None:
    film(film(film(tmp_path, "a", 9), "b", 2), "c", 1)
    with pytest.raises(
        DataError, match=r"fewer than the 3 frames that a window needs \(b with 2\)|\(b with 2, c with 1\)"
    ):
        clips(tmp_path, frames=3)
    found = clips(tmp_path, frames=3, skip_short=True)
    assert len(found.splits["train"]) == 3 and found.source.origin.endswith("; 2 shorter clips are left out")
    with pytest.raises(DataError, match=r"fewer than the 17 frames .*, not all of them"):
        clips(tmp_path, frames=5, stride=4, skip_short=True)


def test_frames_that_differ_are_named_when_they_are_read(tmp_path) -> None:
    film(tmp_path, "a", 3)
    (tmp_path / "a/1.png").write_bytes(png(1, (4, 6)))
    with pytest.raises(DataError, match=r"a/1\.png: found a frame of shape \(4, 6, 1\), and \(4, 5, 1\) in a/0\.png"):
        clips(tmp_path, frames=3).splits["train"].samples[0]
    (tmp_path / "a/1.png").write_bytes(png(1, (4, 5, 3)))
    with pytest.raises(DataError, match=r"found a frame of shape \(4, 5, 3\)"):
        clips(tmp_path, frames=3).splits["train"].samples[0]
    (tmp_path / "a/1.png").write_bytes(png(1)[:-20])
    with pytest.raises(DataError, match=r"a/1\.png: cannot be decoded"):
        clips(tmp_path, frames=3).splits["train"].samples[0]


def test_two_frames_of_one_name_are_refused(tmp_path) -> None:
    plant(tmp_path, "a/1.png", "a/1.jpg", "a/2.png")
    with pytest.raises(DataError, match=r"found both a/1\.jpg and a/1\.png, allowed one image of a name"):
        clips(tmp_path, frames=1)


@pytest.mark.parametrize("option", ["frames", "stride", "hop"])
def test_numbers_begin_at_one(tmp_path, option) -> None:
    with pytest.raises(DataError, match=rf"{option}: found 0, allowed 1 or more"):
        clips(film(tmp_path, "a", 3), **{option: 0})


def test_another_process_reads_the_same_from_a_small_pickle(tmp_path) -> None:
    found = clips(film(tmp_path, "a", 100, shape=(1, 1)), frames=16, hop=1)
    assert len(pickle.dumps(found)) < 85 * 1000
    assert same(read_elsewhere(found, "train", 84), samples(found)[84])
