"""Shared fixtures of the ComfyUI tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import host
from comfy_server import ComfyServer


@pytest.fixture(scope="session")
def comfy_python() -> Path:
    return host.environment()


@pytest.fixture(scope="session")
def server(comfy_python, tmp_path_factory):
    """A running ComfyUI with the pack and one input picture, whose name no shipped workflow uses."""
    base = tmp_path_factory.mktemp("comfy base ä")
    (base / "input").mkdir()
    (base / "input" / "mine.png").write_bytes((host.ROOT / "examples" / "portrait.png").read_bytes())
    (base / "models" / "GPEN").mkdir(parents=True)
    mine = base / "weights of mine" / "gpen"
    mine.mkdir(parents=True)
    # JSON is YAML: no quoting to get wrong, on Windows neither.
    paths = base / "extra_model_paths.yaml"
    paths.write_text(json.dumps({"mine": {"base_path": str(mine.parent), "GPEN": "gpen"}}), encoding="utf-8")
    (base / "user" / "default").mkdir(parents=True)
    (base / "user" / "default" / "comfy.settings.json").write_text('{"Comfy.TutorialCompleted": true}', encoding="utf-8")
    environ = {**host.ENVIRON, "OMP_NUM_THREADS": "2"}
    arguments = ["--extra-model-paths-config", str(paths)]
    with ComfyServer(host.COMFY, comfy_python, base, [host.ROOT], environ, arguments) as running:
        yield running
