"""A stand-in for gradio: components that remember what they were made with."""

from __future__ import annotations

from typing import Any


class Component:
    def __init__(self, *, label: str = "", value: Any = None, **arguments: Any) -> None:
        self.label = label
        self.value = value
        self.arguments = arguments


class Slider(Component): ...


class Dropdown(Component): ...


class Checkbox(Component): ...


class Textbox(Component): ...


class Image(Component): ...


class Row(Component):
    def __enter__(self) -> Row:
        return self

    def __exit__(self, *_: Any) -> None: ...
