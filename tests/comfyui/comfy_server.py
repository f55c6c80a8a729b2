"""A running ComfyUI, driven over HTTP like its page does. Needs only Python."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from web_socket import WebSocket


class ComfyServer:
    """A ComfyUI that runs inside a `with` block. `base`: the folder of its inputs, outputs, models and packs."""

    def __init__(
        self, comfy: Path, python: Path, base: Path, packs: Iterable[Path], environ: Mapping[str, str], arguments: Iterable[str] = ()
    ) -> None:
        self.comfy, self.python, self.base, self.packs = comfy, python, base, tuple(packs)
        self.environ, self.arguments = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}, tuple(arguments)
        self.log_file = base / "server.log"
        self.client = uuid.uuid4().hex
        self.events: list[dict[str, Any]] = []  # what the page would be told, from the first moment on
        self.process: subprocess.Popen[bytes] | None = None
        self.socket: WebSocket | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ComfyServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, seconds: float = 300) -> None:
        for name in ("input", "output", "temp", "models", "custom_nodes", "user"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for pack in self.packs:
            (self.base / "custom_nodes" / pack.name).symlink_to(pack, target_is_directory=True)
        command = [str(self.python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.base), "--database-url", "sqlite:///:memory:"]
        command += ["--disable-auto-launch", "--disable-api-nodes", *self.arguments]
        with self.log_file.open("wb") as log:
            # A separate session: Ctrl-C in the terminal ends the tests, which then stop the server.
            self.process = subprocess.Popen(
                command, cwd=self.comfy, stdout=log, stderr=subprocess.STDOUT, env=self.environ, start_new_session=True
            )
        end = time.monotonic() + seconds
        while not self.answers():
            self.assert_alive()
            assert time.monotonic() < end, f"ComfyUI was not ready in {seconds} seconds\n{self.log()[-4000:]}"
            time.sleep(0.25)
        self.socket = WebSocket("127.0.0.1", self.port, f"/ws?clientId={self.client}")
        threading.Thread(target=self._listen, args=(self.socket,), daemon=True).start()

    def stop(self) -> None:
        if self.socket is not None:
            self.socket.close()
        if self.process is None or self.process.poll() is not None:
            return
        if os.name == "nt":
            self.process.terminate()
        else:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def answers(self) -> bool:
        try:
            self.get("/system_stats", timeout=5)
        except OSError:  # urllib's errors among them
            return False
        return True

    def assert_alive(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, f"ComfyUI ended with {self.process.returncode}\n{self.log()[-4000:]}"

    def _listen(self, messages: WebSocket) -> None:
        with contextlib.suppress(OSError):  # the end of the connection
            while True:
                message = messages.receive()
                if isinstance(message, str):
                    self.events.append(json.loads(message))

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def get(self, path: str, timeout: float = 60, raw: bool = False) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            body = answer.read()
        return body if raw else json.loads(body)

    def post(self, path: str, content: Mapping[str, Any]) -> tuple[int, Any]:
        """(status, answer)"""
        request = urllib.request.Request(self.url + path, json.dumps(content).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        assert status < 500, f"the server failed: {body[:200]!r}\n{self.log()[-4000:]}"
        return status, json.loads(body) if body else None

    def offers(self, path: str) -> bool:
        """Whether the server has something at this path."""
        try:
            self.get(path, raw=True)
        except urllib.error.HTTPError:
            return False
        return True

    def queue(self, prompt: Mapping[str, Any]) -> tuple[int, Any]:
        return self.post("/prompt", {"prompt": prompt, "client_id": self.client})

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def until(self, condition: Callable[[], Any], timeout: float = 60) -> None:
        """Waits until the condition holds."""
        end = time.monotonic() + timeout
        while not condition():
            self.assert_alive()
            assert time.monotonic() < end, f"it did not come to that in {timeout} seconds\n{self.log()[-4000:]}"
            time.sleep(0.05)

    def wait(self, prompt_id: str, timeout: float = 600) -> dict[str, Any]:
        """Waits for a prompt to end. Returns its entry in the history."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.assert_alive()
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return entry
            time.sleep(0.1)
        raise AssertionError(f"the prompt did not end in {timeout} seconds\n{self.log()[-4000:]}")

    def run(self, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """Queues a prompt and waits for its end: its state (invalid, success, error, interrupted), and what there is to say of it."""
        status, answer = self.queue(prompt)
        if status != 200:
            return {"state": "invalid", "error": answer["error"], "node_errors": answer["node_errors"]}
        entry = self.wait(answer["prompt_id"])
        told = dict(entry["status"]["messages"])
        ended = next((state for state in ("error", "interrupted") if f"execution_{state}" in told), "success")
        return {
            "state": ended,
            "error": told.get(f"execution_{ended}"),
            "node_errors": answer["node_errors"],  # of nodes that were left out: the rest ran
            "cached": told.get("execution_cached", {}).get("nodes", []),
            "outputs": entry["outputs"],
        }

    def download(self, result: Mapping[str, Any], folder: Path) -> list[Path]:
        """Downloads the run's output files into the folder, each named after its node."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for node, output in result["outputs"].items():
            for items in output.values():
                for item in items if isinstance(items, list) else []:
                    if isinstance(item, dict) and "filename" in item:
                        files.append(folder / f"{node}_{item['filename']}")
                        query = urllib.parse.urlencode({key: item.get(key, "") for key in ("filename", "subfolder", "type")})
                        files[-1].write_bytes(self.get(f"/view?{query}", raw=True))
        return files
