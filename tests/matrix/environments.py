"""The sets of versions that are tried, from the oldest that requirements.txt allows to the newest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """python: "3.10". packages: what the project runs with. tools: pinned versions of what the tests need, for packages that old."""

    name: str
    python: str
    packages: Mapping[str, str]
    tools: Mapping[str, str] = field(default_factory=dict[str, str])


def _packages(torch: str, numpy: str, opencv: str, pillow: str, safetensors: str, filelock: str, tqdm: str) -> dict[str, str]:
    return {
        "torch": torch,
        "numpy": numpy,
        "opencv-python-headless": opencv,
        "Pillow": pillow,
        "safetensors": safetensors,
        "filelock": filelock,
        "tqdm": tqdm,
    }


def tested(python: str, root: Path = ROOT) -> dict[str, str]:
    """The versions in constraints.txt for a Python (not for Intel Macs, which have a line of their own)."""
    found = {}
    for line in (root / "constraints.txt").read_text("utf-8").splitlines():
        pin, _, condition = line.partition("; ")
        name, _, version = pin.partition("==")
        if version and _fits(condition, python):
            found[name.strip()] = version.strip()
    return _packages(*(found[name] for name in ("torch", "numpy", "opencv-python-headless", "pillow", "safetensors", "filelock", "tqdm")))


def _fits(condition: str, python: str) -> bool:
    """Whether a line of constraints.txt counts for this Python."""
    if 'sys_platform == "darwin" and' in condition or 'sys_platform == "win32"' in condition:
        return False
    match = re.search(r'python_version (<|==|>=) "3\.(\d+)"', condition)
    if match is None:
        return True
    ours, other = int(python.partition(".")[2]), int(match[2])
    return {"<": ours < other, "==": ours == other, ">=": ours >= other}[match[1]]


_OLD_TOOLS = {"onnx": "1.14.1", "scikit-image": "0.19.3", "scipy": "1.10.1"}  # the last ones made for NumPy 1.23

ENVIRONMENTS: Sequence[Environment] = (
    Environment("oldest", "3.10", _packages("2.0.0", "1.23.0", "4.8.0.76", "9.5.0", "0.3.1", "3.0.6", "4.60.0"), _OLD_TOOLS),
    Environment("webui", "3.10", _packages("2.1.2", "1.26.2", "4.9.0.80", "9.5.0", "0.4.2", "3.9.0", "4.66.0"), {"scikit-image": "0.21.0"}),
    Environment("middle", "3.11", _packages("2.4.1", "1.26.4", "4.10.0.84", "10.4.0", "0.4.5", "3.15.4", "4.66.5")),
    Environment("recent", "3.12", _packages("2.7.1", "2.0.2", "4.11.0.86", "11.3.0", "0.5.3", "3.18.0", "4.67.1")),
    Environment("tested-3.10", "3.10", tested("3.10")),
    Environment("tested-3.13", "3.13", tested("3.13")),
    Environment("tested-3.14", "3.14", tested("3.14")),
    Environment("newest", "3.13", _packages("2.15.0", "2.5.5", "5.0.0.93", "13.0.0", "0.8.0", "4.3.1", "4.70.1")),
)

# What every environment is tried with, besides its own versions.
TOOLS = ("pytest", "hypothesis", "onnx", "scikit-image", "av", "pyyaml", "fastapi", "httpx", "setuptools")
