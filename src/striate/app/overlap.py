"""Reading ahead and writing behind: threads that keep a model from waiting for files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")
# Results that wait, at most: enough for uneven steps, little enough for memory. What is written waits longer: a disk that is
# waited for takes as long as some blocks.
_DEPTH, _BEHIND = 2, 4


def ahead(make: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """``make(item)`` of every item in order, made in another thread while the caller works on those before it."""
    left = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming: deque[Future[_Out]] = deque()
        try:
            while True:
                for item in left:
                    coming.append(pool.submit(make, item))
                    if len(coming) > _DEPTH:
                        break
                if not coming:
                    return
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


class Behind:
    """Calls made one after another in another thread; an error in one is raised here, by a later call or at the end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._pending: deque[Future[object]] = deque()

    def __enter__(self) -> Behind:
        return self

    def call(self, work: Callable[..., object], *arguments: object) -> None:
        """Have ``work(*arguments)`` done; waits while too much is waiting."""
        self._pending.append(self._pool.submit(work, *arguments))
        while len(self._pending) > _BEHIND:
            self._pending.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            for future in self._pending:
                future.result()
