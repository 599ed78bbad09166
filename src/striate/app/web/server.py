"""The server: loopback unless told otherwise, a token for every page and request, and nothing loaded from anywhere else.

The token comes once in the address that the command prints; the server puts it into a cookie that scripts cannot read and other
sites do not send, and asks for it with every request. A content security policy forbids scripts in pages, so that a file's name
that is HTML stays a name.
"""

from __future__ import annotations

import errno
import hmac
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from striate.app.screen import Screen
from striate.errors import BadInput, StriateError

COOKIE = "striate_token"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'"
)


class Guard:
    """Asks for the token, and sends headers that keep pages to themselves."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.query_params.get("token")
        if given is not None and hmac.compare_digest(given.encode(), self._token.encode()):
            # Out of the address, lest it be shared or stay in a history.
            rest = "&".join(f"{key}={value}" for key, value in request.query_params.multi_items() if key != "token")
            answer: Response = RedirectResponse(request.url.path + (f"?{rest}" if rest else ""), status_code=303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", path="/")
            await answer(scope, receive, send)
            return
        shown = request.cookies.get(COOKIE, "")
        if not hmac.compare_digest(shown.encode(), self._token.encode()):
            message = "This page needs its token: open the address that `striate` printed when it started."
            answer = PlainTextResponse(message, status_code=403)
            await answer(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


@dataclass(frozen=True)
class Link:
    """A line of the navigation."""

    address: str
    name: str


def templates(links: Sequence[Link] = (), below: Sequence[Link] = ()) -> jinja2.Environment:
    """The pages, everything from outside escaped; links of their navigation, and of a second line below it."""
    found = resources.files("striate.app.web").joinpath("templates")
    loader = jinja2.FunctionLoader(lambda name: found.joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"links": links, "below": below}
    return environment


def page(environment: jinja2.Environment, template: str, /, **values: Any) -> HTMLResponse:
    """A page as it is sent; never kept by browsers. `here`: the address that the navigation marks."""
    return HTMLResponse(environment.get_template(template).render(**values), headers={"cache-control": "no-store"})


def application(routes: Sequence[Route], token: str, host: str) -> Starlette:
    """Routes behind the guard, with the assets that pages share."""
    static = Mount("/static", StaticFiles(directory=str(resources.files("striate.app.web").joinpath("static"))), name="static")
    # Somebody else's page cannot reach a loopback server under another name.
    hosts = ["*"] if host not in _LOOPBACK else [*_LOOPBACK, "testserver"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Guard, token=token)]
    handlers: Any = {StriateError: _refused, 404: _missing}
    return Starlette(routes=[*routes, static], middleware=middleware, exception_handlers=handlers)


def _refused(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, BadInput) else 507
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": str(error)}, status_code=getattr(error, "status", status))
    return PlainTextResponse(str(error), status_code=status)


def _missing(request: Request, error: Exception) -> Response:
    return PlainTextResponse("There is no such page.", status_code=404)


def new_token() -> str:
    """Unguessable."""
    return secrets.token_urlsafe(24)


def address(host: str, port: int, token: str) -> str:
    """What a person opens."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/?token={token}"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        BadInput: the port is in use, or the host is not this machine's.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        why = "is in use" if getattr(error, "errno", None) == errno.EADDRINUSE else f"cannot be listened on ({error})"
        raise BadInput(f"{host}:{port} {why}: give another --port, or 0 for any that is free") from None
    return listening


def say_address(listening: socket.socket, host: str, token: str, screen: Screen) -> None:
    """What a person opens; whoever opens the door wide is warned."""
    own, port = listening.getsockname()[:2]
    if host not in _LOOPBACK:
        screen.warn(f"listening on {host}: whoever reaches this machine and has the address can see the pictures")
    screen.say(f"open {address(own if host in ('0.0.0.0', '::') else host, port, token)}")


def serve(app: Starlette, listening: socket.socket, started: Callable[[], None] = lambda: None) -> None:
    """Answer requests until interrupted."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="off")
    server = uvicorn.Server(config)
    started()
    # The server ends by itself on Ctrl-C and SIGTERM, then raises what it caught once more.
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
