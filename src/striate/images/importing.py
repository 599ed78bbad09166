"""Importing: a source's pictures, decoded on all cores, into a store, each accounted for.

The order is the source's whatever the number of workers; what is committed is skipped on the next call, so an import that
was stopped (or killed) goes on where it was, and one that was finished adds nothing.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from striate.errors import BadInput
from striate.images.afar import decoded_afar
from striate.images.decode import Target
from striate.images.items import UNLABELLED, Item, Rejected, Source
from striate.images.pool import Decoded, decoded_chunks
from striate.images.sources import SourceOptions, open_source
from striate.images.sources.devkit import DevkitSource
from striate.images.work import Each
from striate.images.writer import Counts, StoreWriter

# Big enough that handing work over costs little beside decoding it, small enough that memory stays bounded.
_CHUNK_ITEMS = 128
_CHUNK_BYTES = 8 << 20
_COMMIT_ROWS = 8192
_COMMIT_BYTES = 128 << 20
_COMMIT_SECONDS = 5.0
_DEFAULT_SIDE = 32
# Starting a worker process costs about a third of a second: not worth it below this many pictures.
_FEW = 2000

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
    min_side: int = 8,
    name: str | None = None,
    quality: int | None = None,
    treat: int | None = None,
    skip: int = 0,
    devkit: str | Path | None = None,
    commit_every: int = _COMMIT_ROWS,
    progress: Progress | None = None,
    each: Each | None = None,
) -> ImportCounts:
    """Bring pictures into a store, making it if there is none.

    Args:
        source: a path (see `striate.images.sources`) or anything that yields items.
        store: the store's directory.
        size: side, or (height, width), in pixels; by default 32, or the arrays' own where the source is arrays.
        fit: `crop` scales the shorter side and cuts the centre, `stretch` ignores the aspect ratio.
        mode: rgb or grey; by default rgb, or what the source's arrays are.
        limit: stop after this many pictures of the source.
        workers: processes that decode; by default one a core for large sources, 1 (this process) for small ones.
        every: of a video, one frame in this many; 0 takes the middle frame of each file.
        tiny_order: `columns` or `rows`, of a tiny-images file.
        max_pixels: a header promising more is rejected undecoded.
        min_side: pictures with a shorter side below this many pixels are rejected.
        name: what the source is called in the store; by default its path.
        quality: keep pictures as JPEG of this quality, rather than raw.
        treat: seed of a random treatment that makes all pictures alike but for what they show (`Treatment`): grey, square.
        skip: leave out so many pictures of the source first.
        devkit: folder of ImageNet's development kit, which knows the class of every validation picture.
        commit_every: pictures after which everything so far is made to survive a kill; it happens every 5 seconds, and
            every 128 MiB of pixels, besides.
        progress: called with the number of pictures done since the last call.
        each: has chunks decoded elsewhere, instead of `workers`; the store is the same. What needs no decoding stays here.

    Raises:
        BadInput: no such source, an empty one, or a store of another shape or version.
        StriateError: the disk is full; what was committed is safe.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"--limit must be at least 1, found {limit}")
    if skip < 0:
        raise BadInput(f"--skip cannot be negative, found {skip}")
    opened = open_source(source, SourceOptions(every, tiny_order)) if isinstance(source, str | Path) else source
    if devkit is not None:
        opened = DevkitSource(opened, Path(devkit))
    name = name or (str(Path(source).resolve()) if isinstance(source, str | Path) else "memory")
    if quality is not None and not 1 <= quality <= 100:
        raise BadInput(f"--jpeg is a quality from 1 to 100, found {quality}")
    target = Target(_shape(opened, size, mode, Path(store)), fit, max_pixels, min_side, quality, treat)
    if treat is not None and (target.shape[0] != 1 or target.shape[1] != target.shape[2]):
        raise BadInput(f"--treat makes square grey pictures, not {target.shape}: give --mode grey and one --size")
    with StoreWriter(store, target.shape, quality=quality) as writer:
        before = writer.counts(name).kept
        for class_name in opened.class_names:
            writer.label_of(class_name)
        items = _unrepeated(itertools.islice(opened, skip, None if limit is None else skip + limit))
        if opened.natural_shape == target.shape and treat is None:
            # Nothing to decode: handing arrays to other processes costs more than it saves.
            workers, each = 1, None
        decoded = _decode(items, writer, name, target, workers, progress or (lambda done: None), each)
        _write(decoded, opened.class_names, writer, name, commit_every)
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


