"""pip, for the tests that make an environment of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def pip(python: Path, what: str, *arguments: str) -> None:
    """Skips the test where the package index cannot be reached or has not what is asked for: `what`, in words. Fails at all else."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if "No matching distribution found" in done.stderr:
        said = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"needs {what}, which cannot be installed here ({said}): run again with a network, or with another Python")
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
