"""Helpers for the command-line tests: a picture, a run in process, restorers without weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.cli import main as cli


def picture(path: Path, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, {"RGB": (10, 20, 30), "CMYK": (0, 9, 9, 0)}[mode]).save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Runs the command. Returns (exit code, standard output, standard error)."""
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def stub_restorers(monkeypatch: pytest.MonkeyPatch) -> list[StubRestorer]:
    """A list that collects the restorers as they are made. The real module is not even imported."""
    restorers: list[StubRestorer] = []

    def make(*arguments, **settings):
        restorers.append(StubRestorer(*arguments, **settings))
        return restorers[-1]

    monkeypatch.setitem(sys.modules, "gpen_core.restore.restorer", SimpleNamespace(FaceRestorer=make))
    return restorers
