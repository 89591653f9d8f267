"""Sheets of pictures with texts, drawn with Pillow alone."""

from __future__ import annotations

import colorsys
import io
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gen.data.sample import Pixels
from gen.evaluate.grids import PAPER
from gen.files import write_bytes

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
INK, FAINT = "#1e1d1b", "#6b6963"
WIDTH, NARROW = 1280, 640  # pixels: of a sheet, at most and at least
MARGIN, GAP, HEAD = 24, 10, 132  # pixels; HEAD is the width of a group's heading
TITLE, TEXT, NOTE = 22, 15, 13  # sizes of letters
LEADING = 1.25
LARGEST = 208  # pixels; larger pictures are made smaller
LINES = 3  # of a text that is cut after them
_MOST = 400  # letters of a text that are looked at
_OTHERS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf")


def enlarged(pixels: Pixels, side: int) -> Image.Image:
    """A picture (H, W, C) about ``side`` pixels large: small ones by a whole factor, so that pixels stay square."""
    height, width, channels = pixels.shape
    image = Image.fromarray(pixels[..., :3] if channels >= 3 else pixels[..., 0]).convert("RGB")
    longest = max(height, width)
    if longest > LARGEST:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        return image
    factor = max(1, round(side / longest))
    return image.resize((width * factor, height * factor), Image.Resampling.NEAREST)


def coloured(labels: Pixels) -> Pixels:
    """A label map (H, W, 1) with a colour of its own for every label (H, W, 3). Neighbouring labels differ much."""
    golden = (5**0.5 - 1) / 2
    palette = [
        colorsys.hsv_to_rgb((0.58 + k * golden) % 1, (0.7, 0.4)[k // 3 % 2], (0.95, 0.7, 0.5)[k // 6 % 3])
        for k in range(256)
    ]
    return (np.array(palette) * 255).round().astype(np.uint8)[labels[..., 0]]


def beside(images: Sequence[Image.Image], gap: int = 2) -> Image.Image:
    """Pictures from left to right."""
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    strip = Image.new("RGB", (width, max(image.height for image in images)), (PAPER,) * 3)
    x = 0
    for image in images:
        strip.paste(image, (x, 0))
        x += image.width + gap
    return strip


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture, what is written below it, and at least how many pixels wide that may be."""

    image: Image.Image
    text: str = ""
    note: str = ""
    room: int = 0

    @property
    def width(self) -> int:
        """Pixels that it takes."""
        return max(self.image.width, self.room)


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that belong together, with a heading on their left; without one they take all the width."""

    cells: Sequence[Cell]
    heading: str = ""
    note: str = ""


def columns(width: int, *, headed: bool) -> int:
    """How many cells of some width fit on a line of a sheet."""
    return max(1, (WIDTH - 2 * MARGIN - (HEAD if headed else 0) + GAP) // (width + GAP))


class _Page:
    """Marks on paper whose height is known only at the end."""

    def __init__(self) -> None:
        self._pictures: list[tuple[Image.Image, tuple[int, int]]] = []
        self._lines: list[tuple[str, tuple[int, int], int, str]] = []

    def paste(self, image: Image.Image, x: int, y: int) -> int:
        """Place a picture; where it ends."""
        self._pictures.append((image, (x, y)))
        return y + image.height

    def write(self, text: str, x: int, y: int, *, size: int, colour: str, width: int) -> int:
        """Place a text, in as many lines as it needs and may have; where it ends."""
        for line in wrapped(text, size, width):
            self._lines.append((line, (x, y), size, colour))
            y += round(size * LEADING)
        return y

    def render(self, width: int, height: int) -> Image.Image:
        canvas = Image.new("RGB", (width, height), (PAPER,) * 3)
        draw = ImageDraw.Draw(canvas)
        for image, place in self._pictures:
            canvas.paste(image, place)
        for line, place, size, colour in self._lines:
            draw.text(place, line, colour, _font(line, size))
        return canvas


def sheet(title: str, subtitle: str, groups: Sequence[Group]) -> Image.Image:
    """A sheet with a title and groups of cells from top to bottom."""
    headed = any(group.heading for group in groups)
    wide = max(cell.width for group in groups for cell in group.cells)
    most, left = columns(wide, headed=headed), MARGIN + (HEAD if headed else 0)
    longest = max(len(group.cells) for group in groups)
    per_line = math.ceil(longest / math.ceil(longest / most))  # lines of equal length
    width, page = max(NARROW, left + per_line * (wide + GAP) - GAP + MARGIN), _Page()
    y = page.write(title, MARGIN, MARGIN, size=TITLE, colour=INK, width=width - 2 * MARGIN)
    y = page.write(subtitle, MARGIN, y + 2, size=NOTE, colour=FAINT, width=width - 2 * MARGIN) + 2 * GAP
    for group in groups:
        below = page.write(group.heading, MARGIN, y, size=TEXT, colour=INK, width=HEAD - GAP)
        below = page.write(group.note, MARGIN, below, size=NOTE, colour=FAINT, width=HEAD - GAP)
        for start in range(0, len(group.cells), per_line):
            bottom = y
            for place, cell in enumerate(group.cells[start : start + per_line]):
                x = left + place * (wide + GAP)
                end = page.paste(cell.image, x, y) + 3
                end = page.write(cell.text, x, end, size=NOTE, colour=INK, width=wide)
                bottom = max(bottom, page.write(cell.note, x, end, size=NOTE, colour=FAINT, width=wide))
            y = bottom + GAP
        y = max(y, below + GAP) + (GAP if headed else 0)
    return page.render(width, y + MARGIN - GAP)


def wrapped(text: str, size: int, width: int) -> list[str]:
    """A text as lines of at most ``width`` pixels, at most :data:`LINES` of them; what is left out shows as dots."""
    rest = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:_MOST]).split())
    lines: list[str] = []
    while rest:
        fits = max(1, bisect_right(range(1, len(rest) + 1), float(width), key=lambda end: _length(rest[:end], size)))
        if fits < len(rest):  # a long word is best cut behind a mark in it
            cuts = (rest.rfind(" ", 0, fits + 1), max(rest.rfind(mark, 0, fits) + 1 for mark in "_-/."), fits)
            fits = next(cut for cut in cuts if cut > 0)
        line, rest = rest[:fits], rest[fits:].strip()
        if len(lines) == LINES - 1 and rest:
            while _length(f"{line}…", size) > width:
                line = line[:-1]
            line, rest = f"{line.rstrip()}…", ""
        lines.append(line)
    return lines


def _length(text: str, size: int) -> float:
    return _font(text, size).getlength(text)


def _font(text: str, size: int) -> Font:
    """Pillow's own font, so that sheets look the same everywhere; one of the system if that has more of the letters."""
    best = max(("", *_OTHERS), key=lambda name: sum(_draws(name, size, letter) for letter in set(text)))
    return _load(best, size) or ImageFont.load_default(size)


@lru_cache
def _load(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _draws(name: str, size: int, letter: str) -> bool:
    """Whether a font is there and has a letter: what it lacks, it draws as it draws a code that is none."""
    font = _load(name, size)
    return font is not None and (letter == " " or bytes(font.getmask(letter)) != bytes(font.getmask("\U0010ffff")))


def save(path: Path, image: Image.Image) -> None:
    """Write a PNG, whole or not at all."""
    file = io.BytesIO()
    image.save(file, "PNG")
    write_bytes(path, file.getvalue())
