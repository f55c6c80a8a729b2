"""What tests share: the folder of golden data and pictures beside the checkout, and the recipe that makes weights from seeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout. Tests that need it are skipped in a clone that has none."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the folder ../shared with golden data and pictures is not here")
    return folder


@pytest.fixture(scope="session")
def recipe(shared: Path) -> ModuleType:
    """golden/recipe.py: seed-made weights and inputs."""
    spec = importlib.util.spec_from_file_location("gpen_golden_recipe", shared / "golden" / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
