"""A worker's side of a pool: it is brought work once, and items one by one.

What is imported here is imported by every worker process: neither torch nor the libraries of tables.
"""

from __future__ import annotations

import pickle
import platform
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from striate.errors import BadInput, StriateError

# What numbers and decoded pixels depend on. (Ray compares its own version, and Python's.)
_COMPARED = ("striate", "torch", "numpy", "pillow", "simplejpeg")
# Works kept by a process: one may be fed by another.
_KEPT = 3
_kept: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()


@dataclass(frozen=True)
class Chore:
    """Work on its way to workers.

    Attributes:
        name: no other work has it.
        packed: a reference to what `pack` gave, in a list so that Ray hands it on unread.
        threads: of products, as many as the driver has: sums may depend on it.
        versions: the driver's.
    """

    name: str
    packed: list[Any]
    threads: int
    versions: dict[str, str]


class Done(NamedTuple):
    """What became of an item: a result, or why there is none."""

    result: Any
    error: StriateError | None


def pack(work: Callable[[Any], Any]) -> list[Any]:
    """Work as bytes, and its arrays as they lie in memory: all processes of a machine then read the same ones."""
    arrays: list[pickle.PickleBuffer] = []
    packed = pickle.dumps(work, protocol=5, buffer_callback=arrays.append)
    return [packed, *(np.frombuffer(array.raw(), dtype=np.uint8) for array in arrays)]


def unpack(packed: list[Any]) -> Callable[[Any], Any]:
    """The work; its arrays cannot be written to."""
    work: Callable[[Any], Any] = pickle.loads(packed[0], buffers=packed[1:])
    return work


@lru_cache
def own_versions() -> dict[str, str]:
    """Of the libraries that results depend on; those that are not installed are left out."""
    found = {}
    for name in _COMPARED:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def carry_out(chore: Chore, item: Any) -> Done:
    """Do the work on one item, in a worker's process. Errors that can be named are results: the driver raises them in order."""
    try:
        work = _brought(chore)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(chore.threads)
        return Done(work(item), None)
    except StriateError as error:
        return Done(None, type(error)(str(error)))
    except Exception as error:
        line = next(iter(str(error).splitlines()), "")
        told = StriateError(f"a worker on {platform.node()} failed: {type(error).__name__}: {line}")
        # Seen with --debug.
        told.add_note(traceback.format_exc())
        return Done(None, told)


def _brought(chore: Chore) -> Callable[[Any], Any]:
    work = _kept.get(chore.name)
    if work is None:
        import ray

        _check_versions(chore.versions)
        work = _kept[chore.name] = unpack(ray.get(chore.packed[0]))
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    return work


def _check_versions(wanted: dict[str, str]) -> None:
    """Raise `BadInput` where a library is another than the driver's: results might differ."""
    found = own_versions()
    for name, theirs in wanted.items():
        if found.get(name) != theirs:
            raise BadInput(
                f"the worker on {platform.node()} has {name} {found.get(name, 'not installed')}, this machine {theirs}: "
                "install the same versions on all machines of the cluster"
            )
