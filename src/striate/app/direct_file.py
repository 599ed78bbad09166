"""A file that is written once and in order, past the system's cache of files.

What is written is not read again soon, and may be larger than memory. Through the cache every megabyte costs a copy, fresh
pages, and writing them back later, on the very processors that a model computes with: ten times what handing it to the disk
costs.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Any

# What disks take at once without asking much of the processor; their blocks, and so all offsets and lengths, divide a page.
_BUFFER, _PAGE = 4 << 20, 4096
_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """A growing file. Where the file system knows no direct writing, it is written as any other.

    Args:
        path: the file; made if it is not there.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._direct = bool(_DIRECT)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | _DIRECT, 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._direct, self._file = False, os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # Direct writing wants memory that begins where a page does.
        self._memory = mmap.mmap(-1, _BUFFER)
        self._view = memoryview(self._memory)
        self._base, self._filled = 0, 0

    def fileno(self) -> int:
        """For locks."""
        return self._file

    @property
    def size(self) -> int:
        """Bytes on disk, of which the last may be padding."""
        return os.fstat(self._file).st_size

    def begin(self, kept: int) -> None:
        """Go on after the first bytes, which are there; the others are thrown away.

        Args:
            kept: how many.
        """
        os.ftruncate(self._file, kept)
        self._filled = kept % _PAGE
        self._base = kept - self._filled
        if self._filled:
            os.preadv(self._file, [self._view[:_PAGE]], self._base)

    def write(self, data: Any) -> int:
        """Add bytes: anything that shows a contiguous buffer."""
        left = memoryview(data).cast("B")
        count = len(left)
        while len(left):
            some = min(_BUFFER - self._filled, len(left))
            self._view[self._filled : self._filled + some] = left[:some]
            self._filled, left = self._filled + some, left[some:]
            if self._filled == _BUFFER:
                self._put()
        return count

    def sync(self) -> None:
        """Have all so far safe on the disk. The last page is padded there."""
        self._put()
        os.fsync(self._file)

    def finish(self) -> None:
        """The same, without padding."""
        self._put()
        os.ftruncate(self._file, self._base + self._filled)
        os.fsync(self._file)

    def close(self) -> None:
        """Leave it; what was not synced may be lost."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _put(self) -> None:
        """Write what is in memory; what does not fill a page stays there, to be written again with what follows."""
        length, at = self._filled, 0
        if self._direct:
            length += -length % _PAGE
            self._view[self._filled : length] = bytes(length - self._filled)
        while at < length:
            try:
                at += os.pwrite(self._file, self._view[at:length], self._base + at)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                # Opened so, but the disk's blocks are larger than pages, or a write was cut short.
                self._write_as_others()
        rest = self._filled % _PAGE
        whole = self._filled - rest
        self._view[:rest] = self._view[whole : self._filled]
        self._base, self._filled = self._base + whole, rest

    def _write_as_others(self) -> None:
        self._direct = False
        fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) & ~_DIRECT)
