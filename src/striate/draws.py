"""Keyed randomness: every draw is named by (seed, purpose, index), never by what was drawn before it.

A stream is Philox 4x64 (Salmon et al. 2011), whose key is a digest of the seed and the purpose and whose counter holds the
index (say, the step). So a change in one purpose leaves the others alone, a resumed run needs no generator state, and any
part of a row-major array of draws can be made by itself: element e comes from counter e // 8, whoever computes it. Machines
that share a model so draw, each for its own units, the numbers that one machine would draw for all.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# One Philox block is four 64-bit words: eight 32-bit ones, and a float32 draw takes one of those.
_DRAWS_PER_BLOCK = 8
Part = tuple[slice, slice]
"""Rows and columns of a two-dimensional array, with both ends given."""

# To begin anew in the middle of a row costs as much as drawing this many numbers that nobody wants.
_DRAWS_PER_JUMP = 1500
# Below this many draws a second thread costs more than it saves (measured: about 30 microseconds to hand over).
_THREADED_DRAWS = 1 << 16


def _key(seed: int, purpose: str) -> np.ndarray:
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype=np.uint64)


def _philox(key: np.ndarray, index: Sequence[int]) -> np.random.Philox:
    if len(index) > 2:
        raise ValueError(f"a stream has at most two indices, got {len(index)}")
    counter = np.array([0, 0, *[0] * (2 - len(index)), *index], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter)


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A numpy generator keyed by the seed, the purpose and up to two indices (say, epoch and picture)."""
    return np.random.Generator(_philox(_key(seed, purpose), index))


class Draws:
    """The random numbers of one step of one model: ``Draws(seed).at(step).uniform("h0", (batch, hidden))``.

    The same (seed, step, name, shape) always gives the same numbers on one kind of device; processors and GPUs differ.
    """

    def __init__(self, seed: int, step: int = 0, purpose: str = "") -> None:
        self.seed = seed
        self.step = step
        self.purpose = purpose

    def at(self, step: int) -> Draws:
        """The draws of another step."""
        return Draws(self.seed, step, self.purpose)

    def within(self, purpose: str) -> Draws:
        """Draws of their own for a part of the computation."""
        return Draws(self.seed, self.step, f"{self.purpose}{purpose}/")

    def uniform(
        self,
        name: str,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        out: Tensor | None = None,
        part: Part | None = None,
    ) -> Tensor:
        """Uniform float32 draws in [0, 1), multiples of 2^-24; never 1.

        Args:
            name: which draws of the step.
            shape: of the whole array.
            device: where to make them.
            out: contiguous, to be filled; of the part's shape if there is one.
            part: the rows and columns wanted, of an array of two dimensions.
        """
        if out is None:
            out = torch.empty(_part_shape(shape, part), dtype=torch.float32, device=device)
        if out.device.type != "cpu":
            if part is None:
                return out.uniform_(generator=self._torch_generator(name, out.device))
            # A GPU draws a whole layer in less time than it takes to begin anything cleverer.
            return out.copy_(self.uniform(name, shape, out.device)[part])
        key = _key(self.seed, self.purpose + name)
        if part is None or _all_columns(shape, part):
            _fill_uniform(out, key, self.step, part[0].start * shape[1] if part else 0)
        else:
            _fill_part(out, key, self.step, shape[1], *part)
        return out

    def normal(
        self,
        name: str,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        out: Tensor | None = None,
        part: Part | None = None,
    ) -> Tensor:
        """Standard normal float32 draws, by Box and Muller's transform of the uniform ones; arguments as of `uniform`."""
        if out is None:
            out = torch.empty(_part_shape(shape, part), dtype=torch.float32, device=device)
        if out.device.type != "cpu":
            if part is None:
                return out.normal_(generator=self._torch_generator(name, out.device))
            return out.copy_(self.normal(name, shape, out.device)[part])
        if part is not None:
            return self._part_of_normal(name, shape, part, out)
        half = (out.numel() + 1) // 2
        pairs = self.uniform(name, (2, half))
        radius = pairs[0].neg_().log1p_().mul_(-2).sqrt_()
        angle = pairs[1].mul_(2 * math.pi)
        flat = out.view(-1)
        torch.mul(radius, angle.cos(), out=flat[:half])
        rest = out.numel() - half
        torch.mul(radius[:rest], angle[:rest].sin_(), out=flat[half:])
        return out

    def _part_of_normal(self, name: str, shape: Sequence[int], part: Part, out: Tensor) -> Tensor:
        """Element e of n takes its radius from draw e mod n/2 and its angle from the one n/2 on; here rows do."""
        count = shape[0]
        rows, columns = part
        if count % 2 or not len(out):
            # Rows do not pair up with rows: an odd batch is rare enough to be drawn as a whole.
            return out.copy_(self.normal(name, shape)[part])
        half = count // 2
        for first in (0, half):
            top, bottom = max(rows.start, first), min(rows.stop, first + half)
            if top >= bottom:
                continue
            radius, angle = (
                self.uniform(name, shape, part=(slice(top - first + start, bottom - first + start), columns))
                for start in (0, half)
            )
            radius.neg_().log1p_().mul_(-2).sqrt_()
            angle.mul_(2 * math.pi)
            torch.mul(radius, angle.sin_() if first else angle.cos_(), out=out[top - rows.start : bottom - rows.start])
        return out

    def _torch_generator(self, name: str, device: torch.device) -> torch.Generator:
        digest = hashlib.blake2b(f"{self.seed}/{self.purpose}{name}/{self.step}".encode(), digest_size=8).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


