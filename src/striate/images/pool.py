"""Decoding on all cores: chunks of a source go to worker processes and come back in order, whatever happens to a worker.

Workers are fresh interpreters, never forks of whatever threads the caller has; while they start, chunks are decoded here. A
chunk comes back as one block of pixels, so that handing work over costs little beside decoding it; the chunks on their way
are bounded, so memory is. A picture that kills its worker is found by decoding its neighbours without it, and rejected;
workers end when the importing process does, even when that was killed.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path

import numpy as np

from striate.errors import StriateError
from striate.images.decode import Target, decode_sized, own_limits
from striate.images.items import Item, Rejected
from striate.images.jpeg import encode_jpeg
from striate.images.treatment import Treatment

Data = bytes | Path | np.ndarray | Rejected


@dataclass(frozen=True)
class Decoded:
    """What became of a chunk.

    Attributes:
        pixels: uint8 (kept, c, h, w), the pictures that could be decoded, in order.
        notes: one an item: (True, SHA-256 of its pixels), or (False, why it was rejected).
        sizes: (width, height) that each of the kept files says it has, in order.
        encoded: the same pictures as JPEG, where that is asked for.
    """

    pixels: np.ndarray
    notes: list[tuple[bool, str]]
    sizes: list[tuple[int, int]]
    encoded: list[bytes] | None = None


def decode_all(data: list[Data], target: Target) -> Decoded:
    """Decode a chunk, wherever this is called."""
    block = np.empty((len(data), *target.shape), dtype=np.uint8)
    notes: list[tuple[bool, str]] = []
    sizes: list[tuple[int, int]] = []
    kept = 0
    with own_limits():
        for one in data:
            try:
                if isinstance(one, Rejected):
                    raise one
                picture, size = decode_sized(one, target)
                block[kept] = _treated(picture, target)
                sizes.append(size)
                notes.append((True, hashlib.sha256(block[kept]).hexdigest()))
                kept += 1
            except Rejected as reason:
                notes.append((False, str(reason)))
    if target.quality is None:
        return Decoded(block[:kept], notes, sizes)
    return Decoded(block[:kept], notes, sizes, [encode_jpeg(picture, target.quality) for picture in block[:kept]])


def _treated(picture: np.ndarray, target: Target) -> np.ndarray:
    """The picture, or what its treatment makes of it; its own pixels name the draws, so that a copy becomes a copy."""
    if target.treat is None:
        return picture
    number = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:7], "big")
    return Treatment(size=target.shape[1], seed=target.treat).apply(picture, number)


def decoded_chunks(chunks: Iterator[list[Item]], target: Target, processes: int) -> Iterator[tuple[list[Item], Decoded]]:
    """Each chunk and what became of it, in order, by this many processes; 1 decodes here.

    Raises:
        StriateError: processes cannot be started.
    """
    if processes <= 1:
        for chunk in chunks:
            yield chunk, decode_all([item.data for item in chunk], target)
        return
    crew = _Crew(processes, target)
    try:
        for chunk in chunks:
            if not crew.ready:
                yield chunk, decode_all([item.data for item in chunk], target)
                continue
            crew.submit(chunk)
            if len(crew.waiting) > 2 * processes:
                yield from crew.take()
        while crew.waiting:
            yield from crew.take()
    finally:
        crew.dismiss()


class _Crew:
    """Worker processes, replaced when one of them dies."""

    def __init__(self, processes: int, target: Target) -> None:
        self._processes, self._target = processes, target
        self._pool = _start(processes)
        self._arrivals = [self._pool.submit(os.getpid) for _ in range(processes)]
        self.waiting: deque[tuple[list[Item], Future[Decoded]]] = deque()

    @property
    def ready(self) -> bool:
        """Whether a worker has come up; until then the time is better spent decoding here."""
        try:
            return any(arrival.done() and arrival.result() for arrival in self._arrivals)
        except BrokenProcessPool:
            raise _cannot_start() from None

    def submit(self, chunk: list[Item]) -> None:
        try:
            future = self._pool.submit(decode_all, [item.data for item in chunk], self._target)
        except BrokenProcessPool as broken:
            future = Future()
            future.set_exception(broken)
        self.waiting.append((chunk, future))

    def take(self) -> Iterator[tuple[list[Item], Decoded]]:
        """The oldest chunk; after the death of a worker, all that was on its way."""
        chunk, future = self.waiting[0]
        try:
            done = future.result()
        except BrokenProcessPool:
            yield from self._recover()
            return
        self.waiting.popleft()
        yield chunk, done

    def _recover(self) -> Iterator[tuple[list[Item], Decoded]]:
        self._pool.shutdown()
        while self.waiting:
            chunk, future = self.waiting.popleft()
            lost = future.cancelled() or future.exception() is not None
            yield chunk, decode_carefully([item.data for item in chunk], self._target) if lost else future.result()
        self._pool = _start(self._processes)

    def dismiss(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def decode_carefully(data: list[Data], target: Target) -> Decoded:
    """Decode a chunk that was lost with its worker: once more, then one by one until the culprit is found."""
    try:
        return _alone(data, target)
    except BrokenProcessPool:
        if len(data) > 1:
            half = len(data) // 2
            first, second = decode_carefully(data[:half], target), decode_carefully(data[half:], target)
            encoded = None if first.encoded is None or second.encoded is None else first.encoded + second.encoded
            pixels = np.concatenate([first.pixels, second.pixels])
            return Decoded(pixels, first.notes + second.notes, first.sizes + second.sizes, encoded)
        none: list[bytes] | None = None if target.quality is None else []
        return Decoded(np.empty((0, *target.shape), np.uint8), [(False, "damaged: decoding it ended the process")], [], none)


def _alone(data: list[Data], target: Target) -> Decoded:
    with _start(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            raise _cannot_start() from None
        return pool.submit(decode_all, data, target).result()


def _cannot_start() -> StriateError:
    return StriateError(
        "decoding processes cannot start: run with --workers 1 (in a script of your own, call import_images "
        "under `if __name__ == '__main__':`)"
    )


def _start(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_at_work)


def _at_work() -> None:
    """Ctrl-C is the importing process's to answer; if that is gone, so is the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
