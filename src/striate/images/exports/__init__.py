"""Publishing a labelled set in the formats that others read. A new one is a file here and a line in `FORMATS`.

Each is written to a temporary folder that gets its name when it is whole, and is read back by `striate import` to the same
pixels, labels and class names (and, where the format has room for them, keys and search terms).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from striate.errors import BadInput
from striate.files import write_folder
from striate.images.exports.cifar import write_binary, write_python
from striate.images.exports.folders import write_folders
from striate.images.exports.huggingface import write_huggingface
from striate.images.exports.published import Published as Published
from striate.images.exports.webdataset import write_webdataset

FORMATS: dict[str, tuple[Callable[[Published, Path], None], str]] = {
    "cifar-binary": (write_binary, "CIFAR's binary version: a label byte (two with superclasses) and 3,072 levels"),
    "cifar-python": (write_python, "CIFAR's python version: pickled dictionaries as the original's"),
    "folders": (write_folders, "PNG files, a folder a class"),
    "huggingface": (write_huggingface, "Parquet with class names, and a dataset card"),
    "webdataset": (write_webdataset, "tar shards of PNG, class number and JSON"),
}


def export(published: Published, target: Path, form: str, overwrite: bool = False) -> Path:
    """Write a set in one of `FORMATS`.

    Raises:
        BadInput: no such format, the target is there already, or the pictures do not fit the format.
        StriateError: the disk is full; nothing is left of the export.
    """
    if form not in FORMATS:
        raise BadInput(f"no format {form!r}: there are {', '.join(FORMATS)}")

    def write(folder: Path) -> None:
        FORMATS[form][0](published, folder)
        (folder / "README.md").write_text(published.card, encoding="utf-8")

    write_folder(target, write, overwrite)
    return target
