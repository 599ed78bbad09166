"""What `striate doctor` finds out: packages, memory, disk, rates of products and decoding, how long typical jobs would take."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

# Packages that nothing works without. (Metadata of a checkout's package may be older than the checkout.)
CORE = (
    "torch",
    "numpy",
    "pillow",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "rich",
    "safetensors",
    "scikit-learn",
    "scikit-image",
    "matplotlib",
    "tensorboard",
    "jinja2",
    "scipy",
    "starlette",
    "uvicorn",
    "markdown-it-py",
    "simplejpeg",
)
# Extras of the package: what they hold, and what for.
EXTRAS = {
    "video": (("av",), "frames of videos"),
    "faiss": (("faiss-cpu",), "near-duplicates and search beyond some millions of pictures"),
    "export": (("onnx", "onnxscript", "onnxruntime"), "models for other programs as ONNX, checked after writing"),
    "tsne": (("opentsne",), "maps of tens of thousands of pictures in a minute"),
    "umap": (("umap-learn",), "another map of a collection in `striate serve`"),
    "ray": (("ray", "simpy"), "replicas that train one model asynchronously"),
    "timm": (("timm",), "pretrained networks as encoders beside your own"),
    "docs": (("sphinx", "myst-parser", "furo"), "building the site of the documentation"),
}
# Packages that no extra names, and what is without them.
COMPANIONS = {
    "cleanlab": "the peer in `striate bench labelling`",
    "imagededup": "the peer in `striate bench duplicates`",
}

# Seconds of whole jobs on two cores whose products ran at 400 GFLOP/s in bf16 (docs/findings.md).
_REFERENCE_GFLOP_S = 400.0
JOBS = {
    "striate learn FOLDER": 60.0,
    "striate train krizhevsky2012/cifar-80sec": 133.0,
    "striate reproduce krizhevsky2009 --size small": 921.0,
}
_LEAST_DISK_GB = 1.0
_LEAST_MEMORY_GB = 1.0
# bf16 keeps 8 bits of its operands; a product of 256 terms of the order of 1 is off by less than this share of its size.
_TOLERANCES = {"fp32": 1e-5, "bf16": 2e-2}


def missing_extras() -> dict[str, dict[str, object]]:
    """What is absent, by extra or package: the packages, what they are for, the command that installs them."""
    extras = {name: (packages, purpose, f"pip install 'striate[{name}]'") for name, (packages, purpose) in EXTRAS.items()}
    companions = {name: ((name,), purpose, f"pip install {name}") for name, purpose in COMPANIONS.items()}
    found: dict[str, dict[str, object]] = {}
    for extra, (packages, purpose, how) in {**extras, **companions}.items():
        if absent := [name for name in packages if not installed(name)]:
            found[extra] = {"packages": absent, "purpose": purpose, "install": how}
    return found


def missing_core() -> list[str]:
    """Packages that Striate cannot do without and that are not here."""
    return [name for name in CORE if not installed(name)]


def installed(name: str) -> bool:
    """Whether a distribution is here. (Nothing is imported: some take seconds.)"""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def memory_gb() -> float | None:
    """Memory of this machine in units of 2^30 bytes, where the system tells it."""
    return _pages("SC_PHYS_PAGES")


def free_memory_gb() -> float | None:
    """Memory that could be had now: what is free, and caches that would be given up."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return round(int(found.group(1)) / 2**20, 1)
    except OSError:
        pass
    return _pages("SC_AVPHYS_PAGES")


def _pages(name: str) -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf(name) / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def free_disk_gb(folder: Path) -> float:
    """Room on the disk of a folder, in units of 2^30 bytes."""
    return round(shutil.disk_usage(folder).free / 2**30, 1)


def decoding_rate_per_s(side_px: int = 256, seconds: float = 0.2) -> float | None:
    """Photographs of a side decoded by one core a second, from JPEG of quality 90 in memory; None without a decoder."""
    from striate.images.jpeg import decode_jpeg, encode_jpeg

    if not installed("simplejpeg"):
        return None
    ramp = np.linspace(0, 12 * np.pi, side_px)
    levels = 120 + 60 * np.sin(ramp)[None, :, None] * np.cos(ramp)[None, None, :] + np.array([-20, 0, 20])[:, None, None]
    data = encode_jpeg(levels.astype(np.uint8), 90)
    out = np.empty((side_px, side_px, 3), np.uint8)
    return _rate_per_s(lambda: decode_jpeg(data, 3, out), seconds)


def writing_gb_s(seconds: float = 0.2) -> dict[str, float]:
    """10^9 bytes a second written to memory: the same array again, and arrays that are fresh each time, as steps make them."""
    size = 8 << 20
    kept = torch.empty(size, dtype=torch.uint8)
    again = _rate_per_s(lambda: kept.fill_(1), seconds)
    fresh = _rate_per_s(lambda: torch.empty(size, dtype=torch.uint8).fill_(1), seconds)
    return {"kept": round(again * size / 1e9, 1), "fresh": round(fresh * size / 1e9, 1)}


def _rate_per_s(work: Callable[[], object], seconds: float) -> float:
    work()
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or not count:
        work()
        count += 1
    return count / passed


def keeps_memory() -> bool:
    """Whether the C library can be told to keep what is freed (glibc)."""
    import ctypes

    try:
        return hasattr(ctypes.CDLL(None), "mallopt")
    except (OSError, TypeError):
        return False


def wrong_products(device: torch.device) -> list[str]:
    """Formats whose products are off by more than rounding explains, beside the same product in float64."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator, dtype=torch.float64) for _ in range(2))
    exact = left @ right
    wrong = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        product = (left.to(device, dtype) @ right.to(device, dtype)).cpu().double()
        if not (product - exact).abs().max() <= _TOLERANCES[name] * exact.abs().max():
            wrong.append(name)
    return wrong


def job_seconds(gflop_s: float) -> dict[str, float]:
    """About how long typical jobs would take here, scaled by the rate of products from where they were measured."""
    return {job: float(f"{seconds * _REFERENCE_GFLOP_S / gflop_s:.2g}") for job, seconds in JOBS.items()}


def problems(folder: Path, device: torch.device) -> list[str]:
    """What keeps Striate from working here, a line each, with what to do."""
    found = [f"{name} is not installed: pip install {name}" for name in missing_core()]
    if not os.access(folder, os.W_OK):
        found.append(f"{folder} cannot be written to: go to a folder of your own")
    if (disk := free_disk_gb(folder)) < _LEAST_DISK_GB:
        found.append(f"{disk:g} GB free on the disk of {folder}, a store or run may need {_LEAST_DISK_GB:g}: make room")
    if (memory := free_memory_gb()) is not None and memory < _LEAST_MEMORY_GB:
        found.append(f"{memory:g} GB of memory free, training needs {_LEAST_MEMORY_GB:g} or more: close other programs")
    for name in wrong_products(device):
        found.append(f"products in {name} on {device} are wrong: use train.dtype={'fp32' if name == 'bf16' else 'bf16'}")
    return found
