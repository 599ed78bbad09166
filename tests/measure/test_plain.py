"""Empty and drawn pictures score high, photographs low."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from skimage import data

from striate.measure.plain import deviation, drawing_score, white_share


def test_white_share_counts_white_pixels() -> None:
    pictures = np.zeros((2, 3, 10, 10), np.uint8)
    pictures[0, :, :3] = 255
    pictures[1, 0] = 255  # Red is not white.
    np.testing.assert_allclose(white_share(pictures), [0.3, 0.0])


def test_deviation_is_that_of_the_most_varied_colour() -> None:
    pictures = np.full((2, 3, 8, 8), 90, np.uint8)
    pictures[1, 2] = np.arange(64).reshape(8, 8)
    np.testing.assert_allclose(deviation(pictures), [0.0, np.arange(64).std()], rtol=1e-6)


def test_line_drawings_score_above_every_photograph() -> None:
    """Shapes drawn on paper beside crops of photographs, grain and shading included."""
    draws = np.random.default_rng(0)
    drawn = []
    for _ in range(60):
        image = Image.new("RGB", (32, 32), "white")
        pen = ImageDraw.Draw(image)
        for _ in range(4):
            corners = [tuple(draws.integers(0, 32, 2).tolist()) for _ in range(2)]
            pen.line(corners, fill=tuple(draws.integers(0, 120, 3).tolist()), width=1)
        drawn.append(np.asarray(image).transpose(2, 0, 1))
    photographs = [
        source[y : y + 32, x : x + 32].transpose(2, 0, 1)
        for source in (data.astronaut(), data.coffee(), data.chelsea())
        for y in range(0, 256, 32)
        for x in range(0, 352, 32)
    ]
    scores, others = drawing_score(np.stack(drawn)), drawing_score(np.stack(photographs))
    assert scores.min() > 0.3
    assert np.quantile(others, 0.99) < 0.3
    assert (scores[:, None] > others[None]).mean() > 0.99
