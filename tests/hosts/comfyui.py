"""A real ComfyUI with this pack and others beside it: python -m tests.hosts comfyui --beside ComfyUI-Impact-Pack --version "0.3.75"

The ComfyUI of the tests (.venv-comfyui), unless --folder and --python name another.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .checks import AROUND, FACE, LITE, picture
from .server import ROOT

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "comfyui")]
import host  # noqa: E402
from comfy_server import ComfyServer  # noqa: E402

OURS = ("GPENRestoreFaces", "GPENFacesToSEGS", "GPENFacesFromSEGS")


class Running(ComfyServer):
    """A ComfyUI in a folder of its own, whose input folder has two.png: a face at the left and one at the right."""

    def __init__(self, folder: Path | None, python: str | None, base: Path, beside: list[Path]) -> None:
        (base / "input").mkdir(parents=True)
        two = np.concatenate([picture(), picture()], axis=1)
        Image.fromarray(two).save(base / "input" / "two.png")
        packs = [ROOT, *(pack.absolute() for pack in beside)]
        super().__init__(folder or host.COMFY, Path(python or host.python()), base, packs, host.ENVIRON)
        self.known: dict[str, Any] = {}

    def node(self, kind: str, **inputs: Any) -> dict[str, Any]:
        """A node of a prompt; inputs that are not given have their defaults."""
        values: dict[str, Any] = {}
        for name, (what, *more) in self.known[kind]["input"]["required"].items():
            settings = more[0] if more else {}
            first = what[0] if isinstance(what, list) and what else settings.get("options", [None])[0]
            values[name] = settings.get("default", first)
        return {"class_type": kind, "inputs": {**values, **inputs}}

    def restored(self, prompt: dict[str, Any]) -> np.ndarray:
        """The picture that the prompt's node 9 saves."""
        ran = self.run(prompt)
        assert ran["state"] == "success", ran
        saved = ran["outputs"]["9"]["images"][0]
        with Image.open(io.BytesIO(self.get(f"/view?filename={saved['filename']}&type={saved['type']}", raw=True))) as image:
            return np.asarray(image.convert("RGB"))


def nodes(server: Running) -> str:
    server.known = server.get("/object_info")
    lacking = [name for name in OURS if name not in server.known]
    assert not lacking, lacking
    ours = sum(name.startswith("GPEN") for name in server.known)
    newer = server.known["GPENLoadModel"]["input"]["required"]["model"][0] == "COMBO"
    return f"{ours} of ours among {len(server.known)}, in the {'newer form (V3)' if newer else 'older form'}"


def restore(server: Running) -> str:
    prompt = {
        "1": server.node("LoadImage", image="two.png"),
        "2": server.node("GPENLoadModel", model=LITE),
        "3": server.node("GPENRestoreFaces", image=["1", 0], model=["2", 0]),
        "9": server.node("SaveImage", images=["3", 0]),
    }
    return _only(server.restored(prompt), (True, True))


def impact(server: Running) -> str:
    prompt = {
        "1": server.node("LoadImage", image="two.png"),
        "2": server.node("GPENLoadModel", model=LITE),
        "3": server.node("GPENDetectFaces", image=["1", 0]),
        "4": server.node("GPENFacesToSEGS", faces=["3", 0]),
        "5": server.node("ImpactSEGSOrderedFilter", segs=["4", 0], target="x1", order=False),
        "6": server.node("GPENFacesFromSEGS", image=["1", 0], segs=["5", 0]),
        "7": server.node("GPENRestoreFaces", image=["1", 0], model=["2", 0], detected_faces=["6", 0]),
        "9": server.node("SaveImage", images=["7", 0]),
        "10": server.node("SegsToCombinedMask", segs=["4", 0]),
        "11": server.node("MaskToImage", mask=["10", 0]),
        "12": server.node("SaveImage", images=["11", 0]),
    }
    return "the left of two faces chosen by its SEGS Filter (ordered): " + _only(server.restored(prompt), (True, False))


def _only(done: np.ndarray, wanted: tuple[bool, bool]) -> str:
    """Says which of the two faces changed; the rest must be the same to the bit."""
    before = np.concatenate([picture(), picture()], axis=1)
    assert done.shape == before.shape, done.shape
    change = np.abs(done.astype(int) - before)
    told: list[str] = []
    for half, changes in zip(np.split(change, 2, axis=1), wanted, strict=True):
        inside = half[FACE].mean()
        told.append(f"{inside:.1f}")
        assert (inside > 2) == changes, told
        if changes:
            half[AROUND] = 0  # a view: clears it in `change` too
    assert not change.any(), "pixels that belong to no chosen face changed"
    return f"the faces changed by {' and '.join(told)} levels, nothing else"


def log(server: Running) -> str:
    lines = server.log().splitlines()
    ours = [line for line in lines if "gpen" in line.lower() and re.search(r"error|warning|exception|failed", line, re.I)]
    assert not ours, ours[:5]
    failed = [line for line in lines if "IMPORT FAILED" in line and "custom_nodes" in line]  # its own optional nodes lack packages
    assert not failed, failed
    return "nothing of ours; every pack was loaded"


def checks(beside: list[Path]) -> list[tuple[str, Callable[[Running], str]]]:
    tried = [("start, nodes listed", nodes), ("workflow: Load GPEN Model, Restore Faces", restore)]
    if any((pack / "modules" / "impact").is_dir() for pack in beside):
        tried.append(("Impact Pack beside us: Faces to SEGS, its filter, Faces from SEGS, Restore Faces", impact))
    return [*tried, ("console", log)]
