"""Videos as folders of frames, cut into windows of equal length.

    PATH/bikes/0000.png  PATH/bikes/0001.png  PATH/carphone/0000.png ...

Every folder that holds images is a clip. Clips may differ in size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from gen.data.decoding import decode
from gen.data.sample import Collection, Sample
from gen.errors import DataError
from gen.sources.common.listing import by_stem, collection, directory, few, images_in, read_file
from gen.sources.common.splits import split_folders
from gen.sources.folder import class_folder


class Window(NamedTuple):
    """Frames of one clip that are a sample.

    Attributes:
        files: of the frames, in time.
        label: class of the clip.
    """

    files: tuple[str, ...]
    label: int | None = None


def clips(
    path: Path,
    *,
    frames: int = 16,
    stride: int = 1,
    hop: int | None = None,
    classes: bool = False,
    skip_short: bool = False,
    folders: Mapping[str, str] | None = None,
) -> Collection:
    """Windows of video, uint8 (T, H, W, C), none of them across two clips.

    With ``frames`` = 3, ``stride`` = 2 and ``hop`` = 4, a clip of 10 frames gives the windows 0 2 4 and 4 6 8. The
    frames of a clip are ordered by name with numbers by their value, so that ``frame_9`` comes before ``frame_10``.

    Args:
        path: the folder.
        frames: T, frames in a window.
        stride: from a frame of a window to the next; 2 takes every second frame.
        hop: from the start of a window to the start of the next, in frames of the clip; by default ``frames * stride``,
            so that no frame is in two windows. What is left at a clip's end is not used.
        classes: the first folder on a clip's way is its class, see :func:`~gen.sources.folder.folder`: the clip itself,
            or a folder of clips.
        skip_short: leave out clips with too few frames for one window, instead of an error.
        folders: by split, its sub-folder, see :func:`~gen.sources.common.splits.split_folders`. Splits cut at random
            put windows of one clip into several of them: for held-out clips, name folders.

    Raises:
        DataError: a number is below 1, a clip is too short, there are no images, or with classes, a clip lies in no
            class's folder; when a sample is read, frames that cannot be decoded or differ in shape.
    """
    root = directory(path)
    hop = frames * stride if hop is None else hop
    for key, value in (("frames", frames), ("stride", stride), ("hop", hop)):
        if value < 1:
            raise DataError(f"{root}: {key}: found {value}, allowed 1 or more. Correct the option.")
    span = (frames - 1) * stride + 1
    splits: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    short: list[str] = []
    for split, place in split_folders(root, folders).items():
        splits[split] = []
        for clip, files in _clips(root, place).items():
            kind = class_folder(place, files[0])
            if classes and not kind:
                raise DataError(
                    f"{root / clip}: found frames in no class's folder, allowed one folder for each class. Move them, "
                    "or set `classes: false`."
                )
            if len(files) < span:
                short.append(f"{clip} with {len(files)}")
            for start in range(0, len(files) - span + 1, hop):
                splits[split].append((kind, tuple(files[start : start + span : stride])))
        if not splits[split] or (short and not skip_short):
            raise DataError(
                f"{root}: found clips with fewer than the {span} frames that a window needs ({few(short)}). Set "
                "smaller `frames` or `stride`; `skip_short: true` leaves some such clips out, not all of them."
            )
    names = sorted({kind for windows in splits.values() for kind, _ in windows}) if classes else []
    labels = {name: label for label, name in enumerate(names)}
    left_out = f"; {len(short):,} shorter clips are left out" if short else ""
    return collection(
        path,
        f"video clips as folders of frames; windows of {frames} frames {stride} apart, one every {hop}{left_out}",
        read_window,
        {split: [Window(files, labels.get(kind)) for kind, files in windows] for split, windows in splits.items()},
        classes=names,
    )


def read_window(root: Path, window: Window) -> Sample:
    """The sample of a window, decoded, as a video is one array."""
    pictures = [decode(read_file(root, name), what=name) for name in window.files]
    for name, picture in zip(window.files, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise DataError(
                f"{root / name}: found a frame of shape {picture.shape}, and {pictures[0].shape} in "
                f"{window.files[0]}, which begins its window; allowed is one shape (H, W, C). Convert or remove frames."
            )
    last = PurePosixPath(window.files[-1]).name
    return Sample(image=np.stack(pictures), label=window.label, origin=f"{window.files[0]} to {last}")


def _clips(root: Path, place: str) -> dict[str, list[str]]:
    """The frames of each folder that holds some, in time."""
    found = {}
    images = images_in(root, place)
    for clip, names in groupby(sorted(images, key=_folder_of), key=_folder_of):
        found[clip] = sorted(by_stem(root, clip, names).values(), key=_in_time)
    return found


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _in_time(name: str) -> tuple[list[str | int], str]:
    """Sorts texts by code point and the numbers between them by value; then, as 7 and 07 are equal, by code point."""
    parts = re.split(r"([0-9]+)", PurePosixPath(name).name)
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], name
