"""One HTTP request for a file, possibly from its middle on. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from .identify import looks_like_page

_BLOCK = 1 << 18
_HUGGING_FACE = "https://huggingface.co/"


class FetchError(Exception):
    """An address did not give the file.

    again: the same address may give the rest when asked once more. restart: what is there already does not belong to its file.
    """

    def __init__(self, message: str, *, again: bool = False, restart: bool = False) -> None:
        super().__init__(message)
        self.again = again
        self.restart = restart


def real_address(url: str) -> str:
    """The address to ask: a mirror of Hugging Face where the environment's HF_ENDPOINT names one."""
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if endpoint and url.startswith(_HUGGING_FACE):
        return f"{endpoint}/{url[len(_HUGGING_FACE) :]}"
    return url


class Answer:
    """What a server answered. start: the place in the file its bytes begin at; total: the file's length, where told."""

    def __init__(self, url: str, response: Any, start: int, total: int | None, complete: bool = False) -> None:
        self.url = url
        self.start = start
        self.total = total
        self.complete = complete
        self._response = response
        self._first = b"" if complete else _read(response)
        kind = "" if complete else str(response.headers.get("Content-Type", ""))
        says_page = "text/html" in kind and not self._first.startswith(b"PK")
        self.is_page = start == 0 and (says_page or looks_like_page(self._first[:1024]))

    def blocks(self) -> Iterator[bytes]:
        """The bytes, in blocks of up to 256 kB. Raises FetchError when the connection breaks."""
        block = self._first
        while block:
            yield block
            block = _read(self._response)

    def remember(self, state: Path) -> None:
        """Writes down what the bytes belong to, so that a later run resumes only the very same file."""
        headers = self._response.headers
        told = {"url": self.url, "etag": headers.get("ETag"), "modified": headers.get("Last-Modified"), "total": self.total}
        state.write_text(json.dumps(told), encoding="utf-8")

    @staticmethod
    def recalled(state: Path) -> dict[str, Any]:
        """What `remember` wrote; empty where there is nothing to read."""
        try:
            content: Any = json.loads(state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def _read(response: Any) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"the connection broke ({_told(error)})", again=True) from error


class Fetch:
    """`with Fetch(url, timeout, start, state) as answer`: asks for the file from `start` on, and closes the connection at the end.

    timeout: seconds for connecting, and how long the server may be silent. state: what an earlier answer left, see `Answer.remember`; the
    server sends the rest only where the file is still the same, else the whole. Raises FetchError.
    """

    def __init__(self, url: str, *, timeout: float, start: int = 0, state: Path | None = None) -> None:
        self.url, self.timeout, self.start = url, timeout, start
        self.told = Answer.recalled(state) if state is not None else {}
        self._response: Any = None

    def __enter__(self) -> Answer:
        headers = {"User-Agent": "gpen-face-restoration", "Accept-Encoding": "identity"}
        if self.start:
            headers["Range"] = f"bytes={self.start}-"
            etag = str(self.told.get("etag") or "W/")
            etag = str(self.told.get("etag") or "W/")
            # A weak tag does not promise the same bytes.
            same = self.told.get("modified") if etag.startswith("W/") else etag
            if same:
                headers["If-Range"] = str(same)
        if not self.url.startswith(("https://", "http://")):
            raise FetchError("it is no web address")
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 (checked above)
        try:
            self._response = urllib.request.urlopen(request, timeout=self.timeout, context=_certificates())  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                total = _total(str(error.headers.get("Content-Range", "")))
            if error.code == 416 and total is not None and total == self.start:
                return Answer(self.url, None, self.start, total, complete=True)
            raise FetchError(f"it answered {error.code} {error.reason}", restart=error.code == 416) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(f"no answer ({_told(error)})") from error
        try:
            return self._answer()
        except BaseException:
            self._response.close()
            raise

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()

    def _answer(self) -> Answer:
        response = self._response
        if response.status == 206:
            span = str(response.headers.get("Content-Range", ""))
            match = re.match(r"bytes (\d+)-", span)
            total = _total(span)
            known = self.told.get("total")
            if match and int(match[1]) == self.start and (known is None or total is None or known == total):
                return Answer(self.url, response, self.start, total)
            raise FetchError("it answered with another part of the file than asked for", restart=True)
        # 200: the whole file, because nothing was there yet, the server knows no ranges, or the file is another one now.
        length = str(response.headers.get("Content-Length") or "")
        return Answer(self.url, response, 0, int(length) if length.isdigit() else None)


def _total(span: str) -> int | None:
    last = span.rsplit("/", 1)[-1]
    return int(last) if last.isdigit() else None


def _told(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__


def _certificates() -> ssl.SSLContext:
    """The system's certificates, and certifi's where it is installed: Python on macOS comes without any."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        context.load_verify_locations(cast("Any", importlib.import_module("certifi")).where())
    return context
