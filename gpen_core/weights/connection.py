"""Connections that come to an end: what a server sends is timed and counted from its first byte on, headers and redirects included.

The timeout of a socket counts anew with every byte, so that a server which sends one byte a second would hold it for ever.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import io
import ssl
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any, cast

_HEAD_BYTES = 1 << 20


class FetchError(Exception):
    """An address did not give the file.

    again: the same address may give the rest when asked once more. restart: what is there already does not belong to its file.
    """

    def __init__(self, message: str, *, again: bool = False, restart: bool = False) -> None:
        # Part of it is the server's own words, which may be long and may steer a terminal.
        words = " ".join(message.split())
        words = "".join(character if character.isprintable() else "?" for character in words)
        super().__init__(words if len(words) <= 600 else f"{words[:600]}…")
        self.again = again
        self.restart = restart


@dataclass(frozen=True)
class Limits:
    """Within which a download goes on. silent: seconds without a byte. head: seconds until an answer begins, redirects included.

    least_speed: bytes a second, over every `window` seconds of waiting for the server. whole: seconds for a file in all, all mirrors
    together. pause: seconds before the same address is asked again; doubled each time it brings nothing new.
    """

    silent: float = 10.0
    head: float = 30.0
    least_speed: float = 4096.0
    window: float = 60.0
    whole: float = 24 * 3600.0
    pause: float = 0.5
    clock: Callable[[], float] = time.monotonic


class Watch:
    """Stops one request that takes too long, by FetchError. deadline: the clock's time at which all ends."""

    def __init__(self, limits: Limits, deadline: float) -> None:
        self._limits, self._deadline = limits, deadline
        self._start = self._asked = limits.clock()
        self._in_head = True
        self._bytes, self._waited = 0, 0.0

    def head_is_over(self) -> None:
        """From now on the speed counts."""
        self._in_head = False
        self._bytes, self._waited = 0, 0.0

    def ask(self) -> None:
        """Something is waited for."""
        self._asked = self._limits.clock()

    def got(self, count: int) -> None:
        """So many bytes came. Only waiting counts as the server's time: a slow disk, or a caller that thinks, is not its fault."""
        limits, now = self._limits, self._limits.clock()
        self._bytes += count
        self._waited += now - self._asked
        if now >= self._deadline:
            raise FetchError(f"the download took longer than {limits.whole / 3600:g} h in all")
        if self._in_head:
            if now - self._start >= limits.head:
                raise FetchError(f"no answer within {limits.head:g} s")
            if self._bytes > _HEAD_BYTES:
                raise FetchError("its answer's head does not end")
        elif self._waited >= limits.window:
            if self._bytes < limits.least_speed * self._waited:
                raise FetchError(f"it is too slow: {self._bytes} bytes in {self._waited:.0f} s")
            self._bytes, self._waited = 0, 0.0


def open_url(request: urllib.request.Request, limits: Limits, watch: Watch) -> Any:
    """As urllib's urlopen, watched, for http and https only. Raises what that raises, and FetchError."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
        _Http(watch),
        _Https(watch),
    ):
        opener.add_handler(handler)
    return opener.open(request, timeout=limits.silent)


class _Watched(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, watch: Watch) -> None:
        self._raw, self._watch = raw, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._watch.ask()
        count = self._raw.readinto(buffer)
        self._watch.got(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _watched(kind: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    """`kind` of connection, whose answers are watched (a proxy's answer too)."""

    class Response(http.client.HTTPResponse):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            inner = cast("Any", self.fp).detach()
            self.fp = io.BufferedReader(_Watched(inner, watch))

    def connect(host: str, **settings: Any) -> Any:
        connection = kind(host, **settings)
        connection.response_class = Response
        return connection

    return connect


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._connect: Any = _watched(http.client.HTTPConnection, watch)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connect, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._connect: Any = _watched(http.client.HTTPSConnection, watch)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connect, req, context=_certificates())


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https, but never from https to what anybody on the way can change."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        kind = newurl.split(":", 1)[0].lower()
        if kind != "https" and (kind != "http" or req.type == "https"):
            fp.close()
            raise FetchError(f"it leads to {newurl}, an address of a kind that is not followed from {req.type}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # pyright: ignore[reportArgumentType]


def _certificates() -> ssl.SSLContext:
    """The system's certificates, and certifi's where it is installed: Python on macOS comes without any."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        context.load_verify_locations(cast("Any", importlib.import_module("certifi")).where())
    return context
