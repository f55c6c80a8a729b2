"""HTTP connections with time and speed limits on everything a server sends, including headers and redirects.

A socket's timeout starts again with every byte, so a server that sends one byte a second could hold a connection for ever.
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
    """An address did not deliver the file.

    again: a new request to the same address may deliver the rest. restart: the bytes on disk belong to another version of the file.
    """

    def __init__(self, message: str, *, again: bool = False, restart: bool = False) -> None:
        # The message may quote the server, whose text may be long or hold terminal control characters.
        words = " ".join(message.split())
        words = "".join(character if character.isprintable() else "?" for character in words)
        super().__init__(words if len(words) <= 600 else f"{words[:600]}…")
        self.again = again
        self.restart = restart


@dataclass(frozen=True)
class Limits:
    """The limits of a download. silent: seconds without a byte. head: seconds until an answer begins, including redirects.

    least_speed: bytes per second, over every `window` seconds of waiting for the server. whole: seconds for one file over all mirrors.
    pause: seconds before asking the same address again; doubled after each attempt without new bytes.
    """

    silent: float = 10.0
    head: float = 30.0
    least_speed: float = 4096.0
    window: float = 60.0
    whole: float = 24 * 3600.0
    pause: float = 0.5
    clock: Callable[[], float] = time.monotonic


class Watch:
    """Stops a request that takes too long, with FetchError. deadline: clock time at which the download ends."""

    def __init__(self, limits: Limits, deadline: float) -> None:
        self._limits, self._deadline = limits, deadline
        self._start = self._asked = limits.clock()
        self._in_head = True
        self._bytes, self._waited = 0, 0.0

    def head_is_over(self) -> None:
        """Marks the end of the header; from now on the speed limit applies."""
        self._in_head = False
        self._bytes, self._waited = 0, 0.0

    def ask(self) -> None:
        """Marks the start of a wait for the server."""
        self._asked = self._limits.clock()

    def got(self, count: int) -> None:
        """Counts received bytes and checks the limits. Only waiting counts: a slow disk or a busy caller is not the server's fault."""
        limits, now = self._limits, self._limits.clock()
        self._bytes += count
        self._waited += now - self._asked
        if now >= self._deadline:
            raise FetchError(f"the download took longer than {limits.whole / 3600:g} h in total")
        if self._in_head:
            if now - self._start >= limits.head:
                raise FetchError(f"no answer within {limits.head:g} s")
            if self._bytes > _HEAD_BYTES:
                raise FetchError("the header of its answer is too long")
        elif self._waited >= limits.window:
            if self._bytes < limits.least_speed * self._waited:
                raise FetchError(f"it is too slow: {self._bytes} bytes in {self._waited:.0f} s")
            self._bytes, self._waited = 0, 0.0


def open_url(request: urllib.request.Request, limits: Limits, watch: Watch) -> Any:
    """Like urllib's urlopen, with limits, for http and https only. Raises what urlopen raises, and FetchError."""
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
    """A connection of class `kind` whose answers are watched (including a proxy's answer)."""

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
    """Follows redirects to http and https, but never from https to http, which others could change on the way."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        kind = newurl.split(":", 1)[0].lower()
        if kind != "https" and (kind != "http" or req.type == "https"):
            fp.close()
            raise FetchError(f"it redirects to {newurl}, which is not allowed from {req.type}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # pyright: ignore[reportArgumentType]


def _certificates() -> ssl.SSLContext:
    """The system's certificates, plus certifi's if installed, because Python on macOS comes without any."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        context.load_verify_locations(cast("Any", importlib.import_module("certifi")).where())
    return context
