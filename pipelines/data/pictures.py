"""The two pictures of ``gen data inspect``: a contact sheet, and mean images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen.data.manifest import Manifest
from gen.data.reader import Reader
from gen.data.sample import Drawn, Pixels
from gen.shards.summary import Means, draw, mean_images, within_reach
from pipelines.data.drawing import Cell, Group, beside, coloured, columns, enlarged, save, sheet

SIDE, SMALL = 112, 80  # pixels: about how large a picture is shown, and a frame of a video
NUMBERS = 3  # attributes that are written below a picture
FRAMES = 10  # of a video that are shown
CLASSES = 20  # that are shown
CAPTION, ABOVE = 168, 150  # pixels: of a line of a caption, and about how large the picture above it is
HEIGHT = 1240  # pixels: about how high a sheet is
MAP = 32  # a picture whose values are all below this can only be a map of labels


def draw_pictures(
    reader: Reader, split: str, folder: Path, *, seed: int = 0, progress: Callable[[int, int], None]
) -> dict[str, Path]:
    """Write the pictures of a split to ``folder``; their paths."""
    rows = within_reach(reader, split, seed=seed)
    shown = _classes(reader, rows, seed)
    paths = {name: folder / f"{name}.png" for name in ("samples", "mean")}
    save(paths["samples"], contact_sheet(reader, split, rows, shown, seed=seed))
    means = mean_images(reader, rows, shown, seed=seed, progress=progress)
    save(paths["mean"], mean_sheet(reader, split, means))
    return paths


def _classes(reader: Reader, rows: NDArray[np.int64], seed: int) -> list[int]:
    """The classes that are shown: all that occur, or a random choice of so many."""
    if reader.labels is None:
        return []
    found = np.unique(reader.labels[rows])
    return sorted(np.random.default_rng(seed).permutation(found)[:CLASSES].tolist() if len(found) > CLASSES else found)


def contact_sheet(
    reader: Reader, split: str, rows: NDArray[np.int64], shown: Sequence[int], *, seed: int = 0
) -> Image.Image:
    """Random samples: a group for every class, or one of all."""
    manifest = reader.manifest
    first = _cell(manifest, reader.batch(rows[:1]), 0)
    lines = max(1, HEIGHT // first.image.height // max(1, len(shown)))
    each = lines * columns(first.width, headed=bool(shown))
    drawn = draw(reader.labels, rows, shown or [0], each, seed=seed)
    groups = []
    for label, chosen in drawn.items():
        batch = reader.batch(chosen)
        cells = [_cell(manifest, batch, k) for k in range(len(chosen))]
        count = manifest.splits[split].class_counts[label] if shown else 0
        groups.append(Group(cells, manifest.classes[label], f"{count:,} samples") if shown else Group(cells))
    of = f"up to {each} of each class" if shown else f"{min(each, len(rows))} of {len(reader):,} samples"
    if len(shown) < len(manifest.classes):
        of += f", {len(shown)} of {len(manifest.classes):,} classes"
    return sheet(_title(manifest, split), f"{of}, drawn at random (seed {seed}); {describe(manifest)}", groups)


def mean_sheet(reader: Reader, split: str, means: Means) -> Image.Image:
    """The mean of all images, and of those of each class."""
    manifest = reader.manifest
    counts = manifest.splits[split].class_counts
    cells = [Cell(_strip(means.overall), "all", f"{len(reader):,} samples")]
    for label, mean in means.by_class.items():
        cells.append(Cell(_strip(mean), manifest.classes[label], f"{counts[label]:,} samples"))
    of = "all images" if means.samples == len(reader) else f"{means.samples:,} of {len(reader):,} images"
    each = ", overall and by class" if means.by_class else ""
    return sheet(_title(manifest, split), f"mean of {of}{each}; {describe(manifest)}", [Group(cells)])


def describe(manifest: Manifest) -> str:
    """The shape of the images, in words."""
    *frames, height, width, channels = manifest.fields["image"].shape
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{f'{frames[0]} frames of ' if frames else ''}{height} x {width} pixels, {colours}"


def _title(manifest: Manifest, split: str) -> str:
    return f"{manifest.source.name}: {split}"


def _cell(manifest: Manifest, batch: Drawn, k: int) -> Cell:
    """A sample: image, target, caption and attributes."""
    side = SIDE if batch.captions is None else ABOVE
    pictures = [_strip(batch.images[k].numpy(), side)]
    if batch.targets is not None:
        pictures.append(enlarged(_target(manifest, batch.targets[k].movedim(0, -1).numpy()), side))
    text = note = ""
    if batch.captions is not None:
        text = bytes(batch.captions[k].tolist()).rstrip(b"\0").decode(errors="replace")
    if batch.attributes is not None:
        numbers = list(zip(manifest.attributes, batch.attributes[k].tolist(), strict=True))
        shown = [f"{name} {value:.3g}" for name, value in numbers[:NUMBERS]]
        note = ", ".join(shown + ["…"] * (len(numbers) > NUMBERS))
    return Cell(beside(pictures), text, note, room=0 if batch.captions is None else CAPTION)


def _strip(image: NDArray[np.uint8] | NDArray[np.float64], side: int = SIDE) -> Image.Image:
    """An image (C, H, W), or the frames of a video (C, T, H, W), made larger."""
    pixels: Pixels = np.moveaxis(image.round().astype(np.uint8), 0, -1)
    if pixels.ndim == 3:
        return enlarged(pixels, side)
    chosen = np.linspace(0, len(pixels) - 1, min(FRAMES, len(pixels))).round().astype(int)
    return beside([enlarged(pixels[k], SMALL) for k in chosen])


def _target(manifest: Manifest, target: Pixels) -> Pixels:
    """A target (H, W, C); a map of labels in colours."""
    is_map = manifest.preparation.get("target_mode") == "index" or (target.shape[-1] == 1 and 0 < target.max() < MAP)
    return coloured(target) if is_map else target