def _unrepeated(items: Iterator[Item]) -> Iterator[Item]:
    """Keys name pictures: another picture under a key that was used is rejected under a key of its own."""
    times: dict[str, int] = {}
    for item in items:
        times[item.key] = count = times.get(item.key, 0) + 1
        if count > 1:
            reason = Rejected(f"duplicate key: the source names {count} pictures {item.key!r} so far")
            item = replace(item, key=f"{item.key} ({count})", data=reason)
        yield item


Work = Iterator[tuple[list[Item], Decoded]]


def _decode(
    items: Iterator[Item],
    writer: StoreWriter,
    name: str,
    target: Target,
    workers: int | None,
    progress: Progress,
    each: Each | None,
) -> Work:
    """Chunks of what the store has not seen yet, decoded."""

    def fresh() -> Iterator[Item]:
        for item in items:
            if writer.has(name, item.key):
                progress(1)
            else:
                yield item

    chunks = _chunks(fresh(), target)
    if each is not None:
        done = decoded_afar(chunks, target, each)
    else:
        few, processes = _split_work(chunks, workers)
        done = decoded_chunks(few, target, processes)
    for chunk, decoded in done:
        yield chunk, decoded
        progress(len(chunk))


def _write(work: Work, class_names: list[str], writer: StoreWriter, name: str, commit_every: int) -> None:
    committed = time.monotonic()
    for chunk, decoded in work:
        _record(chunk, decoded, class_names, writer, name)
        full = writer.pending >= commit_every or writer.pending_bytes >= _COMMIT_BYTES
        if full or time.monotonic() - committed > _COMMIT_SECONDS:
            writer.commit()
            committed = time.monotonic()


def _record(chunk: list[Item], decoded: Decoded, class_names: list[str], writer: StoreWriter, name: str) -> None:
    files: Sequence[bytes | None] = [None] * len(decoded.pixels) if decoded.encoded is None else decoded.encoded
    pictures = iter(zip(decoded.pixels, decoded.sizes, files, strict=True))
    for item, (kept, note) in zip(chunk, decoded.notes, strict=True):
        if not kept:
            writer.reject(note, key=item.key, source=name)
            continue
        label = item.label
        if UNLABELLED < label < len(class_names):
            label = writer.label_of(class_names[label])
        pixels, size, encoded = next(pictures)
        writer.append(pixels, note, key=item.key, source=name, label=label, term=item.term, size=size, encoded=encoded)


def _split_work(chunks: Iterator[list[Item]], workers: int | None) -> tuple[Iterator[list[Item]], int]:
    """The chunks, and how many processes they are worth."""
    if workers is not None:
        return chunks, workers
    wanted = max(1, _FEW // _CHUNK_ITEMS)
    first = list(itertools.islice(chunks, wanted))
    return itertools.chain(first, chunks), (os.cpu_count() or 1) if len(first) == wanted else 1


def _chunks(items: Iterator[Item], target: Target) -> Iterator[list[Item]]:
    """Pieces of work, bounded in number, in bytes that go in and in bytes that come out."""
    most = max(1, min(_CHUNK_ITEMS, _CHUNK_BYTES // math.prod(target.shape)))
    chunk: list[Item] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(item.data) if isinstance(item.data, bytes) else getattr(item.data, "nbytes", 0)
        if len(chunk) >= most or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def total_counts(store: str | Path) -> Counts:
    """What became of every picture ever shown to a store."""
    from striate.images.store import TABLES, read_rows

    kept, rejected, duplicates = (len(read_rows(Path(store), table)) for table in TABLES)
    return Counts(kept, rejected, duplicates)
