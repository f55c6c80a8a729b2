"""Which names of other packages the code uses, read from its text, and which of them an installed version lacks.

    python -m tests.matrix.names        what this Python's packages lack, as JSON, and what their arrays, tensors and pictures can

Needs nothing but Python itself, so that it can ask any interpreter about the standard library.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("oldest.json")  # by `python -m tests.matrix FOLDER ... --record`
FOLDERS = ("gpen_core", "gpen_page", "gpen_webui", "nodes", "scripts")
FILES = ("__init__.py", "install.py", "preload.py", "quickstart.py")
PACKAGES = ("torch", "numpy", "cv2", "PIL", "safetensors", "tqdm", "filelock")
KINDS = ("torch.Tensor", "torch.nn.Module", "numpy.ndarray", "numpy.random.Generator", "PIL.Image.Image")


def files() -> list[Path]:
    """The project's code: what runs in a host."""
    return [ROOT / name for name in FILES] + sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def used(packages: Collection[str], paths: Collection[Path] | None = None) -> dict[str, str]:
    """Dotted names ("torch.nn.functional.conv2d"), and those with a keyword ("torch.load(weights_only)"): and a file that uses each."""
    found: dict[str, str] = {}
    for path in files() if paths is None else paths:
        for name in _Reader(packages).read(path):
            found.setdefault(name, path.relative_to(ROOT).as_posix())
    return found


def methods(paths: Collection[Path] | None = None) -> dict[str, str]:
    """Names after a dot, of anything: tensors' and arrays' methods are among them. And a file that uses each."""
    found: dict[str, str] = {}
    for path in files() if paths is None else paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                found.setdefault(node.attr, path.relative_to(ROOT).as_posix())
    return found


class _Reader(ast.NodeVisitor):
    """Collects the names in one file. Types are left out: nothing evaluates them."""

    def __init__(self, packages: Collection[str]) -> None:
        self.packages = packages
        self.bound: dict[str, str] = {}
        self.names: set[str] = set()

    def read(self, path: Path) -> set[str]:
        tree = ast.parse(path.read_text("utf-8"))
        for node in _running(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] in self.packages:
                        self.names.add(alias.name)
                        self.bound[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in self.packages:
                for alias in node.names:
                    self.names.add(f"{node.module}.{alias.name}")
                    self.bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        self.visit(tree)
        return self.names

    def visit(self, node: ast.AST) -> None:
        for child in _parts(node):
            if isinstance(child, ast.Attribute) and (name := self.dotted(child)):
                self.names.add(name)
            else:
                self.visit(child)
            if isinstance(child, ast.Call) and (name := self.dotted(child.func)):
                self.names |= {f"{name}({keyword.arg})" for keyword in child.keywords if keyword.arg}

    def dotted(self, node: ast.AST) -> str:
        """The name's full form if it belongs to one of the packages, else ''."""
        if isinstance(node, ast.Name):
            return self.bound.get(node.id, "")
        before = self.dotted(node.value) if isinstance(node, ast.Attribute) else ""
        return f"{before}.{node.attr}" if before and isinstance(node, ast.Attribute) else ""


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """A node's parts that are evaluated when the code runs."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        yield from node.orelse
        return
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns"):
            yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for part in _parts(node):
        yield from _running(part)


def absent(names: Collection[str] | None = None) -> set[str]:
    """Those of the names (all that the code uses) that the installed versions lack."""
    return {name for name in (used(PACKAGES) if names is None else names) if not exists(name)}


def exists(name: str) -> bool:
    """Whether the name is there; with a keyword, whether it takes that, as far as its signature or its documentation tells."""
    name, _, keyword = name.removesuffix(")").partition("(")
    try:
        value = _resolved(name)
    except (AttributeError, ImportError):
        return False
    return not keyword or _takes(value, keyword)


def _resolved(name: str) -> Any:
    first, *rest = name.split(".")
    value: Any = importlib.import_module(first)
    path = first
    for part in rest:
        path = f"{path}.{part}"
        if not hasattr(value, part) and inspect.ismodule(value):
            try:
                value = importlib.import_module(path)
                continue
            except ImportError:
                pass
        value = getattr(value, part)
    return value


def _takes(value: Any, keyword: str) -> bool:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):  # written in C: the documentation says it, if anything does
        text, name = value.__doc__ or "", re.escape(getattr(value, "__name__", "?"))
        takes_any = re.search(rf"\b{name}\([^)]*\*\*", text)
        return f"{name}(" not in text or takes_any is not None or re.search(rf"\b{re.escape(keyword)}\b", text) is not None
    return any(one.name == keyword or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def abilities() -> list[str]:
    """All that tensors, arrays and pictures can in the installed versions."""
    return sorted({name for kind in KINDS for name in dir(_resolved(kind)) if not name.startswith("_")})


if __name__ == "__main__":
    if sys.argv[1:] == ["stdlib"]:
        print(json.dumps(sorted(absent(used(sys.stdlib_module_names)))))
    else:
        print(json.dumps({"absent": sorted(absent()), "abilities": abilities()}))
