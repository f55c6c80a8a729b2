"""What tests share: golden data, the recipe that makes weights from seeds, pictures of people."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SOLVAY = ROOT.parent / "shared" / "data" / "Solvay_conference_1927.png"


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """tests/golden: what the official code made of the recipe's weights and inputs."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def recipe(golden_folder: Path) -> ModuleType:
    """golden/recipe.py: seed-made weights and inputs."""
    spec = importlib.util.spec_from_file_location("gpen_golden_recipe", golden_folder / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout, with pictures of people that are not part of this project: without it, tests skip."""
    if not SOLVAY.is_file():
        pytest.skip("needs ../shared/data: the Solvay photograph, portraits and YuNet's file are not part of this project")
    return SOLVAY.parents[1]
