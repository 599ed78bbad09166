"""Pictures in: readers of every source, the decoder, and the store of fixed-size pictures.

The names below load on first use: a process that only decodes starts without the libraries of tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.images.importing import ImportCounts as ImportCounts
    from striate.images.importing import import_images as import_images
    from striate.images.importing import total_counts as total_counts
    from striate.images.items import ArraySource as ArraySource
    from striate.images.items import Item as Item
    from striate.images.items import Rejected as Rejected
    from striate.images.store import ImageStore as ImageStore
    from striate.images.writer import StoreWriter as StoreWriter

_HOMES = {
    "ImportCounts": "importing",
    "import_images": "importing",
    "total_counts": "importing",
    "ArraySource": "items",
    "Item": "items",
    "Rejected": "items",
    "ImageStore": "store",
    "StoreWriter": "writer",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"striate.images.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'striate.images' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
