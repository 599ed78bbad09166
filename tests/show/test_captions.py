"""Sheets with captions: where pictures lie, and that text keeps within its tile."""

from __future__ import annotations

import numpy as np

from striate.show.captions import captioned_sheet

_WIDE, _TALL = 112 + 8, 112 + 16 + 8


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """A tile's picture, brought back to 16 x 16."""
    top, left = row * _TALL + 4, column * _WIDE + 4
    return sheet[top : top + 112 : 7, left : left + 112 : 7].transpose(2, 0, 1)


def test_groups_begin_on_rows_of_their_own_and_the_first_is_framed() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    sheet = captioned_sheet(pictures, [str(number) for number in range(8)], [1, 5, 2], framed=True, columns=3)
    assert sheet.shape == (4 * _TALL, 3 * _WIDE, 3)
    places = [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)]
    for picture, (row, column) in zip(pictures, places):
        assert np.array_equal(tile(sheet, row, column), picture)
    frame = [255, 190, 60]
    assert (sheet[2, 2 : 4 + 112] == frame).all() and not (sheet == frame).all(axis=2)[_TALL:].any()


def test_grey_pictures_are_grey_and_long_captions_end_within_their_tile() -> None:
    pictures = np.full((2, 1, 28, 28), 90, np.uint8)
    sheet = captioned_sheet(
        pictures, ["a/very/long/key/of/a/picture/that/does/not/fit/0001.jpg", "\x00\u202e7"], [2], columns=2
    )
    assert (sheet[4:116, 4:116] == 90).all()
    text = (sheet[117:134] > 60).any(axis=(0, 2))
    assert text[4:116].any() and not text[:4].any() and not text[117:124].any()
