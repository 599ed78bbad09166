"""Decoding one picture: what is kept, what is refused and why, and that no level is bent on the way."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import hostile
from hostile import encoded, picture
from striate.images.decode import Target, own_limits
from striate.images.decode import decode as decode_within_limits
from striate.images.items import Rejected

RGB32 = Target((3, 32, 32))
GREY32 = Target((1, 32, 32))


def decode(data: bytes | Path | np.ndarray, target: Target) -> np.ndarray:
    with own_limits():
        return decode_within_limits(data, target)


def planar(image: Image.Image) -> np.ndarray:
    levels = np.asarray(image)
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)


def reason_of(data: bytes | Path | np.ndarray, target: Target = RGB32) -> str:
    with pytest.raises(Rejected) as caught:
        decode(data, target)
    return str(caught.value)


def test_a_lossless_picture_of_the_wanted_size_comes_back_to_the_last_bit() -> None:
    image = picture(size=(32, 32))
    assert np.array_equal(decode(encoded(image, "PNG"), RGB32), planar(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(orientation: int) -> None:
    """Known from the array itself: the eight orientations are the eight symmetries of a rectangle."""
    upright = picture(size=(40, 40))
    levels = np.asarray(upright)
    # What a camera held this way writes, so that undoing it gives `levels` again.
    stored = {
        1: levels,
        2: levels[:, ::-1],
        3: levels[::-1, ::-1],
        4: levels[::-1],
        5: levels.transpose(1, 0, 2),
        6: np.rot90(levels, 1),
        7: levels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(levels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    for format in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(image, format, exif=exif, **options)
        assert np.array_equal(decode(data, Target((3, 40, 40))), levels.transpose(2, 0, 1)), format
    jpeg = encoded(image, exif=exif, quality=95)
    same = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg)))).transpose(2, 0, 1)
    assert np.array_equal(decode(jpeg, Target((3, 40, 40))), same)


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    assert decode(hostile.damaged_exif(tmp_path), RGB32).shape == (3, 32, 32)


def test_16_bit_levels_are_scaled_and_rounded_not_clipped() -> None:
    """Reference: 255 / 65535 = 1 / 257, in exact integers."""
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    target = Target((1, 256, 256))
    expected = ((levels.astype(np.int64) * 2 + 257) // 514).astype(np.uint8)
    for format in ("PNG", "TIFF"):
        assert np.array_equal(decode(encoded(Image.fromarray(levels), format), target)[0], expected), format
    colour = decode(encoded(Image.fromarray(levels), "PNG"), Target((3, 256, 256)))
    assert np.array_equal(colour, np.stack([expected] * 3))


def test_palette_cmyk_bilevel_and_grey_become_rgb() -> None:
    image = picture(size=(32, 32))
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(decode(encoded(palette, "PNG"), RGB32), planar(palette.convert("RGB")))
    cmyk = image.convert("CMYK")
    assert np.array_equal(decode(encoded(cmyk, "TIFF"), RGB32), planar(cmyk.convert("RGB")))
    bilevel = image.convert("1")
    assert np.array_equal(decode(encoded(bilevel, "PNG"), RGB32), planar(bilevel.convert("RGB")))
    grey = image.convert("L")
    assert np.array_equal(decode(encoded(grey, "PNG"), RGB32), np.stack([np.asarray(grey)] * 3))
    assert np.array_equal(decode(encoded(image, "PNG"), GREY32), planar(grey))


def test_transparent_pictures_are_laid_on_white() -> None:
    colour = np.zeros((32, 32, 4), np.uint8)
    colour[:, :16] = (200, 100, 50, 255)
    colour[:, 16:24] = (200, 100, 50, 0)
    # Half covered: halfway between the colour and white.
    colour[:, 24:] = (0, 0, 0, 128)
    out = decode(encoded(Image.fromarray(colour), "PNG"), RGB32)
    assert out[:, 0, 0].tolist() == [200, 100, 50]
    assert out[:, 0, 20].tolist() == [255, 255, 255]
    assert out[:, 0, 30].tolist() == [127, 127, 127]


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_transparent_colour_is_laid_on_white_too(mode: str) -> None:
    image = Image.new("RGB", (32, 32), (10, 20, 30)).convert(mode)
    image.paste(image.getpixel((0, 0)), (0, 0, 32, 32))
    transparent = image.getpixel((0, 0))
    assert decode(encoded(image, "PNG", transparency=transparent), RGB32).min() == 255


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    for format in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert decode(data, RGB32)[:, 5, 5].tolist() == [255, 0, 0], format


def test_crop_keeps_the_centre_and_stretch_keeps_everything() -> None:
    levels = np.zeros((30, 90, 3), np.uint8)
    levels[:, 30:60] = 255
    data = encoded(Image.fromarray(levels), "PNG")
    assert decode(data, Target((3, 30, 30))).min() == 255
    stretched = decode(data, Target((3, 30, 30), "stretch"))
    assert stretched[:, :, 2].max() == 0 and stretched[:, :, 15].min() == 255


def test_shrinking_a_checkerboard_gives_its_mean_not_its_alias() -> None:
    """Sampling every eighth pixel of a one-pixel checkerboard gives black or white; the antialiased answer is grey."""
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    out = decode(encoded(Image.fromarray(board), "PNG"), GREY32)
    assert abs(out.astype(int) - 127.5).max() <= 1


@given(width=st.integers(20, 200), height=st.integers(20, 200), index=st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_shrinking_keeps_the_mean(width: int, height: int, index: int) -> None:
    """A normalised filter keeps the mean up to what the edges weigh: a few levels on smooth pictures."""
    image = picture(index, (width, height))
    out = decode(encoded(image, "PNG"), Target((3, 16, 16), "stretch"))
    assert abs(out.mean() - np.asarray(image).mean()) < 3


def test_decoding_a_large_jpeg_at_reduced_size_changes_levels_by_little() -> None:
    """Reference: the same picture decoded in full, then resized. Both are right; they differ by rounding of the pyramid."""
    data = encoded(picture(4, (640, 480)), quality=92)
    full = Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BICUBIC, box=(80, 0, 560, 480))
    out = decode(data, RGB32).astype(int)
    assert abs(out - planar(full).astype(int)).max() <= 3


@pytest.mark.parametrize("bad", [hostile.truncated_jpeg, hostile.truncated_png])
def test_a_cut_file_is_rejected_never_filled_up(bad: object, tmp_path: Path) -> None:
    assert reason_of(bad(tmp_path)).startswith("damaged: ")  # type: ignore[operator]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_no_cut_of_any_format_passes_for_a_picture_or_crashes(format: str) -> None:
    """Cut at 20 places, all before the last tenth (some formats end in bytes that carry nothing)."""
    data = encoded(picture(5, (64, 48)), format)
    for end in np.linspace(0, 0.9 * len(data), 20).astype(int):
        reason_of(data[:end])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_flipped_bytes_give_a_picture_or_a_reason_never_a_crash(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO"]))
    damaged = bytearray(encoded(picture(6, (32, 32)), format))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        out = decode(bytes(damaged), RGB32)
    except Rejected as reason:
        assert str(reason) and "\n" not in str(reason)
    else:
        assert out.shape == (3, 32, 32) and out.dtype == np.uint8


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    bomb = hostile.png_bomb(tmp_path)
    assert bomb.stat().st_size < 1 << 20
    assert reason_of(bomb) == "too large: 30000x30000 pixels, the limit is 100000000"
    small = hostile.png_bomb(tmp_path, side=300)
    assert decode(small, Target((3, 32, 32), max_pixels=90_000)).shape == (3, 32, 32)
    assert reason_of(small, Target((3, 32, 32), max_pixels=89_999)).startswith("too large")


def test_pillows_own_limits_and_warnings_are_left_as_they_were(tmp_path: Path) -> None:
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    reason_of(hostile.png_bomb(tmp_path))
    decode(encoded(picture()), RGB32)
    assert limit == Image.MAX_IMAGE_PIXELS and warnings.filters == filters


def test_each_bad_file_has_its_reason(tmp_path: Path) -> None:
    assert reason_of(hostile.empty_file(tmp_path)) == "empty file"
    assert reason_of(hostile.text_named_jpeg(tmp_path)) == "not a picture"
    assert reason_of(hostile.one_pixel(tmp_path)) == "too small: 1x1 pixels, the least side is 8"
    assert reason_of(hostile.pipe(tmp_path)) == "not a regular file"
    assert reason_of(hostile.dangling_link(tmp_path)) == "unreadable: No such file or directory"
    assert reason_of(hostile.endless_link(tmp_path)).startswith("unreadable: ")
    assert reason_of(tmp_path) == "not a regular file"


def test_postscript_is_never_opened() -> None:
    """Pillow would start a program to draw it."""
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n showpage\n") == "not a picture"


def test_the_least_side_is_settable_and_never_above_the_target() -> None:
    small = encoded(Image.new("L", (4, 9), 7), "PNG")
    assert reason_of(small).startswith("too small")
    assert decode(small, Target((1, 4, 4))).shape == (1, 4, 4)
    assert decode(small, Target((1, 32, 32), min_side=4)).shape == (1, 32, 32)
    assert reason_of(encoded(picture(), "PNG"), Target((3, 32, 32), min_side=31)).startswith("too small: 40x30")


def test_arrays_of_other_kinds_are_refused_and_resized_as_files_are() -> None:
    assert "expected uint8" in reason_of(np.zeros((5, 32, 32), np.uint8))
    assert "expected uint8" in reason_of(np.zeros((3, 32, 32), np.float32))
    image = picture(size=(64, 48))
    assert np.array_equal(decode(planar(image), RGB32), decode(encoded(image, "PNG"), RGB32))
    assert np.array_equal(decode(planar(image.convert("L")), RGB32), decode(encoded(image.convert("L"), "PNG"), RGB32))
