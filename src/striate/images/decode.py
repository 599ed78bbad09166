"""From an encoded picture of any size to a fixed-size uint8 array, or to the reason why not.

Nothing is guessed: a cut file is rejected, never filled up with grey; a header that promises more pixels than the limit is
rejected before a byte of it is decoded; 16-bit levels are scaled, not clipped. Transparent pictures are laid on white, the
web's page. The first frame of an animation is taken. Only raster formats are opened (EPS would start a program).
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from striate.images.items import Rejected
from striate.images.jpeg import plain_header

# MPO needs no name of its own: its first picture is a JPEG.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO", "PCX", "DIB")
_ORIENTATION_TAG = 274
# How the reason begins where the file system is to blame.
UNREADABLE = "unreadable"
# How EXIF orientations 2 to 8 are undone.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Target:
    """What every picture is made into.

    Attributes:
        shape: (channels, height, width); 3 channels are RGB, 1 is grey.
        fit: `crop` scales the shorter side and cuts the centre; `stretch` ignores the aspect ratio.
        max_pixels: a header promising more is not decoded.
        min_side: pictures with a shorter side below this many pixels (or below the target's, if that is less) are
            rejected: they hold nothing to see.
        quality: also encode each as JPEG of this quality; None: pixels only.
        treat: seed of a random treatment that all pictures are given (`striate.images.treatment`); None: none.
    """

    shape: tuple[int, int, int]
    fit: Literal["crop", "stretch"] = "crop"
    max_pixels: int = 100_000_000
    min_side: int = 8
    quality: int | None = None
    treat: int | None = None


def decode(data: bytes | Path | np.ndarray, target: Target) -> np.ndarray:
    """A uint8 array of ``target.shape``; to be called within `own_limits`.

    Raises:
        Rejected: with the reason, whatever is wrong with this picture.
    """
    return decode_sized(data, target)[0]


def decode_sized(data: bytes | Path | np.ndarray, target: Target) -> tuple[np.ndarray, tuple[int, int]]:
    """The same, and (width, height) in pixels that the file says it has."""
    if isinstance(data, np.ndarray):
        return _from_array(data, target), (data.shape[-1], data.shape[-2])
    if isinstance(data, Path):
        data = read_file(data)
    if not data:
        raise Rejected("empty file")
    try:
        return _from_encoded(data, target)
    except Rejected:
        raise
    except MemoryError:
        raise Rejected("too large to decode in memory") from None
    # A damaged file makes Pillow raise almost anything (OSError, SyntaxError, struct.error, ZeroDivisionError, ...).
    except Exception as error:
        raise Rejected(f"damaged: {_one_line(error)}") from None


@contextmanager
def own_limits() -> Iterator[None]:
    """Pillow's process-wide pixel limit and its warnings, out of the way while that of `Target` is in force."""
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Image.MAX_IMAGE_PIXELS = None
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:120]


def read_file(path: Path) -> bytes:
    """A regular file's bytes; a pipe or device is refused rather than waited for.

    Raises:
        Rejected: not a regular file, or it cannot be read.
    """
    try:
        # Opening a pipe would wait for its writer, but for this flag.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise Rejected("not a regular file")
            data = os.read(file, found.st_size)
            while more := os.read(file, 1 << 20):
                data += more
            return data
        finally:
            os.close(file)
    except OSError as error:
        raise Rejected(f"{UNREADABLE}: {error.strerror or error}") from None


def _from_encoded(data: bytes, target: Target) -> tuple[np.ndarray, tuple[int, int]]:
    plain = plain_header(data)
    if plain is None or min(plain[1]) >= 4 * max(target.shape[1:]):
        return _by_pillow(data, target)
    mode, size = plain
    _check_size(size, target)
    # The same decoder that Pillow would call; it raises where data are missing.
    image = Image.frombytes(mode, size, data, "jpeg", mode, "")
    return _planar(_fit(_to_levels(image, "RGB" if target.shape[0] == 3 else "L"), target)), size


def _by_pillow(data: bytes, target: Target) -> tuple[np.ndarray, tuple[int, int]]:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.UnidentifiedImageError:
        raise Rejected("not a picture") from None
    size = image.size
    _check_size(size, target)
    _, height, width = target.shape
    twice = 2 * max(height, width)
    if image.format == "JPEG" and min(image.size) >= 2 * twice:
        # Decode at half, quarter or eighth size where that still leaves twice the pixels wanted each way.
        image.draft(None, (twice, twice))
    # Pillow turns TIFF upright while it loads and forgets the tag, the other formats not: ask afterwards.
    image.load()
    orientation = _orientation(image)
    levels = _to_levels(image, "RGB" if target.shape[0] == 3 else "L")
    if orientation in _UPRIGHT:
        levels = levels.transpose(_UPRIGHT[orientation])
    return _planar(_fit(levels, target)), size


def _orientation(image: Image.Image) -> object:
    """EXIF orientation, 1 (upright) where none is stated or its block is damaged: the picture itself may be whole."""
    if "exif" not in image.info and image.format != "TIFF":
        return 1
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1


def _check_size(size: tuple[int, int], target: Target) -> None:
    width, height = size
    if width * height > target.max_pixels:
        raise Rejected(f"too large: {width}x{height} pixels, the limit is {target.max_pixels}")
    least = min(target.min_side, *target.shape[1:])
    if min(width, height) < least:
        raise Rejected(f"too small: {width}x{height} pixels, the least side is {least}")


def _to_levels(image: Image.Image, mode: str) -> Image.Image:
    """8-bit RGB or grey."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = _from_deep(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(page, image)
    elif image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    return image.convert(mode)


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit grey to 8-bit by 255 / 65535, rounded; wider or float pictures only where their range is plain."""
    levels = np.asarray(image).astype(np.float64)
    top = float(levels.max(initial=0))
    if image.mode == "F":
        if not np.isfinite(levels).all() or levels.min(initial=0) < 0 or top > 255:
            raise Rejected("floating-point levels outside 0..255")
        scale = 255.0 if top <= 1 else 1.0
    elif levels.min(initial=0) < 0 or top > 65535:
        raise Rejected("32-bit levels outside 0..65535")
    else:
        scale = 255 / 65535
    return Image.fromarray(np.rint(levels * scale).astype(np.uint8))


def _fit(image: Image.Image, target: Target) -> Image.Image:
    _, height, width = target.shape
    if image.size == (width, height):
        return image
    box = None if target.fit == "stretch" else _centre_box(image.size, (width, height))
    # Pillow's bicubic widens its support when shrinking: antialiased.
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _centre_box(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centred box of the wanted aspect ratio."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _planar(image: Image.Image) -> np.ndarray:
    levels = np.asarray(image)
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)


def _from_array(array: np.ndarray, target: Target) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3):
        raise Rejected(f"an array {array.dtype} {array.shape}: expected uint8 (1 or 3, height, width)")
    if array.shape == target.shape:
        return array
    _check_size((array.shape[2], array.shape[1]), target)
    image = Image.fromarray(array[0] if array.shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
    return _planar(_fit(_to_levels(image, "RGB" if target.shape[0] == 3 else "L"), target))
