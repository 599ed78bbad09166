"""Pictures as pages show them: one at its own size, a small one within a page, many on one sheet."""

from __future__ import annotations

import base64
import functools
import io
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image
from starlette.responses import Response

from striate.errors import BadInput

THUMB_SIDE = 256


def png(picture: np.ndarray, side: int | None = None) -> bytes:
    """uint8 (c, h, w) as PNG, no side longer than this."""
    image = Image.fromarray(picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
    if side is not None and max(image.size) > side:
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def data_address(picture: np.ndarray, side: int | None = None) -> str:
    """A picture uint8 (c, h, w) as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(picture, side)).decode("ascii")


@functools.lru_cache(maxsize=20_000)
def data_uri(store: Any, position: int) -> str | None:
    """A store's picture for a page; None where it cannot be shown."""
    try:
        return data_address(store[position], THUMB_SIDE)
    except BadInput:
        return None


def picture_response(store: Any, position: int) -> Response:
    """One picture as PNG, at its own size."""
    if not 0 <= position < len(store):
        return Response("There is no such picture.", status_code=404)
    try:
        data = png(store[position])
    except BadInput as error:
        return Response(f"This picture cannot be shown: {error}", status_code=500)
    return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def tiles(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Pictures uint8 (n, c, h, w) side by side without borders, row after row: uint8 (c, rows * h, columns * w), black where
    the last row ends."""
    count, channels, height, width = pictures.shape
    rows = max(1, -(-count // columns))
    sheet = np.zeros((rows * columns, channels, height, width), dtype=np.uint8)
    sheet[:count] = pictures
    spread = sheet.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return spread.reshape(channels, rows * height, columns * width)


def readable(store: Any, positions: np.ndarray) -> np.ndarray:
    """Pictures uint8 (n, c, h, w); black where one cannot be read."""
    try:
        return np.asarray(store[positions])
    except BadInput:
        out = np.zeros((len(positions), *store.shape), np.uint8)
        for row, position in enumerate(positions):
            with suppress(BadInput):
                out[row] = store[int(position)]
        return out
