"""Shared fixtures of the page's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpen_page.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
LITE = "GPEN-BFR-256-lite"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("GPEN_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory):
    return Engine(tmp_path_factory.mktemp("models"))


@pytest.fixture
def engine(shared_engine):
    return shared_engine


@pytest.fixture
def portrait():
    return ROOT / "examples" / "portrait.png"
