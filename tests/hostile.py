"""The pile of bad inputs that every reader, verb and page is fed. Each function writes one of them and returns its path.

Nothing here is random: the same call writes the same bytes.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

CANARY = "canary"


def picture(index: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A smooth RGB picture (width, height), a different one for each index."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = [np.sin((1 + 0.13 * index) * x + k + 0.7 * index) * np.cos(y - k) for k in range(3)]
    return Image.fromarray(np.rint(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    """A picture as a file's bytes."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def empty_folder(root: Path) -> Path:
    folder = root / "empty"
    folder.mkdir()
    return folder


def text_folder(root: Path) -> Path:
    """Three files, no picture among them."""
    folder = root / "texts"
    folder.mkdir()
    for i in range(3):
        (folder / f"note{i}.txt").write_text(f"note {i}\n")
    return folder


def truncated_jpeg(folder: Path) -> Path:
    data = encoded(picture(1, (200, 150)))
    return _write(folder / "cut.jpg", data[: len(data) // 2])


def truncated_png(folder: Path) -> Path:
    data = encoded(picture(2, (200, 150)), "PNG")
    return _write(folder / "cut.png", data[: len(data) // 2])


def empty_file(folder: Path) -> Path:
    return _write(folder / "nothing.jpg", b"")


def text_named_jpeg(folder: Path) -> Path:
    return _write(folder / "words.jpg", b"these are words, not a picture\n" * 20)


def one_pixel(folder: Path) -> Path:
    return _write(folder / "dot.png", encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"))


def png_bomb(folder: Path, side: int = 30_000) -> Path:
    """A true PNG of side x side pixels in a few kilobytes (2.7 GB once decoded, at the default)."""
    line, squeezer, body = b"\0" * (1 + (side + 7) // 8), zlib.compressobj(9), b""
    for _ in range(side):
        body += squeezer.compress(line)
    body += squeezer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", body) + _png_chunk(b"IEND", b"")
    return _write(folder / "bomb.png", data)


def pipe(folder: Path) -> Path:
    """A FIFO that nobody writes to: opening it would wait for ever."""
    path = folder / "pipe.jpg"
    os.mkfifo(path)
    return path


def dangling_link(folder: Path) -> Path:
    path = folder / "dangling.jpg"
    path.symlink_to(folder / "nowhere.jpg")
    return path


def endless_link(folder: Path) -> Path:
    path = folder / "loop.jpg"
    path.symlink_to(path)
    return path


def damaged_exif(folder: Path) -> Path:
    """A whole picture whose EXIF block is rubbish: it is to be kept."""
    return _write(folder / "exif.jpg", encoded(picture(3), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff\0"))


PILE = (truncated_jpeg, truncated_png, empty_file, text_named_jpeg, one_pixel, png_bomb, pipe, dangling_link, endless_link)
"""Files of which none is a picture that can be used, and that must not stop the others."""


def hostile_folder(root: Path, good: int = 5) -> Path:
    """All of `PILE` in one folder, among this many good pictures."""
    folder = root / "pile"
    folder.mkdir()
    for bad in PILE:
        bad(folder)
    for i in range(good):
        _write(folder / f"good{i}.png", encoded(picture(10 + i), "PNG"))
    return folder


def no_tar(root: Path) -> Path:
    return _write(root / "words.tar", b"these are words" * 100)


def cut_tar(root: Path, good: int = 3) -> Path:
    """A tar whose last member is cut in the middle of its data."""
    data = _tar_of([(f"{i}.png", encoded(picture(i), "PNG")) for i in range(good + 1)])
    last = len(encoded(picture(good), "PNG"))
    return _write(root / "cut.tar", data[: _data_offset(data, f"{good}.png") + last // 2])


def broken_header_tar(root: Path, good: int = 3) -> Path:
    """A tar with rubbish where a member's header should be; Python's own reader ends there without a word."""
    data = bytearray(_tar_of([(f"{i}.png", encoded(picture(i), "PNG")) for i in range(good + 2)]))
    start = _data_offset(bytes(data), f"{good}.png") - 512
    data[start : start + 512] = b"rubbish!" * 64
    return _write(root / "broken.tar", bytes(data))


def escaping_tar(root: Path) -> Path:
    """Members that would be written outside the folder of whoever extracts them, and a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("../../escape.png", "/tmp/striate-escape.png"):
            _add(archive, name, encoded(picture(1 if name[0] == "." else 2), "PNG"))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return _write(root / "escape.tar", out.getvalue())


def cut_gzip_tar(root: Path) -> Path:
    data = gzip.compress(_tar_of([(f"{i}.png", encoded(picture(i), "PNG")) for i in range(20)]))
    return _write(root / "cut.tar.gz", data[: len(data) // 2])


def no_parquet(root: Path) -> Path:
    return _write(root / "words.parquet", b"PAR1 these are words PAR1")


def lying_idx(root: Path) -> Path:
    """A header that promises four thousand million pictures, and bytes for one."""
    return _write(root / "lying-images-idx3-ubyte", struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 28, 28) + bytes(784))


def lying_gzip_idx(root: Path) -> Path:
    path = lying_idx(root)
    return _write(root / "lying-images-idx3-ubyte.gz", gzip.compress(path.read_bytes()))


def overflowing_idx(root: Path) -> Path:
    """Sizes whose product is 2 ** 64, nothing in 64-bit arithmetic, and no bytes at all."""
    return _write(root / "over-images-idx4-ubyte", struct.pack(">HBBIIII", 0, 8, 4, 2**31, 2**31, 2, 2))


def long_idx(root: Path) -> Path:
    return _write(root / "long-images-idx3-ubyte", struct.pack(">HBBIII", 0, 8, 3, 1, 28, 28) + bytes(784 + 1))


def evil_pickle(root: Path) -> Path:
    """A CIFAR batch in name; loading it with pickle would write a file named `CANARY` beside it."""
    return _write(root / "data_batch_1", pickle.dumps({b"data": _Evil(root / CANARY), b"labels": [0]}, protocol=2))


class _Evil:
    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self._canary}'",)


def evil_npy(root: Path) -> Path:
    """An array of objects that would do the same."""
    path = root / "evil.npy"
    np.save(path, np.array([_Evil(root / CANARY)], dtype=object), allow_pickle=True)
    return path


def float_npy(root: Path) -> Path:
    path = root / "floats.npy"
    np.save(path, np.zeros((4, 8, 8), dtype=np.float32))
    return path


def five_channel_npy(root: Path) -> Path:
    path = root / "channels.npy"
    np.save(path, np.zeros((4, 8, 8, 5), dtype=np.uint8))
    return path


def odd_tiny_images(root: Path) -> Path:
    return _write(root / "tiny_images.bin", bytes(3072 * 2 + 17))


BAD_FILES = (
    no_tar,
    no_parquet,
    lying_idx,
    lying_gzip_idx,
    overflowing_idx,
    long_idx,
    evil_pickle,
    evil_npy,
    float_npy,
    five_channel_npy,
    odd_tiny_images,
)
"""Sources that cannot be read at all: one line that names the file, exit code 2."""


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tar_of(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members:
            _add(archive, name, data)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _data_offset(data: bytes, name: str) -> int:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmember(name).offset_data
