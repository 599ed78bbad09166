"""The short way to an everyday JPEG gives what Pillow's own way gives, and steps aside for everything else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hostile import encoded, picture
from striate.images.decode import Target, decode, own_limits
from striate.images.items import Rejected
from striate.images.jpeg import plain_header

EVERYDAY = [
    {"quality": 75},
    {"quality": 100, "subsampling": 0},
    {"quality": 30, "subsampling": 1},
    {"progressive": True},
    {"optimize": True, "comment": b"a comment"},
    {"restart_marker_rows": 1},
]


@pytest.mark.parametrize("options", EVERYDAY, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_level_is_what_pillow_gives(options: dict[str, object], mode: str) -> None:
    """Reference: Image.open, which parses the header its own way and calls the same libjpeg."""
    for index, size in enumerate([(64, 64), (61, 47), (8, 9)]):
        data = encoded(picture(index, size).convert(mode), "JPEG", **options)
        assert plain_header(data) == (mode, size)
        target = Target((3 if mode == "RGB" else 1, size[1], size[0]))
        levels = np.asarray(Image.open(io.BytesIO(data)))
        expected = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
        with own_limits():
            assert np.array_equal(decode(data, target), expected)


def test_what_is_not_everyday_is_left_to_pillow() -> None:
    image = picture()
    exif = Image.Exif()
    exif[274] = 6
    others = {
        "exif": encoded(image, exif=exif),
        "cmyk": encoded(image.convert("CMYK")),
        "icc": encoded(image, icc_profile=b"x" * 100),
        "stray bytes": encoded(image)[:20] + b"stray" + encoded(image)[20:],
        "two pictures": encoded(image, "MPO", save_all=True, append_images=[picture(1)]),
        "png": encoded(image, "PNG"),
        "nothing": b"",
        "start only": b"\xff\xd8\xff",
    }
    assert {name: plain_header(data) for name, data in others.items()} == dict.fromkeys(others)


def test_a_second_frame_header_is_left_to_pillow() -> None:
    """Else the size that was checked might not be the size that is decoded."""
    data = encoded(picture())
    at = data.index(b"\xff\xc0")
    length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    assert plain_header(data[:at] + data[at : at + length] + data[at:]) is None


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_anywhere_gives_what_pillow_gives_or_a_reason(data: st.DataObject) -> None:
    """Never a picture where Pillow refuses one, never other levels."""
    damaged = bytearray(encoded(picture(3, (32, 32)), quality=60))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    try:
        with own_limits():
            found = decode(bytes(damaged), Target((3, 32, 32), "stretch"))
    except Rejected:
        return
    with own_limits():
        reference = Image.open(io.BytesIO(damaged)).convert("RGB")
        if reference.size != (32, 32):
            reference = reference.resize((32, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(found, np.asarray(reference).transpose(2, 0, 1))


def test_real_pictures_take_the_short_way_and_come_out_the_same(shared_data: Path) -> None:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(shared_data / "tiny-imagenet" / "test.parquet")
    encodings = [row["image"]["bytes"] for row in file.read_row_group(0).slice(0, 200).to_pylist()]
    assert sum(plain_header(data) is not None for data in encodings) > 150
    for data in encodings:
        with own_limits():
            found = decode(data, Target((3, 64, 64)))
        assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1))
