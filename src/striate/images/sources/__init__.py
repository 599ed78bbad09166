"""Every format that pictures come in. A new one is a file here and a line in `open_source`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from striate.errors import BadInput
from striate.images.items import Source
from striate.images.sources.archive import ArchiveSource
from striate.images.sources.arrays import array_file
from striate.images.sources.cifar import CifarSource, is_cifar
from striate.images.sources.folder import FolderSource
from striate.images.sources.idx import IdxSource
from striate.images.sources.parquet import ParquetSource
from striate.images.sources.tiny import tiny_images
from striate.images.sources.video import SUFFIXES as VIDEO_SUFFIXES
from striate.images.sources.video import VideoSource


@dataclass(frozen=True)
class SourceOptions:
    """What some formats leave open.

    Attributes:
        every: of a video, keep one frame in this many; 0 keeps the middle frame of each file.
        tiny_order: how a tiny-images file stores its planes, `columns` or `rows`.
    """

    every: int = 1
    tiny_order: str = "columns"


def open_source(path: str | Path, options: SourceOptions | None = None) -> Source:
    """The reader for a file or folder, told by its contents and its name.

    Raises:
        BadInput: it is not there, is empty, or is of no known format.
    """
    path, options = Path(path), options or SourceOptions()
    if not path.exists():
        raise BadInput(f"{path} is not there: expected a folder, archive or file of pictures")
    if is_cifar(path):
        return CifarSource(path)
    if path.is_dir():
        return _open_folder(path, options)
    return _open_file(path, options)


def _open_folder(path: Path, options: SourceOptions) -> Source:
    """A folder of one container format is read as that; anything else as pictures."""
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    parquet = [file for file in files if file.suffix == ".parquet" and file.name != "metadata.parquet"]
    if parquet:
        return ParquetSource(parquet)
    idx = [file for file in files if _is_idx(file)]
    if idx:
        return IdxSource(idx)
    archives = [file for file in files if _is_archive(file)]
    if archives:
        return ArchiveSource(archives)
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    if videos and len(videos) == len(files):
        return _open_videos(videos, options)
    return FolderSource(path)


def _open_file(path: Path, options: SourceOptions) -> Source:
    if path.suffix == ".parquet":
        return ParquetSource([path])
    if _is_idx(path):
        return IdxSource([path])
    if _is_archive(path):
        return ArchiveSource([path])
    if path.suffix in (".npy", ".npz"):
        return array_file(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _open_videos([path], options)
    if path.suffix == ".bin":
        return tiny_images(path, "rows" if options.tiny_order == "rows" else "columns")
    raise BadInput(
        f"{path} is of no format known here: expected a folder, .tar, .parquet, IDX (.gz), CIFAR, tiny_images.bin, "
        ".npy, .npz or a video"
    )


def _open_videos(paths: list[Path], options: SourceOptions) -> Source:
    return VideoSource(paths, None if options.every == 0 else options.every)


def _is_idx(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    return name.endswith(("-ubyte", ".idx", ".idx3", ".idx1"))


def _is_archive(path: Path) -> bool:
    return path.name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))
