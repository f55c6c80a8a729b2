"""How the host executes every file of an extension's folder scripts/: the extension's root is on sys.path for just that long."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from . import errors, script_callbacks
from .scripts_postprocessing import ScriptPostprocessing

AlwaysVisible = object()


class Script:
    def title(self) -> str:
        raise NotImplementedError

    def show(self, is_img2img: bool) -> Any:
        return True

    def ui(self, is_img2img: bool) -> Any: ...


@dataclass
class ScriptClassData:
    script_class: type
    module: ModuleType


scripts_data: list[ScriptClassData] = []
postprocessing_scripts_data: list[ScriptClassData] = []


def load_scripts(root: Path, built_in: list[ScriptClassData], *others: Path) -> None:
    """At the start and at every Reload UI. built_in: the host's own scripts, made anew each time. others: more extensions."""
    scripts_data[:] = built_in
    postprocessing_scripts_data.clear()
    script_callbacks.registered.clear()
    before = list(sys.path)
    for path in (path for folder in (root, *others) for path in sorted((folder / "scripts").glob("*.py"))):
        try:
            sys.path.insert(0, str(path.parents[1]))
            spec = importlib.util.spec_from_file_location(path.name, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except Exception as error:
            errors.report(f"Error loading script: {path.name}: {error}")
            continue
        finally:
            sys.path[:] = before
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Script):
                scripts_data.append(ScriptClassData(value, module))
            elif isinstance(value, type) and issubclass(value, ScriptPostprocessing):
                postprocessing_scripts_data.append(ScriptClassData(value, module))
