"""Grids: many small images on one sheet; points of the plane, which are images of one pixel, all on one map."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gen.files import write_bytes
from gen.vision import make_grid

PAPER = 235  # light grey: black digits and white digits both keep their edges
SMALL = 48  # pixels; smaller images are enlarged by a whole factor, so that pixels stay square
POINT = (2, 1, 1)  # shape of a point of the plane, see gen.sources.mixture
MAP = 384  # pixels a side of a map of points


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [0, 1], clamped, to uint8; uint8 as it is."""
    return images if images.dtype == torch.uint8 else (images.clamp(0, 1) * 255.0).round().to(torch.uint8)


def grid(images: Tensor, *, columns: int = 8) -> NDArray[np.uint8]:
    """One sheet, row by row: (N, C, H, W), uint8 or floats in [0, 1], C of 1 or 3 -> uint8 (height, width, 3).

    Images much wider than high, such as film strips, get fewer columns, so that the sheet is about as wide.

    Points of the plane, (N, 2, 1, 1), make one map: x to the right, y upwards, the darker the more of them.
    """
    pixels = to_uint8(images.detach().cpu())
    if pixels.shape[1:] == POINT:
        return _map(pixels.flatten(1).numpy())
    height, width = pixels.shape[2:]
    scale, columns = max(1, SMALL // max(height, width)), max(1, columns // max(1, width // height))
    pixels = pixels.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    sheet = make_grid(pixels, nrow=columns, padding=2 * scale, pad_value=PAPER)
    pixels_HWC: NDArray[np.uint8] = sheet.permute(1, 2, 0).contiguous().numpy()
    return pixels_HWC


def _map(points: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Points, levels of x and y, (N, 2) -> uint8 (MAP, MAP, 3); a point is a square of 5 pixels a side."""
    dots, side = 5, MAP - 5
    column, row = (points / 255 * np.array([side, -side]) + np.array([0, side])).round().astype(int).T
    counts = np.zeros((MAP, MAP), dtype=int)
    for right in range(dots):
        for down in range(dots):
            np.add.at(counts, (row + down, column + right), 1)
    shade = (PAPER * 0.6**counts).round().astype(np.uint8)
    return np.repeat(shade[..., None], 3, axis=2)


def save_png(path: Path, images: Tensor, *, columns: int = 8) -> None:
    """Write :func:`grid` as a PNG file, whole or not at all."""
    file = io.BytesIO()
    Image.fromarray(grid(images, columns=columns)).save(file, "PNG")
    write_bytes(path, file.getvalue())
