"""A server on this machine that answers well or badly, as told."""

from __future__ import annotations

import http.server
import threading

FILE = "GPEN-BFR-2048.pth"


class Server(http.server.ThreadingHTTPServer):
    """Behaves as told by the first part of the path: /good/..., /page/..., and so on. Writes down every request."""

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.etag = '"one"'
        self.seen: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.hold = threading.Event()
        self.hold.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, manner: str = "good") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{manner}/{FILE}"

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
        start = int(span[6:-1]) if span and manner != "ranges-ignored" else 0
        same = self.headers.get("If-Range") in (None, server.etag)
        if start >= len(data):
            return self.answer(416, b"", span=f"bytes */{len(data)}")
        if start and same:
            return self.answer(206, data[start:], span=f"bytes {start}-{len(data) - 1}/{len(data)}")
        return self.answer(200, data)

    def answer(self, code: int, body: bytes, type: str = "application/octet-stream", span: str | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.etag)
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        cut, self.server.cut_after = self.server.cut_after, None
        try:
            self.wfile.write(body if cut is None else body[:cut])
            self.wfile.flush()
            self.server.hold.wait(20)
        except OSError:
            pass
        if cut is not None:
            self.close_connection = True
