"""pip, for tests that make a separate environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def pip(python: Path, what: str, *arguments: str) -> None:
    """Runs pip. Skips the test if the package index is unreachable or lacks the package (`what`, in words); fails on any other error."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if "No matching distribution found" in done.stderr:
        said = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"needs {what}, which cannot be installed here ({said}): run again with a network, or with another Python")
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
