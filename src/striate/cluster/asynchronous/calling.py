"""A shard's process as others call it: answers that are on their way, and values that lie in shared memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from striate.cluster.pauses import Waiting
from striate.cluster.server import Message, Values
from striate.cluster.shards import Receipt, Version

# Smaller values travel in the answer itself, as Ray's own arguments do.
LARGE = 100_000


class Shared(NamedTuple):
    """Values by reference.

    Attributes:
        version: of the values.
        reference: of the array, in a list so that Ray hands it on unread.
    """

    version: Version
    reference: list[Any]


class RayDoor:
    """One shard's process.

    Args:
        actor: its handle.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def pull(self, known: Version | None) -> Waiting[Values]:
        """Its values."""
        return _Later(self._actor, self._actor.pull.remote(known), None)

    def push(self, message: Message) -> Waiting[Receipt]:
        """What is sent is copied before this returns."""
        return _Later(self._actor, self._actor.push.remote(message), None)

    def swap(self, message: Message) -> Waiting[tuple[Receipt, Values]]:
        """Both."""
        return _Later(self._actor, self._actor.swap.remote(message), message)


class _Later:
    """An answer that is on its way: first the answer, then values that it refers to."""

    def __init__(self, actor: Any, reference: Any, swapped: Message | None) -> None:
        self._actor, self._reference, self._swaps = actor, reference, swapped is not None
        self._answer: Any = None

    def ready(self, within_s: float = 0.0) -> bool:
        """Whether all of it is on this machine, or comes within a time."""
        import ray

        if self._answer is None:
            if not ray.wait([self._reference], timeout=within_s)[0]:
                return False
            self._answer = (ray.get(self._reference),)
        shared = self._shared()
        return shared is None or bool(ray.wait(shared.reference, timeout=within_s)[0])

    def _shared(self) -> Shared | None:
        found = self._answer[0][1] if self._swaps else self._answer[0]
        return found if isinstance(found, Shared) else None

    def get(self) -> Any:
        """It, waited for. A shard that is begun again is waited for, too."""
        import ray

        if self._answer is None:
            self._answer = (ray.get(self._reference),)
        shared, answer = self._shared(), self._answer[0]
        if shared is None:
            return answer
        values = self._fetched(shared)
        return (Receipt(*answer[0]), values) if self._swaps else values

    def _fetched(self, shared: Shared) -> Values:
        import ray

        found: Any = shared
        while isinstance(found, Shared):
            try:
                return Values(found.version, ray.get(found.reference[0]))
            except ray.exceptions.ObjectLostError:
                # It died with the shard that had put it; the shard lives again, or will.
                found = ray.get(self._actor.pull.remote(None))
        return Values(*found)