_POOL = ThreadPoolExecutor(max_workers=64, thread_name_prefix="draws")


def _part_shape(shape: Sequence[int], part: Part | None) -> tuple[int, ...]:
    return tuple(shape) if part is None else tuple(one.stop - one.start for one in part)


def _all_columns(shape: Sequence[int], part: Part) -> bool:
    return (part[1].start, part[1].stop) == (0, shape[1])


def _fill_uniform(out: Tensor, key: np.ndarray, step: int, first: int = 0) -> None:
    """Fill a contiguous CPU tensor with the draws from number ``first`` on, in parts, one a thread.

    (numpy leaves the interpreter's lock while it draws.)
    """
    flat = out.view(-1).numpy()

    def fill(start: int, stop: int) -> None:
        _Spans(key, step).fill(flat[start:stop], first + start)

    _in_threads(fill, flat.size, flat.size, _DRAWS_PER_BLOCK)


def _fill_part(out: Tensor, key: np.ndarray, step: int, width: int, rows: slice, columns: slice) -> None:
    """Fill (rows, columns) of an array of that width: a span of draws a row."""
    if width - (columns.stop - columns.start) < _DRAWS_PER_JUMP:
        whole = torch.empty(rows.stop - rows.start, width)
        _fill_uniform(whole, key, step, rows.start * width)
        out.copy_(whole[:, columns])
        return
    table = out.numpy()

    def fill(start: int, stop: int) -> None:
        spans = _Spans(key, step)
        for row in range(start, stop):
            spans.fill(table[row], (rows.start + row) * width + columns.start)

    _in_threads(fill, len(table), table.size, 1)


class _Spans:
    """Draws of one array from any number on; forwards is quick."""

    def __init__(self, key: np.ndarray, step: int) -> None:
        self._philox = _philox(key, (step,))
        self._generator = np.random.Generator(self._philox)
        self._at = 0

    def fill(self, out: np.ndarray, first: int) -> None:
        """Draws ``first``, ``first`` + 1, ... into a contiguous array."""
        block, skipped = divmod(first, _DRAWS_PER_BLOCK)
        # Advancing also drops what is left of a block that was begun.
        self._philox.advance((block - self._at) % 2**256)
        if skipped:
            self._generator.random(skipped, dtype=np.float32)
        self._generator.random(out=out, dtype=np.float32)
        self._at = -(-(first + out.size) // _DRAWS_PER_BLOCK)


def _in_threads(fill: Callable[[int, int], None], count: int, draws: int, multiple: int) -> None:
    """Cut a range into one piece a thread, each a multiple of so many but the last."""
    threads = torch.get_num_threads() if draws >= _THREADED_DRAWS else 1
    length = max(-(-count // (threads * multiple)) * multiple, 1)
    pieces = [(start, min(start + length, count)) for start in range(0, count, length)]
    others = [_POOL.submit(fill, *piece) for piece in pieces[1:]]
    if pieces:
        fill(*pieces[0])
    for other in others:
        other.result()
