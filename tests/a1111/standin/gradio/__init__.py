"""A stand-in for gradio: components that remember what they were made with."""

from __future__ import annotations

from typing import Any

from .context import Context


class Component:
    def __init__(self, *, label: str = "", value: Any = None, **arguments: Any) -> None:
        self.label = label
        self.value = value
        self.arguments = arguments
        self.parent = Context.block  # what it was made in


class Slider(Component): ...


class Dropdown(Component): ...


class Checkbox(Component): ...


class Textbox(Component): ...


class Image(Component): ...


class Block(Component):
    """What holds others."""

    def __init__(self, label: str = "", **arguments: Any) -> None:
        super().__init__(label=label, **arguments)

    def __enter__(self) -> Block:
        Context.block = self
        return self

    def __exit__(self, *_: Any) -> None:
        Context.block = self.parent


class Row(Block): ...


class Accordion(Block): ...
