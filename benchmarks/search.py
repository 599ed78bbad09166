"""Claim: exact search at the speed of the bare product and of FAISS's flat index; ten million codes in 0.15 s.

Rows of 4,096 numbers in a memory map (1,000,000 of them, 16 GB as float32; 80,000 with --quick), 100 queries at once, k = 10;
codes of 256 bits, a query at a time on one thread. The rows are standard normal, the hardest case for a screen: all lie at
nearly the same distance. Files lie in a temporary folder (TMPDIR says where) and are deleted.
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
import torch

from striate.app.feature_files import FORMAT, VERSION, Features, MappedRows
from striate.app.quick_search import InvertedLists, Method, SignCodes, quick_search
from striate.app.screen import Screen
from striate.measure.retrieval import Codes, nearest, row_norms
from timing import interleaved, row

_DIM, _QUERIES, _K = 4096, 100, 10
_BLOCK = 4096


def write_rows(file: Path, count: int, dtype: torch.dtype) -> torch.Tensor:
    """Standard normal rows, written block by block, as a tensor over the memory map."""
    random = np.random.default_rng(0)
    with file.open("wb") as opened:
        for start in range(0, count, _BLOCK):
            block = torch.from_numpy(random.standard_normal((min(_BLOCK, count - start), _DIM), dtype=np.float32))
            opened.write(block.to(dtype).contiguous().view(torch.uint8).numpy().data)
    return torch.from_file(str(file), shared=True, size=count * _DIM, dtype=dtype).view(count, _DIM)


def bare(operand: torch.Tensor, rows: torch.Tensor, width: int) -> Callable[[], None]:
    """Only the products, into the same block of scores again and again."""

    def call() -> None:
        for start in range(0, len(rows), width):
            torch.mm(operand, rows[start : start + width].t())

    return call


def exact(folder: Path, name: str, dtype: torch.dtype, count: int, rounds: int) -> list[dict[str, object]]:
    queries = np.random.default_rng(1).standard_normal((_QUERIES, _DIM)).astype(np.float32)
    rows = write_rows(folder / name, count, dtype)
    searched = rows.numpy() if dtype == torch.float32 else rows
    norms, operand = row_norms(searched), torch.from_numpy(queries).to(dtype)
    # The better of two block sizes stands for the bare product.
    calls: dict[str, Callable[[], object]] = {
        "bare product, blocks of 2,048 s": bare(operand, rows, 2048),
        "bare product, blocks of 16,384 s": bare(operand, rows, 16_384),
        "ours s": lambda: nearest(queries, searched, _K, "l2"),
        "ours, norms known s": lambda: nearest(queries, searched, _K, "l2", norms=norms),
    }
    if dtype == torch.float32:
        calls["faiss flat, l2 s"] = lambda: faiss.knn(queries, searched, _K)
        calls["faiss flat, products s"] = lambda: faiss.knn(queries, searched, _K, metric=faiss.METRIC_INNER_PRODUCT)
        calls["ours, float32 products alone s"] = lambda: nearest(queries, searched, _K, "l2", dtype=torch.float32)
    seconds = interleaved(calls, rounds)
    product = min(value for key, value in seconds.items() if key.startswith("bare"))
    what = f"exact search, l2, {count:,} x {_DIM:,} {name} in a memory map, {_QUERIES} queries"
    ours = "ours s" if dtype == torch.float32 else "ours, norms known s"
    found = [row(f"{what}: share of the bare product's speed ({ours[:-2]})", product / seconds[ours], "", ">= 0.7", seconds)]
    if dtype == torch.float32:
        answer = nearest(queries, searched, _K, "l2", norms=norms).positions
        same = {"same neighbours": float(np.mean(answer == faiss.knn(queries, searched, _K)[1]))}
        ratio = seconds["faiss flat, l2 s"] / seconds["ours s"]
        found.append(row(f"{what}: faiss flat's time / ours", ratio, "times", ">= 1", same))
        ratio = seconds["faiss flat, products s"] / seconds["ours, norms known s"]
        found.append(row(f"{what}: faiss flat's time (inner products) / ours, norms known", ratio, "times", ">= 1"))
    (folder / name).unlink()
    return found


def codes(count: int, rounds: int) -> list[dict[str, object]]:
    """One query at a time, one thread."""
    random = np.random.default_rng(2)
    packed, query = random.integers(0, 2**64, (count, 4), dtype=np.uint64), random.integers(0, 2**64, (1, 4), dtype=np.uint64)
    flat = faiss.IndexBinaryFlat(256)
    flat.add(packed.view(np.uint8))
    by_faiss, by_numpy = Codes(packed, "faiss"), Codes(packed, "numpy")
    calls: dict[str, Callable[[], object]] = {
        "ours, faiss's scan s": lambda: by_faiss.nearest(query, _K),
        "ours, plain numpy s": lambda: by_numpy.nearest(query, _K),
        "faiss IndexBinaryFlat s": lambda: flat.search(query.view(np.uint8), _K),
    }
    with one_thread():
        seconds = interleaved(calls, rounds)
    assert np.array_equal(by_faiss.nearest(query, _K).positions, by_numpy.nearest(query, _K).positions)
    what = f"Hamming search of {count:,} codes of 256 bits, one query, one thread"
    ratio = seconds["faiss IndexBinaryFlat s"] / seconds["ours, faiss's scan s"]
    return [
        row(what, seconds["ours, plain numpy s"], "s, plain numpy", "< 0.15", seconds),
        row(f"{what}: IndexBinaryFlat's time / ours", ratio, "times", ">= 1"),
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    threads, others = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(others)


def by_index(folder: Path, count: int, rounds: int) -> list[dict[str, object]]:
    """Quick search of rows with structure: 64 hidden numbers seen through 512 rectified ones, in groups."""
    random = np.random.default_rng(3)
    mixing, centres = random.standard_normal((64, 512)).astype(np.float32), random.standard_normal((1000, 64))
    rows = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float16, (count, 512))
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        hidden = centres[random.integers(0, 1000, stop - start)] + 0.7 * random.standard_normal((stop - start, 64))
        rows[start:stop] = np.maximum(hidden.astype(np.float32) @ mixing, 0)
    about = {"format": FORMAT, "version": VERSION, "model": "-", "store": "-", "layer": "-", "count": count, "dim": 512}
    features = Features(folder / "features.npy", about, MappedRows(rows, list))
    norms, query = row_norms(rows), rows[:1].astype(np.float32)
    methods: dict[str, Method] = {"faiss, inverted lists": InvertedLists(), "codes of 256 bits": SignCodes(256)}
    calls: dict[str, Callable[[], object]] = {"exact": lambda: nearest(query, rows, _K, norms=norms)}
    kept = {}
    for name, method in methods.items():
        started = time.perf_counter()
        made = quick_search(features, method, "cosine", Screen(quiet=True))
        kept[name] = {"recall at 10": made.about["recall"], "made in s": time.perf_counter() - started}
        calls[name] = functools.partial(made.engine, query, _K)
    seconds = interleaved(calls, rounds)
    return [
        row(
            f"{name}, {count:,} x 512, one query",
            1000 * seconds[name],
            "ms",
            "recall >= 0.95",
            known | {"exact ms": 1000 * seconds["exact"]},
        )
        for name, known in kept.items()
    ]


def rows(quick: bool = False) -> list[dict[str, object]]:
    # A pass over 16 GB takes seconds; medians of three.
    rounds = 3
    with tempfile.TemporaryDirectory() as folder:
        count = 80_000 if quick else 1_000_000
        found = exact(Path(folder), "float32", torch.float32, count, rounds)
        found += exact(Path(folder), "bf16", torch.bfloat16, count, rounds)
        found += codes(1_000_000 if quick else 10_000_000, rounds)
        return found + by_index(Path(folder), 50_000 if quick else 1_000_000, rounds)


if __name__ == "__main__":
    print(json.dumps(rows(), indent=1))
