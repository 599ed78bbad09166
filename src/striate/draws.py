"""Keyed randomness: every draw is named by (seed, purpose, index), never by what was drawn before it.

A stream is Philox 4x64 (Salmon et al. 2011), whose key is a digest of the seed and the purpose and whose counter holds the
index (say, the step). So a change in one purpose leaves the others alone, a resumed run needs no generator state, and any
part of a row-major array of draws can be made by itself: element e comes from counter e // 8, whoever computes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# One Philox block is four 64-bit words: eight 32-bit ones, and a float32 draw takes one of those.
_DRAWS_PER_BLOCK = 8
# Below this many draws a second thread costs more than it saves (measured: about 30 microseconds to hand over).
_THREADED_DRAWS = 1 << 16


def _key(seed: int, purpose: str) -> np.ndarray:
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype=np.uint64)


def _philox(key: np.ndarray, index: Sequence[int], block: int = 0) -> np.random.Generator:
    if len(index) > 2:
        raise ValueError(f"a stream has at most two indices, got {len(index)}")
    counter = np.array([block, 0, *[0] * (2 - len(index)), *index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A numpy generator keyed by the seed, the purpose and up to two indices (say, epoch and picture)."""
    return _philox(_key(seed, purpose), index)


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
    ) -> Tensor:
        """Uniform float32 draws in [0, 1), multiples of 2^-24; never 1."""
        if out is None:
            out = torch.empty(tuple(shape), dtype=torch.float32, device=device)
        if out.device.type == "cpu":
            _fill_uniform(out, _key(self.seed, self.purpose + name), self.step)
        else:
            out.uniform_(generator=self._torch_generator(name, out.device))
        return out

    def normal(
        self,
        name: str,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        out: Tensor | None = None,
    ) -> Tensor:
        """Standard normal float32 draws, by Box and Muller's transform of the uniform ones."""
        if out is None:
            out = torch.empty(tuple(shape), dtype=torch.float32, device=device)
        if out.device.type != "cpu":
            return out.normal_(generator=self._torch_generator(name, out.device))
        half = (out.numel() + 1) // 2
        pairs = self.uniform(name, (2, half))
        radius = pairs[0].neg_().log1p_().mul_(-2).sqrt_()
        angle = pairs[1].mul_(2 * math.pi)
        flat = out.view(-1)
        torch.mul(radius, angle.cos(), out=flat[:half])
        rest = out.numel() - half
        torch.mul(radius[:rest], angle[:rest].sin_(), out=flat[half:])
        return out

    def _torch_generator(self, name: str, device: torch.device) -> torch.Generator:
        digest = hashlib.blake2b(f"{self.seed}/{self.purpose}{name}/{self.step}".encode(), digest_size=8).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


_POOL = ThreadPoolExecutor(max_workers=64, thread_name_prefix="draws")


def _fill_uniform(out: Tensor, key: np.ndarray, step: int) -> None:
    """Fill a contiguous CPU tensor in parts, one a thread (numpy leaves the interpreter's lock while it draws)."""
    flat = out.view(-1).numpy()
    threads = torch.get_num_threads() if flat.size >= _THREADED_DRAWS else 1
    length = -(-flat.size // (threads * _DRAWS_PER_BLOCK)) * _DRAWS_PER_BLOCK
    starts = range(0, flat.size, max(length, 1))

    def fill(start: int) -> None:
        part = flat[start : start + length]
        _philox(key, (step,), start // _DRAWS_PER_BLOCK).random(out=part, dtype=np.float32)

    if len(starts) <= 1:
        for start in starts:
            fill(start)
    else:
        others = [_POOL.submit(fill, start) for start in starts[1:]]
        fill(0)
        for other in others:
            other.result()
