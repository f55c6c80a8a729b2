"""Imports run downwards and never in a circle, so that every room can be read without those above it."""

from __future__ import annotations

from pathlib import Path

from house import circles, drawing, imports_of, room

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "gpen_core"
# From the roof to the ground: a room imports only what stands below its own floor.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"batch"},
    {"video", "__init__"},
    {"restore"},
    {"steps", "faces", "network"},
    {"weights", "pictures", "task_options"},
    {"runtime", "options"},
    {"progress", "errors", "pixels", "presets", "replacing"},
)


def wrong(graph: dict[str, set[str]]) -> list[str]:
    """Imports that do not run downwards."""
    height = {name: -level for level, names in enumerate(FLOORS) for name in names}
    found = [(one, other) for one, imported in graph.items() for other in imported if room(one) != room(other)]
    return [f"{one} imports {other}" for one, other in found if height[room(one)] <= height[room(other)]]


def test_imports_run_down():
    assert wrong(imports_of(CORE)) == []


def test_no_file_imports_itself_round_a_corner():
    graph = imports_of(CORE)
    graph[""] = set()  # the public names are looked up when they are asked for
    assert circles(graph) == []


def test_a_wrong_import_would_be_noticed(tmp_path):
    for folder, text in (("weights", "from ..network.run import x\n"), ("network", "from .run import x\n")):
        (tmp_path / "core" / folder).mkdir(parents=True)
        (tmp_path / "core" / folder / "__init__.py").write_text("")
        (tmp_path / "core" / folder / "load.py").write_text(text)
    (tmp_path / "core" / "network" / "run.py").write_text("def f():\n    from core.network import load\n")
    graph = imports_of(tmp_path / "core")
    assert wrong(graph) == ["weights.load imports network.run"]
    assert circles(graph) == [["network.load", "network.run"]]
    assert drawing(tmp_path / "core").count("<rect") == 3
