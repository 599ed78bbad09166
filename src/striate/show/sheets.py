"""Sheets of small pictures: filters, reconstructions, contact sheets. Arrays in, uint8 pictures (h, w, 3) out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

_BORDER = 1
# Sheets are made about this wide by whole-number enlargement, so that an 8x8 filter can be seen.
_WIDE = 960
_PAPER = 24


def filter_sheet(
    pictures: np.ndarray, columns: int | None = None, scale: Literal["each", "joint"] = "each", limit: int = 400
) -> np.ndarray:
    """Filters (k, c, h, w), float, around mid grey: positive weights lighter, negative darker.

    Args:
        pictures: filters in pixel space.
        columns: tiles a row; by default a square.
        scale: `each` filter by its own largest weight, or `joint`, all of them by the 99.5th percentile.
        limit: at most this many, evenly picked.
    """
    pictures = np.asarray(pictures, dtype=np.float32)
    if len(pictures) > limit:
        pictures = pictures[np.linspace(0, len(pictures) - 1, limit).astype(int)]
    if scale == "each":
        largest = np.abs(pictures).max(axis=(1, 2, 3), keepdims=True)
    else:
        largest = np.full((1, 1, 1, 1), np.quantile(np.abs(pictures), 0.995))
    levels = 0.5 + 0.5 * pictures / np.maximum(largest, 1e-12)
    return contact_sheet((255 * levels.clip(0, 1)).round().astype(np.uint8), columns)


def contact_sheet(pictures: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Pictures uint8 (n, c, h, w) on a dark sheet, thin borders, enlarged by a whole number."""
    count, channels, height, width = pictures.shape
    columns = columns or max(1, int(np.ceil(np.sqrt(count))))
    rows = -(-count // columns)
    if channels == 1:
        pictures = np.repeat(pictures, 3, axis=1)
    sheet = np.full((rows, columns, height + _BORDER, width + _BORDER, 3), _PAPER, dtype=np.uint8)
    flat = sheet.reshape(rows * columns, height + _BORDER, width + _BORDER, 3)
    flat[:count, :height, :width] = pictures.transpose(0, 2, 3, 1)
    joined = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * (height + _BORDER), columns * (width + _BORDER), 3)
    joined = np.pad(joined, ((_BORDER, 0), (_BORDER, 0), (0, 0)), constant_values=_PAPER)
    enlarge = max(1, _WIDE // joined.shape[1])
    return np.repeat(np.repeat(joined, enlarge, axis=0), enlarge, axis=1)


def pair_sheet(originals: np.ndarray, others: np.ndarray, columns: int = 10) -> np.ndarray:
    """Originals (n, c, h, w) with the others (reconstructions, whitened, ...) beneath each; levels 0..255."""
    rows = []
    for start in range(0, len(originals), columns):
        for pictures in (originals, others):
            row = np.clip(np.rint(pictures[start : start + columns]), 0, 255).astype(np.uint8)
            if len(row) < columns:
                row = np.concatenate([row, np.full((columns - len(row), *row.shape[1:]), _PAPER, np.uint8)])
            rows.append(row)
    return contact_sheet(np.concatenate(rows), columns)


def save_png(sheet: np.ndarray, path: Path) -> None:
    """Write a sheet (h, w, 3) as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, optimize=True)


def png_bytes(sheet: np.ndarray) -> bytes:
    """A sheet (h, w, 3) as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
