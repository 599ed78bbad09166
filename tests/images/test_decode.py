"""Decoding: every kind of file to a fixed-size array, or to a named reason."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.images.decode import Target, decode
from striate.images.items import Rejected
from tests.hostile import BAD_FILES, encoded, picture

RGB = Target((3, 32, 32))


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_rejected_with_their_reason(name: str) -> None:
    data, words = BAD_FILES[name]
    with pytest.raises(Rejected, match=words):
        decode(data, RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    """Known by construction: the stored array is the upright one turned by the inverse of each of the eight orientations."""
    upright = picture(3, (32, 32))
    turns = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(np.ascontiguousarray(turns[orientation]), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data, RGB), upright.transpose(2, 0, 1))


def test_16_bit_levels_are_scaled_not_clipped() -> None:
    """Closed form: level 257 k of 65535 is level k of 255."""
    levels = np.arange(256, dtype=np.uint16).repeat(4).reshape(32, 32) * 257
    buffer = BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), Target((1, 32, 32)))[0], (levels // 257).astype(np.uint8))


def test_transparent_pictures_are_laid_on_white() -> None:
    levels = np.zeros((32, 32, 4), np.uint8)
    levels[:16, :, 3] = 255
    decoded = decode(encoded(levels, "PNG"), RGB)
    assert (decoded[:, :16] == 0).all()
    assert (decoded[:, 16:] == 255).all()


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "1", "YCbCr"])
def test_every_colour_mode_gives_rgb_and_grey(mode: str) -> None:
    form = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    buffer = BytesIO()
    source = Image.fromarray(picture(4, (32, 32)))
    (source.convert("L").convert(mode) if mode in ("LA", "1") else source.convert(mode)).save(buffer, form)
    for channels in (1, 3):
        assert decode(buffer.getvalue(), Target((channels, 32, 32))).shape == (channels, 32, 32)


def test_cmyk_keeps_its_colours() -> None:
    """A red CMYK picture is red, not cyan (inverted CMYK is a known trap)."""
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    buffer = BytesIO()
    Image.fromarray(red).convert("CMYK").save(buffer, "JPEG", quality=95)
    decoded = decode(buffer.getvalue(), RGB).astype(int)
    assert decoded[0].mean() > 200
    assert decoded[1].mean() < 60


def test_shrinking_is_antialiased() -> None:
    """A one-pixel checkerboard averages to its mean; without antialiasing it would alias to 0 or 255."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    decoded = decode(encoded(board, "PNG"), Target((1, 32, 32))).astype(float)
    assert np.abs(decoded - 127.5).max() < 2


def test_crop_takes_the_centre_and_stretch_takes_all() -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200
    np.testing.assert_array_equal(decode(encoded(wide, "PNG"), RGB), np.full((3, 32, 32), 200))
    stretched = decode(encoded(wide, "PNG"), Target((3, 32, 32), fit="stretch"))
    assert stretched[:, :, 2].max() < 30
    assert stretched[:, :, 16].min() > 170


def test_large_jpegs_decoded_at_reduced_size_look_the_same() -> None:
    """Draft decoding may move levels a little, never the picture: mean difference below two levels."""
    large = np.asarray(Image.fromarray(picture(5, (40, 40))).resize((1024, 1024), Image.Resampling.BICUBIC))
    data = encoded(large, quality=95)
    exact = np.asarray(Image.open(BytesIO(data)).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
    assert np.abs(decode(data, RGB).astype(int) - exact.transpose(2, 0, 1)).mean() < 2


def test_a_file_that_cannot_be_opened_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="unreadable"):
        decode(tmp_path / "missing.jpg", RGB)


def test_float_tiffs_outside_levels_are_rejected() -> None:
    buffer = BytesIO()
    Image.fromarray(np.full((32, 32), 1e6, np.float32)).save(buffer, "TIFF")
    with pytest.raises(Rejected, match="floating-point"):
        decode(buffer.getvalue(), RGB)
