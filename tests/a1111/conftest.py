"""The stand-in host of tests/a1111/standin with this extension loaded into it, as the WebUI loads one."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
STANDIN = Path(__file__).parent / "standin"
OURS = ("modules", "modules_forge", "gradio", "gpen_webui")


class AxisOption:
    """Like the class of the host's X/Y/Z plot."""

    def __init__(self, label: str, type: type, apply: Any, confirm: Any = None, cost: float = 0.0, choices: Any = None) -> None:
        self.label, self.type, self.apply, self.confirm, self.cost, self.choices = label, type, apply, confirm, cost, choices


class Host:
    """The stand-in's modules by name, and what a host does with an extension."""

    def __init__(self, models: Path) -> None:
        self.module("paths").models_path = str(models)
        self.models = models
        self.reload_ui()

    def module(self, name: str) -> Any:
        return importlib.import_module(f"modules.{name}")

    def ours(self, name: str) -> Any:
        return importlib.import_module(f"gpen_webui.{name}")

    def reload_ui(self) -> None:
        """The button Reload UI; also the first start."""
        self.plot: Any = ModuleType("xyz_grid.py")
        self.plot.axis_options, self.plot.AxisOption = [AxisOption("Nothing", str, None)], AxisOption
        scripts = self.module("scripts")
        scripts.load_scripts(ROOT, [scripts.ScriptClassData(scripts.Script, self.plot)])
        self.module("script_callbacks").run("before_ui")

    @property
    def opts(self) -> Any:
        return self.module("shared").opts

    @property
    def state(self) -> Any:
        return self.module("shared").state

    @property
    def reported(self) -> list[str]:
        return self.module("errors").reported

    def restore_faces(self, picture: Any) -> Any:
        return self.module("face_restoration").restore_faces(picture)

    def extras(self, name: str = "GpenExtras") -> Any:
        """An Extras script, created as the host does it."""
        (data,) = [data for data in self.module("scripts").postprocessing_scripts_data if data.script_class.__name__ == name]
        return data.script_class()

    def infotext(self) -> Any:
        (data,) = [data for data in self.module("scripts").scripts_data if data.module is not self.plot]
        return data.script_class()


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A fresh host with only the embedded weights, offline."""
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(STANDIN))
    _forget()
    yield Host(tmp_path / "models")
    _forget()


@pytest.fixture
def sdnext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A fresh host like SD.Next of July 2026: without face restorers, errors.report and get_device_for."""
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    standin = shutil.copytree(STANDIN, tmp_path / "sdnext")
    (standin / "modules" / "face_restoration.py").unlink()
    monkeypatch.syspath_prepend(str(standin))
    _forget()
    modules = {name: importlib.import_module(f"modules.{name}") for name in ("devices", "errors", "shared")}
    del modules["devices"].get_device_for, modules["shared"].face_restorers, modules["errors"].report
    modules["devices"].device = modules["devices"].cpu
    modules["shared"].opts.data_labels.clear()
    modules["shared"].opts.data.clear()
    modules["shared"].cmd_opts = SimpleNamespace(api_auth=None, auth=None, auth_file=None)
    yield Host(tmp_path / "models")
    _forget()


@pytest.fixture(scope="session")
def portrait() -> Any:
    """(160, 160, 3) uint8: small, so that the tests are quick; the face is still found."""
    with Image.open(ROOT / "examples" / "portrait.png") as picture:
        return np.asarray(picture.convert("RGB").resize((160, 160), Image.Resampling.LANCZOS))
