"""A picture from the web, for who asked for that: http and https alone, of bounded size, within a bounded time."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import IO

from striate.errors import BadInput

MOST_BYTES = 32 << 20
TIME_LIMIT_S = 15.0
_PIECE = 1 << 16
_SCHEMES = ("http://", "https://")


def is_address(name: str) -> bool:
    """Whether a name is an address rather than a file: it says a scheme."""
    return "://" in name


def fetch(address: str, most_bytes: int = MOST_BYTES, limit_s: float = TIME_LIMIT_S) -> bytes:
    """What is at an address.

    Raises:
        BadInput: another scheme (be it by redirection), nothing there, more bytes than that, or not within the time.
    """
    if not address.lower().startswith(_SCHEMES):
        raise BadInput(f"{address}: expected an address that begins with http:// or https://")
    deadline = time.monotonic() + limit_s
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _WebRedirects,
    )
    for handler in handlers:
        opener.add_handler(handler())
    request = urllib.request.Request(address, headers={"User-Agent": "striate", "Accept": "image/*"})
    try:
        with opener.open(request, timeout=limit_s) as answer:
            return _read(answer, address, most_bytes, deadline)
    except BadInput:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise BadInput(f"{address} cannot be fetched: {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BadInput(f"{address} cannot be fetched: {getattr(error, 'reason', None) or error}") from None


def _read(answer: IO[bytes], address: str, most_bytes: int, deadline: float) -> bytes:
    data = bytearray()
    while piece := answer.read1(_PIECE):  # type: ignore[attr-defined]
        data += piece
        if len(data) > most_bytes:
            raise BadInput(f"{address} is larger than {most_bytes:,} bytes, the limit: download it and give the file")
        if time.monotonic() > deadline:
            raise BadInput(f"{address} took longer than the limit: download it and give the file")
    return bytes(data)


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https, no further (urllib's own would go on to ftp)."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        """The request to follow with."""
        if not newurl.lower().startswith(_SCHEMES):
            raise BadInput(f"{req.full_url} leads to {newurl}: expected an address that begins with http:// or https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
