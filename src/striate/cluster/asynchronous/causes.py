"""An engine's errors in a few words."""

from __future__ import annotations

# Memory that spills to a full disk is what nearly always becomes of full memory.
_FULL = ("ObjectStoreFullError", "OutOfDiskError")


def cause(error: Exception) -> str:
    """What went wrong, without the engine's own stack."""
    if any(name in str(error) or name == type(error).__name__ for name in _FULL):
        return (
            "Ray's shared memory is full, and its disk: start its machines with more (`ray start --object-store-memory BYTES`)"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in reversed(lines):
        head, _, tail = line.partition(": ")
        if head.rpartition(".")[2] in ("BadInput", "StriateError", "Poisoned", "Diverged") and tail:
            return tail
    if "creation task" in str(error):
        return lines[-1]
    if "Died" in type(error).__name__ or "Unavailable" in type(error).__name__:
        return "its process died"
    return lines[-1] if lines else type(error).__name__
