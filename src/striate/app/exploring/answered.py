"""What requests ask for, checked: numbers in addresses, bodies of a bounded size."""

from __future__ import annotations

from starlette.requests import Request

from striate.errors import BadInput


class TooLarge(BadInput):
    """A body beyond the limit."""

    status = 413


def whole_number(text: str | None, what: str, most: int = 1 << 53) -> int:
    """A number from 0 on.

    Raises:
        BadInput: it is none.
    """
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > most:
        raise BadInput(f"expected a {what} as a number from 0 on, found {(text or '')[:20]!r}")
    return int(text)


def whole_numbers(text: str, what: str, most: int) -> list[int]:
    """Numbers apart by commas.

    Raises:
        BadInput: one is none, or there are too many.
    """
    parts = text.split(",") if text else []
    if len(parts) > most:
        raise BadInput(f"at most {most} at once, found {len(parts):,}")
    return [whole_number(part, what) for part in parts]


async def body_of(request: Request, limit: int) -> bytes:
    """A request's body, read no further than a limit.

    Raises:
        TooLarge: it is longer.
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise TooLarge(f"a file of {int(told) / 1e6:,.0f} MB: at most {limit / 1e6:,.0f} MB are taken")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLarge(f"more than {limit / 1e6:,.0f} MB were sent")
        parts.append(part)
    return b"".join(parts)
