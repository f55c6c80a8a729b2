"""One HTTP request for a file or the rest of a file. Standard library only."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .connection import FetchError, Limits, Watch, open_url
from .formats.identify import looks_like_page
from .small_files import read_table, write_table

_BLOCK = 1 << 18
_HUGGING_FACE = "https://huggingface.co/"
_BUSY = frozenset({429, 500, 502, 503, 504})  # the server is overloaded or restarting; the file may still be there
_CERTIFICATES = (
    "check this computer's date; if your network's proxy or a virus scanner opens connections, name the file of its certificate in the "
    "environment variable SSL_CERT_FILE"
)

__all__ = ["Answer", "Fetch", "FetchError", "Limits", "real_address"]


def real_address(url: str) -> str:
    """The address to use: a mirror of Hugging Face if the environment variable HF_ENDPOINT names one."""
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if endpoint and url.startswith(_HUGGING_FACE):
        return f"{endpoint}/{url[len(_HUGGING_FACE) :]}"
    return url


class Answer:
    """A server's answer. start: offset of its first byte in the file; total: the file's length, if stated."""

    def __init__(self, url: str, response: Any, start: int, total: int | None, complete: bool = False) -> None:
        self.url = url
        self.start = start
        self.total = total
        self.complete = complete
        self._response = response
        self._first = b"" if complete else _read(response)
        kind = "" if complete else _header(response, "Content-Type")
        says_page = "text/html" in kind and not self._first.startswith(b"PK")
        self.is_page = start == 0 and (says_page or looks_like_page(self._first[:1024]))

    def blocks(self) -> Iterator[bytes]:
        """The bytes, in blocks of up to 256 kB. Raises FetchError if the connection breaks."""
        block = self._first
        while block:
            yield block
            block = _read(self._response)

    def remember(self, state: Path) -> None:
        """Records which file the bytes belong to, so that a later run resumes only the same file."""
        write_table(state, {"url": self.url, "mark": _mark(self._response), "total": self.total})

    @staticmethod
    def recalled(state: Path, url: str) -> dict[str, Any]:
        """What `remember` recorded for that address; empty if a download from there cannot be resumed."""
        try:
            told = read_table(state)
        except (OSError, ValueError):
            return {}
        mark = told.get("mark")
        return told if told.get("url") == url and isinstance(mark, str) and _is_sendable(mark) else {}


def _read(response: Any) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"the connection broke ({_told(error)})", again=True) from error


class Fetch:
    """`with Fetch(url, ...) as answer`: requests the file from `start` on, and closes the connection at the end.

    limits, deadline: when to give up, see Limits. start: bytes already downloaded. told: what is known about them, see
    `Answer.recalled`; if the file on the server has changed, the answer is the whole file. Raises FetchError.
    """

    def __init__(
        self, url: str, limits: Limits, *, deadline: float = float("inf"), start: int = 0, told: dict[str, Any] | None = None
    ) -> None:
        self.url, self.start = url, start
        self.told = told or {}
        self._limits, self._watch = limits, Watch(limits, deadline)
        self._response: Any = None

    def __enter__(self) -> Answer:
        headers = {"User-Agent": "gpen-face-restoration", "Accept-Encoding": "identity"}
        if self.start:
            headers |= {"Range": f"bytes={self.start}-", "If-Range": str(self.told["mark"])}
        if not self.url.startswith(("https://", "http://")):
            raise FetchError("it is not a web address")
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 (checked above)
        try:
            self._response = open_url(request, self._limits, self._watch)
        except urllib.error.HTTPError as error:
            with error:
                total = _total(_header(error, "Content-Range"))
            if error.code == 416 and self.start and total == self.start:
                return Answer(self.url, None, self.start, total, complete=True)
            raise FetchError(f"it answered {error.code} {error.reason}", again=error.code in _BUSY, restart=error.code == 416) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise FetchError(f"its certificate is not to be trusted ({reason.verify_message}); {_CERTIFICATES}") from error
            if isinstance(reason, TimeoutError):
                raise FetchError(f"no answer within {self._limits.silent:g} s", again=self.start > 0) from error
            raise FetchError(f"no answer: {_told(error)}", again=self.start > 0) from error
        self._watch.head_is_over()
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
            span = _header(response, "Content-Range")
            match = re.match(r"bytes ([0-9]{1,15})-", span)
            total = _total(span)
            pairs = ((self.told.get("total"), total), (self.told.get("mark"), _mark(response)))
            same = all(None in pair or pair[0] == pair[1] for pair in pairs)  # many servers ignore If-Range
            if match and int(match[1]) == self.start and same:
                return Answer(self.url, response, self.start, total)
            raise FetchError("it answered with the wrong part of the file", restart=True)
        # 200: the whole file, because the download is new, the server does not support ranges, or the file has changed.
        return Answer(self.url, response, 0, _number(_header(response, "Content-Length")))


def _header(response: Any, name: str) -> str:
    return str(response.headers.get(name) or "").strip()


def _mark(response: Any) -> str | None:
    """A mark that changes with the file at this address: its ETag, or its date if the ETag is weak or missing."""
    etag = _header(response, "ETag")
    mark = etag if etag and not etag.startswith("W/") else _header(response, "Last-Modified")
    return mark or None


def _is_sendable(mark: str) -> bool:
    return 0 < len(mark) <= 1000 and mark.isascii() and mark.isprintable()


def _number(text: str) -> int | None:
    """A length from a header; None if it is not a valid file length."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _total(span: str) -> int | None:
    return _number(span.rsplit("/", 1)[-1].strip())


def _told(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
