"""As much of a web socket (RFC 6455) as it takes to listen to ComfyUI."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
LAST = 0x80  # of a message's parts; in the length: the content is masked, as a client's must be


class WebSocket:
    def __init__(self, host: str, port: int, path: str) -> None:
        self._socket = socket.create_connection((host, port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        asked = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._socket.sendall(f"{asked}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._read(1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head.decode("latin1"))
        self._socket.settimeout(None)

    def receive(self) -> str | bytes:
        """The next message. Raises ConnectionError at the end."""
        message, kind = b"", 0
        while True:
            first, length = self._read(2)
            length &= ~LAST
            if length == 126:
                (length,) = struct.unpack(">H", self._read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._read(8))
            content, code = self._read(length), first & 0x0F
            if code == CLOSE:
                raise ConnectionError("closed by the server")
            if code == PING:
                self._send(PONG, content)
            elif code != PONG:
                message, kind = message + content, kind or code
                if first & LAST:
                    return message.decode("utf-8") if kind == TEXT else message

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._send(CLOSE)
        self._socket.close()

    def _read(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self._socket.recv(count - len(content))
            if not part:
                raise ConnectionError("the connection was cut")
            content += part
        return content

    def _send(self, code: int, content: bytes = b"") -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(content))
        self._socket.sendall(bytes([LAST | code, LAST | len(content)]) + mask + masked)
