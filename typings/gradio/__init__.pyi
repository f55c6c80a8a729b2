# 3.32 (WebUI 1.5) to 4.40 (Forge): components are made with keywords of their own, which differ between the two.
from types import TracebackType
from typing import Any, Self

from .components import Checkbox as Checkbox
from .components import Dropdown as Dropdown
from .components import Image as Image
from .components import Slider as Slider
from .components import Textbox as Textbox

class Block:
    parent: Block | None
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None: ...

class Accordion(Block):
    label: str | None
    def __init__(self, label: str, *, open: bool = ...) -> None: ...

class Row(Block):
    def __init__(self, **arguments: Any) -> None: ...
