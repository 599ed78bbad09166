"""Striate: learn layers of visual features from piles of pictures, look at them, measure them, use them.

The names below load on first use, so that ``import striate`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.load import load as load
    from striate.images import ImageStore as ImageStore
    from striate.images import import_images as import_images

__version__ = "0.1.0"

_HOMES = {
    "ImageStore": "striate.images",
    "import_images": "striate.images",
    "load": "striate.app.load",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'striate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
