"""Downloads that are killed at random moments, and many at once: in the end the file is whole, and never half there under its name."""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from download_server import FILE, Handler, Server
from weights_help import tiny_state

PIECES = 40  # in which the server sends a file, 5 ms apart

CODE = """
import sys; sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from weights_help import tiny_catalog
from gpen_core.weights.download import download
print("begun", flush=True)
download(tiny_catalog(urls=(sys.argv[3],)).get("GPEN-BFR-2048"), Path(sys.argv[4]))
"""


class Slow(Handler):
    """Sends the file in pieces, so that a kill falls in the middle of it."""

    def answer(self, code: int, body: bytes, **more: object) -> None:  # type: ignore[override]
        class Writer:
            def __init__(self, real: io.BufferedIOBase) -> None:
                self.real = real

            def write(self, data: bytes) -> int:
                step = max(1, len(data) // PIECES)
                for at in range(0, len(data), step):
                    self.real.write(data[at : at + step])
                    self.real.flush()
                    if len(data) > 10_000:
                        time.sleep(0.005)
                return len(data)

            def __getattr__(self, name: str) -> object:
                return getattr(self.real, name)

        real, self.wfile = self.wfile, Writer(self.wfile)  # type: ignore[assignment]
        try:
            super().answer(code, body, **more)  # type: ignore[arg-type]
        finally:
            self.wfile = real


def start(server: Server, folder: Path) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", CODE, str(root), str(root / "tests"), server.url(), str(folder)]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("GPEN_", "HF_"))} | {"no_proxy": "127.0.0.1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet)


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    out = io.BytesIO()
    torch.save(tiny_state(4 / 64), out)
    data, rng = out.getvalue(), random.Random(given.seed)
    server = Server(data)
    server.RequestHandlerClass = Slow
    half = whole = kills = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "GPEN"
        for _ in range(given.kills):
            if (folder / FILE).exists():
                (folder / FILE).unlink()
            process = start(server, folder)
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.4))
            process.kill()
            process.communicate()
            kills += process.returncode != 0
            if (folder / FILE).exists():
                whole += (folder / FILE).read_bytes() == data
                half += (folder / FILE).read_bytes() != data
        process = start(server, folder)
        _, errors = process.communicate(timeout=120)
        good = process.returncode == 0 and (folder / FILE).read_bytes() == data
        resumed = sum(span is not None for _, span in server.seen)
        said = (
            f"{kills} of {given.kills} killed at a random moment, {resumed} went on where it was; under its name {whole} whole, {half} half"
        )
        yield f"{said}; the last run {'ended with the right file' if good else errors}", good and not half
        for count in (2, 10):
            folder, before = Path(name) / f"together-{count}", len(server.seen)
            processes = [start(server, folder) for _ in range(count)]
            ended = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
            good = all(code == 0 for _, code in ended) and (folder / FILE).read_bytes() == data
            asked = len(server.seen) - before
            text = f"{count} processes at once: {asked} download(s), the file is {'whole' if good else 'not there'}"
            yield text, good and asked == 1
    server.shutdown()
    server.server_close()
