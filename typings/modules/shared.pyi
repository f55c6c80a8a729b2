from argparse import Namespace
from collections.abc import Callable
from typing import Any

from gradio.components import Component
from modules.face_restoration import FaceRestoration

class OptionInfo:
    comment_after: str
    infotext: str | None  # 1.6 and later
    category_id: str | None  # 1.7 and later
    def __init__(
        self,
        default: Any = ...,
        label: str = ...,
        component: type[Component] | None = ...,
        component_args: dict[str, Any] | Callable[[], dict[str, Any]] | None = ...,
        onchange: Callable[..., None] | None = ...,
        section: tuple[str, str] | None = ...,
        refresh: Callable[[], object] | None = ...,
    ) -> None: ...

class Options:
    data: dict[str, Any]
    data_labels: dict[str, OptionInfo]
    face_restoration_model: str | None
    def add_option(self, key: str, info: OptionInfo) -> None: ...

class State:
    textinfo: str | None
    interrupted: bool
    skipped: bool
    def begin(self, job: str = ...) -> None: ...
    def end(self) -> None: ...

cmd_opts: Namespace
face_restorers: list[FaceRestoration]
opts: Options
state: State
