"""Mutants: small changes of a module's syntax tree, each of which some test should notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.MatMult: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change. first, last: its lines. in_function: False if it takes effect when the module is imported. what: the change in words."""

    file: Path
    first: int
    last: int
    in_function: bool
    what: str
    tree: ast.Module


@dataclass(frozen=True)
class _Place:
    """A node's place in the tree: parent.field or parent.field[index]."""

    parent: ast.AST
    field: str
    index: int | None


def mutants(file: Path) -> list[Mutant]:
    """Every mutant of a module, from first line to last."""
    return list(_made(file, _changes))


def option_cuts(file: Path, defaults: Mapping[str, Any]) -> list[Mutant]:
    """A mutant for every place where the module reads a setting (o.NAME, options.NAME, self.options.NAME): it reads the default instead."""

    def cut(node: ast.AST) -> Iterator[ast.AST]:
        reads = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in defaults
        if reads and ast.unparse(node.value) in ("o", "options", "self.options"):
            yield ast.Constant(defaults[node.attr])

    return list(_made(file, cut))


def _made(file: Path, changes: Any) -> Iterator[Mutant]:
    tree = ast.parse(file.read_text("utf-8"))
    for node, place, line, in_function in list(_walk(tree)):
        for other in changes(node):
            first = getattr(node, "lineno", line)
            last = getattr(node, "end_lineno", None) or first
            if isinstance(node, ast.stmt) and hasattr(node, "body"):
                last = first
            what = f"{_short(node)} -> {_short(other)}"
            yield Mutant(file, min(line, first), last, in_function, what, _replaced(tree, place, other))


def _replaced(tree: ast.Module, place: _Place, other: ast.AST) -> ast.Module:
    """A copy of the tree with `other` at that place."""
    field = getattr(place.parent, place.field)
    kept = field if place.index is None else field[place.index]
    _set(place, other)
    changed = copy.deepcopy(tree)
    _set(place, kept)
    return ast.fix_missing_locations(changed)


def _set(place: _Place, node: ast.AST) -> None:
    if place.index is None:
        setattr(place.parent, place.field, node)
    else:
        getattr(place.parent, place.field)[place.index] = node


def _walk(node: ast.AST, line: int = 1, in_function: bool = False) -> Iterator[tuple[ast.AST, _Place, int, bool]]:
    """Yields every node except those with no effect: annotations, docstrings, code for type checkers only."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_comment") or (field == "decorator_list"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_left_out(child):
                continue
            at = child.lineno if isinstance(child, ast.stmt) else line
            # Default arguments take effect when a function is defined, its body when it is called.
            inside = in_function or (field == "body" and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))
            yield child, _Place(node, field, index if isinstance(value, list) else None), at, inside
            yield from _walk(child, at, inside)


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            yield _with(node, ops=[*node.ops[:index], COMPARISONS[type(operator)](), *node.ops[index + 1 :]])
    elif isinstance(node, (ast.BinOp, ast.AugAssign)):
        yield _with(node, op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, (int, float)):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield _with(node, keywords=[*node.keywords[:index], *node.keywords[index + 1 :]])
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)) and isinstance(node.test, (ast.Name, ast.Call, ast.Attribute)):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)):
        yield ast.Pass()


def _with(node: Any, **changes: Any) -> ast.AST:
    made = copy.copy(node)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(node: ast.AST) -> str:
    if isinstance(node, (ast.If, ast.While)):
        return f"if {ast.unparse(node.test)}"
    if isinstance(node, ast.keyword):
        return f"{node.arg}=..."
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 90 else text[:87] + "..."
