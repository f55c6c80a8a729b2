"""The code uses nothing of torch, NumPy, OpenCV, Pillow and the rest that the oldest versions in requirements.txt lack.

tests/matrix/oldest.json says what they have: `python -m tests.matrix` asked them. A name that is not in it is looked up in their
documentation and added by hand, or the file is written anew: python -m tests.matrix FOLDER oldest tested-3.13 --record
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matrix import names

ROOT = Path(__file__).resolve().parents[1]
KNOWN = json.loads(names.RECORD.read_text("utf-8"))
# Names that the oldest lack: where the code asks first whether they are there, or does without them.
GUARDED = {
    "PIL.AvifImagePlugin": "reading.py imports it if Pillow has it",
    "PIL.AvifImagePlugin.AvifImageFile": "the same",
    "torch.cuda.graph(capture_error_mode)": "network/card.py: without it nothing is recorded, and the plain form runs",
}
# Names after a dot that newer tensors, arrays or pictures have, and that something else of ours or of Python's has as well.
OURS = {"compile": "re", "index": "lists and texts"}


def unknown(paths: list[Path] | None = None) -> dict[str, str]:
    return {name: file for name, file in names.used(names.PACKAGES, paths).items() if name not in KNOWN["there"] and name not in GUARDED}


def newer(paths: list[Path] | None = None) -> dict[str, str]:
    return {name: file for name, file in names.methods(paths).items() if name in KNOWN["newer"] and name not in OURS}


def test_the_oldest_versions_are_the_required_ones() -> None:
    text = (ROOT / "requirements.txt").read_text("utf-8")
    for package, version in KNOWN["packages"].items():
        lowest = [line.split(">=")[1] for line in text.splitlines() if line.lower().startswith(f"{package.lower()}>=")]
        assert all(version == low or version.startswith(f"{low}.") for low in lowest), (package, version, lowest)
        assert lowest or package == "opencv-python-headless"


def test_every_name_of_another_package_is_in_its_oldest_version() -> None:
    assert not unknown(), __doc__


def test_nothing_that_only_newer_tensors_arrays_and_pictures_can_is_asked_of_them() -> None:
    assert not newer(), f"Use what the oldest versions have too, or say in OURS what has the name as well. {__doc__}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import torch\ntorch.compile_everything(x)", "torch.compile_everything"),
        ("import torch.nn.functional as F\nF.pad(x, (1, 1), newest=True)", "torch.nn.functional.pad(newest)"),
        ("import numpy as np\ndef f(x):\n    return np.vecdot(x, x)", "numpy.vecdot"),
        ("from PIL import ImageText", "PIL.ImageText"),
        ("def f():\n    import cv2\n    return cv2.newest", "cv2.newest"),
    ],
)  # fmt: skip
def test_newer_names_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, found: str) -> None:
    monkeypatch.setattr(names, "ROOT", tmp_path)
    path = tmp_path / "a.py"
    path.write_text(line, encoding="utf-8")
    assert found in unknown([path])


def test_newer_methods_are_noticed_and_types_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "ROOT", tmp_path)
    path = tmp_path / "a.py"
    path.write_text("import numpy as np\ndef f(x: np.newest_type) -> np.newest_type:\n    return x.to_device('cpu')\n", encoding="utf-8")
    assert "to_device" in newer([path]) and not unknown([path])
