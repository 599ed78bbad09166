"""Importing: a source's pictures, decoded on all cores, into a store, each accounted for.

The order is the source's whatever the number of workers; what is committed is skipped on the next call, so an import that
was stopped (or killed) goes on where it was, and one that was finished adds nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from striate.errors import BadInput, StriateError
from striate.images.decode import Target, decode
from striate.images.items import UNLABELLED, Item, Rejected, Source
from striate.images.sources import SourceOptions, open_source
from striate.images.writer import Counts, StoreWriter

# Big enough that handing work over costs little beside decoding it, small enough that memory stays bounded.
_CHUNK_ITEMS = 128
_CHUNK_BYTES = 8 << 20
_COMMIT_ROWS = 8192
_COMMIT_SECONDS = 5.0
_DEFAULT_SIDE = 32
# Starting worker processes costs about half a second: not worth it below this many pictures.
_FEW = 400

Progress = Callable[[int], None]


@dataclass(frozen=True)
class ImportCounts:
    """What became of a source's pictures, over every import of it: seen = kept + rejected + duplicates.

    Attributes:
        added: pictures kept by this import alone.
    """

    seen: int
    kept: int
    rejected: int
    duplicates: int
    added: int


def import_images(
    source: str | Path | Source,
    store: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    mode: Literal["rgb", "grey"] | None = None,
    limit: int | None = None,
    workers: int | None = None,
    every: int = 1,
    tiny_order: str = "columns",
    max_pixels: int = 100_000_000,
    name: str | None = None,
    progress: Progress | None = None,
) -> ImportCounts:
    """Bring pictures into a store, making it if there is none.

    Args:
        source: a path (see `striate.images.sources`) or anything that yields items.
        store: the store's directory.
        size: side, or (height, width), in pixels; by default 32, or the arrays' own where the source is arrays.
        fit: `crop` scales the shorter side and cuts the centre, `stretch` ignores the aspect ratio.
        mode: rgb or grey; by default rgb, or what the source's arrays are.
        limit: stop after this many pictures of the source.
        workers: processes that decode; by default one a core, none for small sources.
        every: of a video, one frame in this many; 0 takes the middle frame of each file.
        tiny_order: `columns` or `rows`, of a tiny-images file.
        max_pixels: a header promising more is rejected undecoded.
        name: what the source is called in the store; by default its path.
        progress: called with the number of pictures done since the last call.

    Raises:
        BadInput: no such source, an empty one, or a store of another shape or version.
        StriateError: the disk is full, or a decoding process died; what was committed is safe.
    """
    opened = open_source(source, SourceOptions(every, tiny_order)) if isinstance(source, str | Path) else source
    name = name or (str(Path(source).resolve()) if isinstance(source, str | Path) else "memory")
    target = Target(_shape(opened, size, mode, Path(store)), fit, max_pixels)
    with StoreWriter(store, target.shape) as writer:
        before = writer.counts(name).kept
        for class_name in opened.class_names:
            writer.label_of(class_name)
        items = itertools.islice(opened, limit) if limit is not None else iter(opened)
        _import(items, opened, writer, name, target, workers, progress or (lambda done: None))
        writer.finish()
        counts = writer.counts(name)
    if counts.seen == 0:
        raise BadInput(f"{name} holds no pictures")
    return ImportCounts(counts.seen, counts.kept, counts.rejected, counts.duplicates, counts.kept - before)


def _shape(source: Source, size: int | tuple[int, int] | None, mode: str | None, store: Path) -> tuple[int, int, int]:
    natural = source.natural_shape
    if size is None:
        size = natural[1:] if natural else _DEFAULT_SIDE
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise BadInput(f"--size must be at least 1 pixel, found {height}x{width}")
    if mode is None:
        mode = "grey" if natural and natural[0] == 1 else "rgb"
    return (1 if mode == "grey" else 3), height, width


def _import(
    items: Iterator[Item],
    source: Source,
    writer: StoreWriter,
    name: str,
    target: Target,
    workers: int | None,
    progress: Progress,
) -> None:
    committed = time.monotonic()

    def fresh() -> Iterator[Item]:
        for item in items:
            if writer.has(name, item.key):
                progress(1)
            else:
                yield item

    for chunk, results in _decoded(_chunks(fresh()), target, workers):
        for item, (image, note) in zip(chunk, results, strict=True):
            if image is None:
                writer.reject(note, key=item.key, source=name)
            else:
                label = item.label
                if label != UNLABELLED and label < len(source.class_names):
                    label = writer.label_of(source.class_names[label])
                writer.append(image, note, key=item.key, source=name, label=label, term=item.term)
        progress(len(chunk))
        if writer.pending >= _COMMIT_ROWS or time.monotonic() - committed > _COMMIT_SECONDS:
            writer.commit()
            committed = time.monotonic()


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(item.data) if isinstance(item.data, bytes) else getattr(item.data, "nbytes", 0)
        if len(chunk) >= _CHUNK_ITEMS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


Decoded = tuple[np.ndarray | None, str]


def _decoded(chunks: Iterator[list[Item]], target: Target, workers: int | None) -> Iterator[tuple[list[Item], list[Decoded]]]:
    """Each chunk with, for each item, (picture, its digest) or (None, the reason); in order."""
    chunks = iter(chunks)
    first = list(itertools.islice(chunks, max(1, _FEW // _CHUNK_ITEMS))) if workers is None else []
    few = workers is None and len(first) < max(1, _FEW // _CHUNK_ITEMS)
    processes = (os.cpu_count() or 1) if workers is None else workers
    chunks = itertools.chain(first, chunks)
    if few or processes <= 1:
        for chunk in chunks:
            yield chunk, decode_all([item.data for item in chunk], target)
    else:
        yield from _in_processes(chunks, target, processes)


def _in_processes(chunks: Iterator[list[Item]], target: Target, processes: int) -> Iterator[tuple[list[Item], list[Decoded]]]:
    waiting: deque[tuple[list[Item], Future[list[Decoded]]]] = deque()
    # Fresh interpreters: forking would copy whatever threads the caller has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_quiet) as pool:
        try:
            for chunk in chunks:
                waiting.append((chunk, pool.submit(decode_all, [item.data for item in chunk], target)))
                if len(waiting) > 2 * processes:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        except BrokenProcessPool:
            raise StriateError(
                "a decoding process died (out of memory?): what was committed is safe; run the same command again, "
                "with --workers 1 if it dies again"
            ) from None
        finally:
            for _, future in waiting:
                future.cancel()


def _quiet() -> None:
    """Ctrl-C is the parent's to answer."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def decode_all(data: list[bytes | Path | np.ndarray | Rejected], target: Target) -> list[Decoded]:
    """Decode a chunk: for each item the picture and the SHA-256 of its pixels, or None and the reason."""
    return [_decode_one(one, target) for one in data]


def _decode_one(data: bytes | Path | np.ndarray | Rejected, target: Target) -> Decoded:
    if isinstance(data, Rejected):
        return None, str(data)
    try:
        image = decode(data, target)
    except Rejected as reason:
        return None, str(reason)
    return image, hashlib.sha256(image.tobytes()).hexdigest()


def total_counts(store: str | Path) -> Counts:
    """What became of every picture ever shown to a store."""
    from striate.images.store import TABLES, read_rows

    kept, rejected, duplicates = (len(read_rows(Path(store), table)) for table in TABLES)
    return Counts(kept, rejected, duplicates)
