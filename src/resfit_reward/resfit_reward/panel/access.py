"""Who may use the panel: this machine freely, everything else with a token, no foreign page."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "resfit_panel"
HEADER = "x-panel-token"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def is_local(host: str) -> bool:
    """Return whether an address or a host name means this machine."""
    if host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Return a token nobody guesses."""
    return secrets.token_urlsafe(18)


@dataclass(frozen=True)
class Request:
    """What of a request decides: names as in HTTP, header names in lower case."""

    client: str
    headers: dict[str, str]
    query: dict[str, list[str]]

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """Read it off an ASGI scope."""
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return cls((scope.get("client") or ("", 0))[0], headers, query)

    @property
    def tokens(self) -> list[str]:
        """Every token it carries: header, query, cookie."""
        found = [self.headers.get(HEADER, ""), *self.query.get("token", [])]
        try:
            cookies = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        if COOKIE in cookies:
            found.append(cookies[COOKIE].value)
        return found


class Rules:
    """Decides on one request.

    A page of another site, open in the operator's browser, can send requests here: what carries
    a foreign `Origin` is refused. A name that was made to point at this machine (DNS rebinding)
    fails on the `Host` header. Both would otherwise press buttons without any token.
    """

    def __init__(self, token: str) -> None:
        """Set the token for everything that is not this machine."""
        self._token = token

    def why_not(self, request: Request) -> str:
        """Return why the request is refused, in words; empty: it is not."""
        host = request.headers.get("host", "")
        origin = request.headers.get("origin", "")
        if origin and urlsplit(origin).netloc.lower() != host.lower():
            return f"a page of {origin} may not use this panel"
        if self.knows(request):
            return ""
        if not is_local(request.client):
            return "the token is missing: open the address that the panel printed at its start"
        if not is_local(urlsplit(f"//{host}").hostname or ""):
            return f"'{host}' is not a name of this machine: open http://localhost"
        return ""

    def knows(self, request: Request) -> bool:
        """Return whether the request carries the token."""
        mine = self._token.encode()
        return any(hmac.compare_digest(t.encode(), mine) for t in request.tokens if t)


class Gate:
    """ASGI middleware for HTTP and WebSocket alike."""

    def __init__(self, app: App, rules: Rules) -> None:
        """Stand before `app`."""
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or refuse; a token in the address moves into a cookie."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = Request.of(scope)
        why_not = self._rules.why_not(request)
        if why_not and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why_not[:120]})
        elif why_not:
            await _answer(send, 403, why_not.encode())
        elif scope["type"] == "http" and "token" in request.query and self._rules.knows(request):
            cookie = f"{COOKIE}={request.query['token'][0]}; HttpOnly; SameSite=Strict; Path=/"
            await _answer(send, 303, b"", (b"location", b"/"), (b"set-cookie", cookie.encode()))
        else:
            await self._app(scope, receive, send)


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    plain = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [plain, *headers]})
    await send({"type": "http.response.body", "body": body})
