"""Writing files so that they are there whole or not at all, and naming a full disk for what it is."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from striate.errors import BadInput, StriateError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Libraries written in other languages give the number in words only.
_FULL_WORDS = tuple(f"os error {number}" for number in sorted(_FULL))


class FullDisk(StriateError):
    """There is no room for a file."""


def is_full_disk(error: Exception) -> bool:
    """Whether an error means that the disk, a quota or a file-size limit is reached."""
    return (
        isinstance(error, FullDisk)
        or getattr(error, "errno", None) in _FULL
        or any(words in str(error) for words in _FULL_WORDS)
    )


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``file``, sync it, and give it the name: a power cut leaves all or nothing.

    Raises:
        StriateError: the disk is full; the file is as it was.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.rename(file)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, Exception) and is_full_disk(error):
            raise full_disk(file) from None
        raise
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_folder(target: Path, write: Callable[[Path], object], overwrite: bool = False) -> None:
    """Let ``write`` fill a temporary folder beside ``target``, and give it the name: there whole or not at all.

    Args:
        target: the folder; one that is there is replaced only if it holds a README.md, as all that is written so does.
        write: fills a folder.
        overwrite: whether it may be replaced.

    Raises:
        BadInput: the target is there already, or was not written so.
        StriateError: the disk is full; nothing is left.
    """
    if target.exists() and not overwrite:
        raise BadInput(f"{target} is there already: choose another place, or give --overwrite")
    if target.exists() and not (target / "README.md").exists():
        raise BadInput(f"{target} was not written by an export: it is not overwritten")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        write(part)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, Exception) and not isinstance(error, StriateError) and is_full_disk(error):
            raise full_disk(target) from None
        raise


def sole_writer(lock: Path, busy: str) -> IO[bytes]:
    """Take a lock file, which goes with the process or when it is closed.

    Raises:
        BadInput: another process has it (``busy`` says what that means), or its folder cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        opened = lock.open("wb")
    except OSError as error:
        raise BadInput(f"{lock.parent} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        opened.close()
        raise BadInput(busy) from None
    return opened


def full_disk(file: Path) -> FullDisk:
    """The error that says what is safe and what to do."""
    return FullDisk(f"the disk is full while writing {file}: what was saved before is safe; make room and go on")
