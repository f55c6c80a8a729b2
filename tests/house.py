"""Draws a package's structure, "the house": which files import which, and its rooms (top-level folders and files).

`python tests/house.py gpen_core plan.svg` writes the drawing.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

Imports = dict[str, set[str]]  # a module's dotted name within the package -> the modules it imports


def imports_of(package: Path) -> Imports:
    """Every module of a package and the modules of that package it imports, anywhere in the file."""
    files = {_name(package, path): path for path in sorted(package.rglob("*.py"))}
    return {name: _imported(name, path, files, package.name) - {name} for name, path in files.items()}


def _name(package: Path, path: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(name: str, path: Path, files: dict[str, Path], package: str) -> set[str]:
    here = name.split(".") if name else []
    if path.name != "__init__.py":
        here = here[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            start = here[: len(here) - node.level + 1]
        elif node.module == package or (node.module or "").startswith(package + "."):
            start = []
        else:
            continue
        module = ".".join([*start, *((node.module or "").split(".") if node.module else [])]).removeprefix(package + ".")
        for alias in node.names:
            below = f"{module}.{alias.name}" if module else alias.name
            found.add(below if below in files else module)
    return found & set(files)


def room(module: str) -> str:
    """The folder or file of the package that a module belongs to."""
    return module.split(".")[0] or "__init__"


def circles(graph: Imports) -> list[list[str]]:
    """Groups of modules with circular imports."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(start: str, edges: Imports, into: list[str]) -> None:
        seen.add(start)
        for after in sorted(edges[start]):
            if after not in seen:
                visit(after, edges, into)
        into.append(start)

    for module in graph:
        if module not in seen:
            visit(module, graph, order)
    backwards: Imports = {module: set() for module in graph}
    for module, imported in graph.items():
        for one in imported:
            backwards[one].add(module)
    seen.clear()
    groups: list[list[str]] = []
    for module in reversed(order):
        if module not in seen:
            groups.append([])
            visit(module, backwards, groups[-1])
    return sorted(sorted(group) for group in groups if len(group) > 1)


def drawing(package: Path) -> str:
    """An SVG with a box for each room, above all the rooms it imports; arrows that point up are red."""
    graph = imports_of(package)
    lines: dict[str, int] = defaultdict(int)
    inside: dict[str, list[str]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        name = _name(package, path)
        count = len(path.read_text(encoding="utf-8").splitlines())
        lines[room(name)] += count
        inside[room(name)].append(f"{path.name} {count}")
    arrows: dict[tuple[str, str], int] = defaultdict(int)
    for module, imported in graph.items():
        for one in imported:
            if room(one) != room(module):
                arrows[room(module), room(one)] += 1
    floors = _floors(list(lines), arrows)
    ringed = {room(module) for ring in circles(graph) for module in ring}

    gap, row, width = 14, 96, 1500
    places: dict[str, tuple[float, float, float]] = {}  # left, top, width
    for level in range(max(floors.values()), -1, -1):
        here = sorted((name for name in lines if floors[name] == level), key=lambda name: -lines[name])
        wanted = [max(104.0, 34 * lines[name] ** 0.4) for name in here]
        fit = min(1.0, (width - gap * (len(here) + 1)) / sum(wanted))
        left = (width - sum(wanted) * fit - gap * (len(here) - 1)) / 2
        for name, wide in zip(here, wanted, strict=True):
            places[name] = (left, 60.0 + (max(floors.values()) - level) * row, wide * fit)
            left += wide * fit + gap
    parts = [
        f'<text x="{gap}" y="30" font-size="20">{package.name}: {sum(lines.values()):,} lines, {len(lines)} rooms, '
        f"{len(arrows)} arrows, {sum(floors[a] <= floors[b] for a, b in arrows)} of them up, "
        f"{len(circles(graph))} circles of files</text>"
    ]
    for (start, end), count in sorted(arrows.items()):
        x1, y1 = places[start][0] + places[start][2] / 2, places[start][1] + 52
        x2, y2 = places[end][0] + places[end][2] / 2, places[end][1]
        up = floors[start] <= floors[end]
        bend = (y2 - y1) / 2
        parts.append(
            f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}" fill="none" '
            f'stroke="{"#c22" if up else "#9ab"}" stroke-width="{min(4.0, 0.8 + count / 6):.1f}" marker-end="url(#head)"/>'
        )
    for name, (left, top, wide) in places.items():
        folder = (package / name).is_dir()
        parts.append(
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{wide:.0f}" height="52" rx="3" fill="{"#dbe7f3" if folder else "#f3f6fa"}" '
            f'stroke="{"#e07020" if name in ringed else "#345"}"><title>{", ".join(inside[name])}</title></rect>'
            f'<text x="{left + 6:.0f}" y="{top + 21:.0f}" font-size="{min(15.0, 1.65 * wide / (len(name) + 1)):.1f}" '
            f'font-weight="bold">{name}{"/" if folder else ""}</text>'
            f'<text x="{left + 6:.0f}" y="{top + 41:.0f}" font-size="12" fill="#567">{lines[name]:,} lines</text>'
        )
    height = 60 + (max(floors.values()) + 1) * row
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" fill="#123">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#789"/></marker></defs>'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _floors(rooms: list[str], arrows: dict[tuple[str, str], int]) -> dict[str, int]:
    """Each room's floor: one above the highest room it imports. Circular imports have no such order, so they are cut."""
    floors: dict[str, int] = {}

    def height(name: str, above: tuple[str, ...] = ()) -> int:
        if name not in floors:
            below = [end for start, end in arrows if start == name and end not in (*above, name)]
            found = 1 + max((height(end, (*above, name)) for end in below), default=-1)
            if above:
                return found
            floors[name] = found
        return floors[name]

    for name in sorted(rooms):
        height(name)
    return floors


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(drawing(Path(sys.argv[1])), encoding="utf-8")
