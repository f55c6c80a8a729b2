"""Runs fuzz_weights.py for each reader: coverage-guided, with libFuzzer's limits of 10 seconds and 1 GiB an input."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from hostile_weights import corpus

KINDS = ("pth", "safetensors", "onnx")
KEPT = Path(__file__).with_name("corpus.zip")  # what earlier runs found: one input for each new branch
LARGEST = 20_000  # bytes of an input


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    if find_spec("atheris") is None:
        yield "left out: it needs `pip install atheris`", True
        return
    with tempfile.TemporaryDirectory() as name:
        folder = given.corpus or Path(name)
        for kind in KINDS:
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for file, content in corpus():
            if len(content) <= LARGEST:
                (folder / file.rsplit(".", 1)[1] / file).write_bytes(content)
        if KEPT.is_file():
            with zipfile.ZipFile(KEPT) as archive:
                archive.extractall(folder)
        for kind in KINDS:
            limits = [f"-max_total_time={given.seconds}", "-timeout=10", "-rss_limit_mb=1024", f"-max_len={LARGEST}"]
            command = [sys.executable, str(Path(__file__).with_name("fuzz_weights.py")), kind, str(folder / kind), *limits]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
            figures = re.findall(r"#(\d+)\s+DONE\s+cov: (\d+) .*?rss: (\d+)Mb", done.stderr)
            if done.returncode or not figures:
                yield f"{kind}: {done.stderr[-1500:]}", False
                continue
            count, branches, memory = figures[-1]
            yield f"{kind}: {count} inputs, {branches} branches reached, {memory} MiB; no crash, no hang", True
