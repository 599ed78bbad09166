"""A store in another process, maybe on another machine: it travels as its path, and must be the same one there."""

from __future__ import annotations

import platform
from functools import lru_cache

from striate.errors import BadInput
from striate.images.store import ImageStore


@lru_cache(maxsize=8)
def reopened(path: str, digest: str) -> ImageStore:
    """The store with this digest, opened once in a process.

    Raises:
        BadInput: there is none at this path, or another one.
    """
    try:
        store = ImageStore(path)
    except BadInput as error:
        raise BadInput(f"{platform.node()} does not see the store that it is to work on ({error}): {_SHARE}") from None
    if store.digest != digest:
        raise BadInput(f"{platform.node()} sees another store at {path} (digest {store.digest}, here {digest}): {_SHARE}")
    return store


_SHARE = "every machine of the cluster must see the same pictures at the same path"
