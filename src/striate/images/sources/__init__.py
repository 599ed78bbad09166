"""Every format that pictures come in. A new one is a file here and a line in `open_source`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from striate.errors import BadInput
from striate.images.items import Source
from striate.images.sources.archive import ArchiveSource
from striate.images.sources.arrays import NumpySource
from striate.images.sources.cifar import CifarSource, is_cifar
from striate.images.sources.folder import FolderSource, files_under, is_picture
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
    if not (path.is_dir() or path.is_file()):
        raise BadInput(f"{path} is a pipe or device: expected a folder, archive or file of pictures")
    if is_cifar(path):
        return CifarSource(path)
    if path.is_dir():
        return _open_folder(path, options)
    return _open_file(path, options)


def _open_folder(path: Path, options: SourceOptions) -> Source:
    """A folder (and what is below it) of one container format is read as that; one that holds any picture, as pictures."""
    if (path / "store.json").exists():
        raise BadInput(f"{path} is an image store already: `striate info {path}` tells what it holds")
    files: list[Path] = []
    for file in files_under(path):
        if isinstance(file, str):
            if is_picture(file):
                return FolderSource(path)
            files.append(Path(file))
    files.sort()
    for belongs, reader in _CONTAINERS:
        contained = [file for file in files if belongs(file) and file.is_file()]
        if contained:
            return reader(contained, options)
    return FolderSource(path)


def _open_file(path: Path, options: SourceOptions) -> Source:
    for belongs, reader in _CONTAINERS:
        if belongs(path):
            return reader([path], options)
    if path.suffix in (".npy", ".npz"):
        return NumpySource(path)
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


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


# Formats that come in one file or in many: which files are theirs, and the reader of them all.
_CONTAINERS: list[tuple[Callable[[Path], bool], Callable[[list[Path], SourceOptions], Source]]] = [
    (lambda path: path.suffix == ".parquet", lambda paths, options: ParquetSource(paths)),
    (_is_idx, lambda paths, options: IdxSource(paths)),
    (_is_archive, lambda paths, options: ArchiveSource(paths)),
    (_is_video, _open_videos),
]
