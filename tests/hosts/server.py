"""A WebUI that runs with this extension, in a data folder of its own; its checkout is not changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .family import HOSTS

ROOT = Path(__file__).resolve().parents[2]
NOT_NEEDED = ("tests", "docs", "training", "benchmarks", "out", "models", "runs", "build")
LATER = "--skip-load-model-at-start"  # A1111 1.7 and later
STARTED = "Startup time:"  # every host logs it


class Server:
    """A running WebUI. extensions: {name: folder}, linked in beside a copy of this one."""

    def __init__(
        self, name: str, checkout: Path, python: str, data: Path, extensions: Mapping[str, Path], more: Sequence[str] = ()
    ) -> None:
        host = HOSTS[name]
        checkout = checkout.absolute()
        flags = (checkout / "modules" / "cmd_args.py").read_text("utf-8")
        arguments = [flag for flag in host.arguments if flag != LATER or LATER in flags]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = data / "webui.log"
        (data / "extensions").mkdir(parents=True, exist_ok=True)
        # A copy, as from an archive: hosts look for the origin of a git repository and complain if it has none.
        shutil.copytree(ROOT, data / "extensions" / "gpen", ignore=shutil.ignore_patterns(".*", "__pycache__", *NOT_NEEDED))
        for link, folder in extensions.items():
            (data / "extensions" / link).symlink_to(folder.absolute(), target_is_directory=True)
        (data / "config.json").write_text(host.settings, encoding="utf-8")
        command = [python, "-u", "launch.py", "--data-dir", str(data), "--port", str(port), *arguments, *more]
        if name != "sdnext":
            command += ["--api", "--gradio-allowed-path", str(checkout)]
        offline = {"GPEN_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False", "SD_WEBUI_RESTARTING": "1"}
        environment = {**os.environ, **offline, "COMMANDLINE_ARGS": "", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
        environment.pop("PYTHONPATH", None)
        started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=checkout, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.wait()
        except BaseException:
            self.close()
            raise
        self.seconds = time.monotonic() - started

    def wait(self, starts: int = 1) -> None:
        """Waits until the log reports the starts-th start. A request during the building of the page would make the start fail."""
        for _ in range(3600):
            if self.process.poll() is not None:
                raise RuntimeError(f"the WebUI ended with {self.process.returncode}: {self.text()[-3000:]}")
            if self.text().count(STARTED) >= starts:
                return
            time.sleep(0.25)
        raise RuntimeError("the WebUI did not come up: " + self.text()[-3000:])

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """(status, answer) of a GET, or of a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy between us
        try:
            with opener.open(request, timeout=300) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def get(self, path: str) -> Any:
        status, answer = self.ask(path)
        assert status == 200, answer
        return answer

    def post(self, path: str, **body: object) -> Any:
        status, answer = self.ask(path, body)
        assert status == 200, answer
        return answer

    def close(self) -> None:
        if self.process.poll() is not None:
            return
        if sys.platform == "win32":
            self.process.terminate()
        else:
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
