"""What stands before the page and the API: who may ask, and from where. Pure ASGI; knows neither gradio nor FastAPI."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

NAME = "gpen"  # shown beside the password; any name is accepted
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The page brings all of its scripts, styles and fonts: a browser must ask nobody else for any.
_OURS_ONLY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
_HEADERS = (
    (b"content-security-policy", _OURS_ONLY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """Refuses requests that a stranger's web page makes, or that lack the password.

    password: None: none is needed. loopback_only: take only requests for this machine's own names; a stranger's domain that leads here
    (DNS rebinding) has another.
    """

    def __init__(self, app: Any, *, password: str | None = None, loopback_only: bool = True) -> None:
        self._app, self._password, self._loopback_only = app, password, loopback_only
        self.at_end: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self.refusal(headers)
        if refusal is None:
            await self._app(scope, receive, _adding(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send, *refusal)

    def refusal(self, headers: MutableMapping[str, str]) -> tuple[int, str] | None:
        """(status, reason) for a request that is not answered; None if it is. headers: with names in lower case."""
        host = headers.get("host", "")
        if self._loopback_only and _name(host) not in _LOOPBACK:
            return 403, "this page answers only under 127.0.0.1 or localhost"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return 403, "another web page may not use this one"
        if origin is None and headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, "another web page may not use this one"
        if self._password is not None and not self._knows(headers.get("authorization", "")):
            return 401, "name or password is wrong"
        return None

    def _knows(self, given: str) -> bool:
        kind, _, text = given.partition(" ")
        try:
            password = base64.b64decode(text).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        return kind.lower() == "basic" and secrets.compare_digest(password, (self._password or "").encode())


def _name(host: str) -> str:
    """The host's name without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _adding(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sent


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="GPEN", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": reason}).encode()})
