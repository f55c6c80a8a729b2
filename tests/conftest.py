"""Shared fixtures: golden data, the recipe that makes weights from seeds, pictures of many people."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

try:
    import hypothesis
except ImportError:  # a bare interpreter of test_pythons.py
    hypothesis = None

if TYPE_CHECKING:
    from emulated_card import Card
    from group_picture import Group, Pixels

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PEOPLE = ROOT.parent / "shared" / "data"  # pictures of people that are not part of this project
if hypothesis is not None:  # otherwise a test fails that takes 0.2 s once, on a busy machine
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """tests/golden: the official code's results for the recipe's weights and inputs."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def recipe(golden_folder: Path) -> ModuleType:
    """golden/recipe.py: weights and inputs made from seeds."""
    spec = importlib.util.spec_from_file_location("gpen_golden_recipe", golden_folder / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def people() -> Path:
    """The folder of pictures next to the checkout. Every test that uses it has a twin without it: docs/testing.md."""
    if not PEOPLE.is_dir():
        pytest.skip("needs ../shared/data, pictures that are not part of this project; this test's twin needs none")
    return PEOPLE


@pytest.fixture(scope="session")
def group() -> Group:
    """29 people, composed from the example portrait."""
    from group_picture import composed

    return composed()


@pytest.fixture(scope="session", params=["composed", "photograph"])
def crowd(request: pytest.FixtureRequest) -> Pixels:
    """29 people: composed, and in a photograph of 1927 if available."""
    if request.param == "composed":
        return request.getfixturevalue("group").pixels
    from gpen_core.pictures import read_picture

    return read_picture(request.getfixturevalue("people") / "Solvay_conference_1927.png").pixels


@pytest.fixture
def card() -> Iterator[Card]:
    """A graphics card made of the processor, with its counts at zero: emulated_card.py. Device "emulated"."""
    import emulated_card

    emulated = emulated_card.card()
    if emulated.alive:
        gc.collect()
    emulated.reset()
    yield emulated
    emulated.reset()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many faces a network takes at once, on processors as well."""
    from gpen_core.network import run

    return lambda count: monkeypatch.setattr(run, "batch_size", lambda network: count)
