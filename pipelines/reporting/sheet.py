"""One picture of samples of all models, for a README: rows of images over the models' names."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from pipelines.reporting.entry import Entry

COLUMNS, WIDTH, GAP, LABEL = 4, 360, 20, 30  # pixels
SHARE = 0.5  # of a square grid of samples; longer ones are cut alike
PAPER, INK = "#fcfbf8", "#1e1d1b"


def sheet(entries: Sequence[Entry]) -> bytes | None:
    """A PNG with the upper half of every model's samples, or ``None`` if no model draws any."""
    shown = [(entry.chapter.title, entry.emblem.png) for entry in entries if entry.emblem]
    if not shown:
        return None
    tiles = []
    for title, png in shown:
        image = Image.open(io.BytesIO(png)).convert("RGB")
        image = image.crop((0, 0, image.width, round(min(image.width, image.height) * SHARE)))
        tiles.append((title, image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.BOX)))
    columns = min(COLUMNS, len(tiles))
    height = max(image.height for _, image in tiles) + LABEL + GAP
    rows = -(-len(tiles) // columns)
    canvas = Image.new("RGB", (columns * (WIDTH + GAP) + GAP, rows * height + GAP), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(20)
    for i, (title, image) in enumerate(tiles):
        x, y = GAP + i % columns * (WIDTH + GAP), GAP + i // columns * height
        canvas.paste(image, (x, y))
        draw.text((x, y + image.height + 4), title, INK, font)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()
