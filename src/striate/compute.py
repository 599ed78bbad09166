"""Which device and which number format the products run in. Parameters and accumulators are float32 whatever is chosen here."""

from __future__ import annotations

import ctypes
import functools
import time
from typing import Literal

import numpy as np
import torch

from striate.errors import BadInput

ComputeDtype = Literal["auto", "fp32", "tf32", "bf16", "fp64"]

# bf16 must win by this much before `auto` gives up half of fp32's digits for it.
_WORTHWHILE = 1.3


def choose_device(name: str = "auto") -> torch.device:
    """The device a recipe asks for; ``auto`` is the first GPU, else the processor.

    Raises:
        BadInput: a GPU is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        reason = "this torch was built without CUDA" if torch.version.cuda is None else "no GPU or driver was found"
        raise BadInput(f"device {name!r} was asked for, but {reason}: use device=cpu, or install a CUDA build of torch")
    return device


def choose_dtype(
    name: ComputeDtype, device: torch.device | str, shape: tuple[int, int, int] = (128, 1024, 1024)
) -> torch.dtype:
    """The operands' dtype for products of (batch, inputs) by (inputs, outputs); ``auto`` measures both and keeps the faster."""
    device = torch.device(device)
    if name == "auto":
        rates = product_rates(str(device), shape)
        return torch.bfloat16 if rates["bf16"] > _WORTHWHILE * rates["fp32"] else torch.float32
    if name == "tf32" and device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
    return {"bf16": torch.bfloat16, "fp64": torch.float64}.get(name, torch.float32)


@functools.lru_cache(maxsize=32)
def product_rates(device: str, shape: tuple[int, int, int]) -> dict[str, float]:
    """GFLOP/s of a (batch, inputs) @ (inputs, outputs) product in each format, the best of five; about 50 ms."""
    batch, inputs, outputs = (min(n, 4096) for n in shape)
    return {
        label: _rate(torch.device(device), dtype, batch, inputs, outputs)
        for label, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }


def _rate(device: torch.device, dtype: torch.dtype, batch: int, inputs: int, outputs: int) -> float:
    left = torch.ones(batch, inputs, dtype=dtype, device=device)
    right = torch.ones(outputs, inputs, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(6):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(left, right.t())
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2e-9 * batch * inputs * outputs / best


def as_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """An array as a tensor that shares its memory, be it a map or another process's, opened for reading only."""
    if isinstance(array, torch.Tensor):
        return array
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Unlocked(array)))


class _Unlocked:
    """Memory that is read only, described as if it were not: torch warns of the first, and nothing here writes to it."""

    def __init__(self, array: np.ndarray) -> None:
        self._kept = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def synchronise(device: torch.device | str) -> None:
    """Wait until the device has done what it was told (needed only around clocks)."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def keep_memory() -> None:
    """Tell the C library to keep what is freed, rather than give it back and ask for it again at every step.

    Fresh pages must be zeroed by the kernel on first touch: a quarter of a small convolutional net's step on a processor. Where
    the library is another one, nothing happens.
    """
    trim, mmap_threshold, mmap_most, arenas = -1, -3, -4, -8
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    # One arena: the thread that runs backward passes would map arrays of its own otherwise, too large for its arena.
    for option, value in ((arenas, 1), (mmap_threshold, 1 << 30), (mmap_most, 0), (trim, 2**31 - 1)):
        mallopt(option, value)
