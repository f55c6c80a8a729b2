"""The nodes inside a real ComfyUI's process: check_*.py, run by its Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import host


def test_nodes_in_process(comfy_python, tmp_path):
    here = Path(__file__).parent
    command = [
        str(comfy_python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "in_process",
        "-o",
        "addopts=",
        "--confcutdir",
        str(here),
    ]
    paths = os.pathsep.join([str(here), str(here.parent)])
    environ = {**os.environ, **host.ENVIRON, "GPEN_TEST_COMFY": str(host.COMFY), "GPEN_TEST_BASE": str(tmp_path), "PYTHONPATH": paths}
    checks = sorted(map(str, here.glob("check_*.py")))
    assert len(checks) == 9
    done = subprocess.run([*command, *checks], capture_output=True, encoding="utf-8", errors="replace", env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
