"""Who holds which units of a layer, or which examples of a batch."""

from __future__ import annotations

import itertools

from striate.errors import BadInput


def slices(size: int, count: int, what: str) -> list[slice]:
    """Cut ``size`` things into ``count`` pieces that differ by one at most; the longer ones come first.

    Args:
        size: how many things.
        count: how many pieces.
        what: the things, for the error.

    Raises:
        BadInput: a piece would be empty.
    """
    if count > size:
        raise BadInput(f"{count} processes cannot share {size} {what}: start {size} at most")
    short, longer = divmod(size, count)
    starts = [piece * short + min(piece, longer) for piece in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(starts)]


def length(piece: slice) -> int:
    """How many things a slice of both ends holds."""
    return int(piece.stop - piece.start)
