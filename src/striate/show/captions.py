"""Pictures with a line of text beneath each, in a grid: what was searched for first, in a frame, then what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TILE = 112
_TEXT, _LINE, _BORDER = 12, 16, 4
_PAPER, _INK, _FRAME = (24, 24, 24), (225, 225, 225), (255, 190, 60)


def captioned_sheet(
    pictures: np.ndarray, captions: Sequence[str], groups: Sequence[int], framed: bool = False, columns: int | None = None
) -> np.ndarray:
    """A sheet (h, w, 3) of pictures uint8 (n, c, h, w), enlarged by a whole number, each with its caption.

    Args:
        pictures: of one shape.
        captions: one a picture; of what is too long the end is shown.
        groups: how many pictures each group has; groups begin on rows of their own.
        framed: whether the first group is framed.
        columns: tiles a row; by default about a square.
    """
    _, _, height, width = pictures.shape
    enlarge = max(1, round(_TILE / max(height, width)))
    high, wide = height * enlarge, max(width * enlarge, _TILE)
    columns = columns or max(1, min(8, int(np.ceil(np.sqrt(max(groups))))))
    across, down = wide + 2 * _BORDER, high + _LINE + 2 * _BORDER
    places, rows = _places(groups, columns)
    sheet = Image.new("RGB", (columns * across, rows * down), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for number, (place, caption) in enumerate(zip(places, captions, strict=True)):
        top, left = place // columns * down + _BORDER, place % columns * across + _BORDER
        picture = _enlarged(pictures[number], enlarge)
        sheet.paste(picture, (left + (wide - picture.width) // 2, top))
        if framed and number < groups[0]:
            draw.rectangle((left - 2, top - 2, left + wide + 1, top + high + 1), outline=_FRAME, width=2)
        draw.text((left, top + high + 1), _cut(caption, font, wide), _INK, font)
    return np.asarray(sheet)


def _places(groups: Sequence[int], columns: int) -> tuple[list[int], int]:
    """Each picture's tile, counted row by row, and the number of rows."""
    places: list[int] = []
    rows = 0
    for count in groups:
        places += range(rows * columns, rows * columns + count)
        rows += -(-count // columns)
    return places, rows


def _enlarged(picture: np.ndarray, times: int) -> Image.Image:
    levels = np.repeat(np.repeat(picture.transpose(1, 2, 0), times, axis=0), times, axis=1)
    return Image.fromarray(np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, wide: int) -> str:
    """The end of a text that is too long: keys differ at their ends."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= wide:
        return text
    while text and font.getlength("…" + text) > wide:
        text = text[1:]
    return "…" + text
