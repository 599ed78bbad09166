"""Work on many things in order: here, or wherever somebody else has it done.

Whoever goes through a store block by block takes an `Each` and need not know of processes or machines. Blocks are cut by the
work, never by the number of workers, so that numbers do not depend on who worked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class Each(Protocol):
    """Has work done on items, some of them at a time."""

    def __call__(
        self, work: Callable[[In], Out], items: Iterable[In], otherwise: Callable[[In], Out] | None = None
    ) -> Iterator[tuple[In, Out]]:
        """Each item and what became of it, in the items' order.

        Args:
            work: the same whoever does it, and however often: what is lost on the way is done again.
            items: read as they are needed.
            otherwise: done here with an item that ends whoever works on it; by default that is an error.
        """
        ...


def one_by_one(
    work: Callable[[In], Out], items: Iterable[In], otherwise: Callable[[In], Out] | None = None
) -> Iterator[tuple[In, Out]]:
    """In this process."""
    for item in items:
        yield item, work(item)
