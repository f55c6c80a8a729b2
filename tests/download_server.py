"""A local server that answers correctly or badly, depending on the path."""

from __future__ import annotations

import http.server
import socket
import ssl
import struct
import threading
from pathlib import Path

FILE = "GPEN-BFR-2048.pth"


class Server(http.server.ThreadingHTTPServer):
    """Behaves as the first part of the path says: /good/..., /page/..., and so on. Records every request.

    certificate: the paths of a certificate and its key, to speak HTTPS.
    """

    def __init__(self, data: bytes, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.scheme, self.socket = "https", context.wrap_socket(self.socket, server_side=True)
        self.data = data
        self.etag = '"one"'
        self.seen: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.busy = 0
        self.location = ""
        self.raw = b""
        self.sent = 0
        self.enough = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, manner: str = "good") -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/{manner}/{FILE}"

    @property
    def ranges(self) -> list[str | None]:
        return [span for _, span in self.seen]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        manner = self.path.split("/")[1]
        server, data, span = self.server, self.server.data, self.headers.get("Range")
        server.seen.append((manner, span))
        if manner == "gone":
            return self.send_error(404)
        if manner == "page":
            return self.answer(200, b"<!DOCTYPE html><html>please log in</html>", type="text/html")
        if manner == "empty":
            return self.answer(200, b"")
        if manner == "short":
            return self.answer(200, data[:-100])
        if manner.startswith("busy"):  # /busy-503/: so many times as the server is told, then well
            server.busy -= 1
            if server.busy >= 0:
                return self.send_error(int(manner[5:]))
        if manner == "reset":  # without a byte of the file
            return self.reset()
        if manner == "torn":  # never more than the first half, and of nothing else
            return self.answer(416, b"", span=f"bytes */{len(data)}") if span else self.answer(200, data, cut=len(data) // 2)
        if manner == "crumbs":  # the next 100 bytes
            server.cut_after = 100
        if manner == "drip-head":
            return self.endless(b"", b"x")
        if manner == "redirect-endless":
            return self.endless(b"HTTP/1.1 302 Found\r\nLocation: /good/x\r\n\r\n", bytes(1 << 16))
        if manner == "drip":
            return self.endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x")
        if manner == "endless":
            return self.endless(b"HTTP/1.1 200 OK\r\n\r\n" + data, bytes(1 << 16))
        if manner == "redirect":
            return self.answer(302, b"", location=server.location)
        if manner == "raw":
            self.wfile.write(server.raw)
            return self.reset(gently=True)
        start = int(span[6:-1]) if span and manner != "ranges-ignored" else 0
        same = self.headers.get("If-Range") in (None, server.etag) or manner == "if-range-ignored"
        if start >= len(data):
            return self.answer(416, b"", span=f"bytes */{len(data)}")
        if start and same:
            return self.answer(206, data[start:], span=f"bytes {start}-{len(data) - 1}/{len(data)}")
        return self.answer(200, data)

    def answer(
        self,
        code: int,
        body: bytes,
        type: str = "application/octet-stream",
        span: str | None = None,
        location: str | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if location:
            self.send_header("Location", location)
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        if cut is None:
            cut, self.server.cut_after = self.server.cut_after, None
        try:
            self.wfile.write(body if cut is None else body[:cut])
            self.wfile.flush()
            self.server.hold.wait(20)
        except OSError:
            pass
        if cut is not None:
            self.close_connection = True

    def endless(self, head: bytes, block: bytes) -> None:
        """Sends block after block, small ones with short pauses, until the client or the test stops it."""
        try:
            self.wfile.write(head)
            while not self.server.enough.wait(0.001 if len(block) < 100 else 0):
                self.wfile.write(block)
                self.server.sent += len(block)
        except OSError:
            pass
        self.close_connection = True

    def reset(self, gently: bool = False) -> None:
        """Ends the connection, like a router that has forgotten it."""
        if not gently:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
